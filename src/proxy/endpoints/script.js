// Renews the session before it must be, in pages that stay open. Served without these comments.
//
// The gateway's clock counts, never this one: it says how many seconds are left, and a timer waits
// as long. This one only shows by a leap that the computer slept. Of all tabs one asks at a time, and tells the others what it heard.
(() => {
  if (window.evergate || !window.BroadcastChannel) return;
  const base = "GATEWAY_PATH/";
  const ask = fetch;
  const channel = new BroadcastChannel(base);
  let timer, active, news = 0, seen = Date.now();

  const later = seconds => {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.min(seconds, 86400) * 1000);
  };

  // What the gateway said, to this tab or to another one.
  const heard = session => {
    const { refresh_in: wait, access_expires_in: left } = session;
    const was = active;
    news++;
    clearTimeout(timer);
    active = session.active;
    // Spread over a tenth of the window, so that not all browsers ask in the same second.
    if (active && wait != null) later(wait + Math.random() * (left - wait) / 10);
    const name = was && !active ? "logout" : "session";
    dispatchEvent(new CustomEvent("evergate:" + name, { detail: session }));
    return session;
  };

  const call = async (name, method) => {
    const answer = await ask(base + name, { method, headers: { "X-Evergate": "1" } });
    if (![200, 401, 409].includes(answer.status)) throw +answer.headers.get("Retry-After") || 60;
    const session = answer.ok ? await answer.json() : { active: false };
    channel.postMessage(session);
    return heard(session);
  };
  // What cannot be told now is asked again later; nobody is logged out for it.
  const attempt = (name, method) =>
    call(name, method).catch(e => later((e > 0 ? e : 5) * (1 + Math.random())));

  const refresh = async () => {
    const before = news;
    // Whoever had to wait for its turn may have heard meanwhile.
    const turn = () => news == before && attempt("refresh", "POST");
    // Locks are in secure contexts only. Without, two tabs may ask at once; it is refreshed once.
    await (navigator.locks?.request(base, turn) ?? turn());
    return active;
  };
  const look = () => attempt("session");

  channel.onmessage = e => heard(e.data);
  // Timers stand still while a computer sleeps.
  const wake = () => document.hidden || look();
  setInterval(() => seen + 6e4 < (seen = Date.now()) && wake(), 2e4);
  addEventListener("visibilitychange", wake);
  addEventListener("pageshow", e => e.persisted && wake());

  window.fetch = async (input, init) => {
    const again = input instanceof Request ? input.clone() : input;
    const answer = await ask(input, init);
    // Without a hint, or if nobody is logged in, there is nothing to try.
    return answer.status == 401 && answer.headers.has("X-Evergate-Refresh")
      && active !== false && await refresh() ? ask(again, init) : answer;
  };

  window.evergate = { refresh, session: look };
  look();
})();
