// Renews the session before it must be, in pages that stay open. Served without these comments.
//
// The gateway's clock counts, never this one: it says how many seconds are left, and a timer waits
// as long. Of all tabs one asks at a time, and tells the others what it heard.
(() => {
  if (window.evergate || !window.BroadcastChannel) return;
  const base = "GATEWAY_PATH/";
  const ask = fetch.bind(window);
  const channel = new BroadcastChannel(base);
  // Only in secure contexts. Without it two tabs may ask at once; the gateway still refreshes once.
  const { locks } = navigator;
  let timer, active, news = 0;

  const later = seconds => {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.min(seconds, 86400) * 1000);
  };

  // What the gateway said, to this tab or to another one.
  const heard = session => {
    const { refresh_in: wait, access_expires_in: left } = session;
    const name = active && !session.active ? "logout" : "session";
    news++;
    clearTimeout(timer);
    active = session.active;
    // Spread over a tenth of the window, so that not all browsers ask in the same second.
    if (active && wait != null) later(wait + Math.random() * (left - wait) / 10);
    dispatchEvent(new CustomEvent("evergate:" + name, { detail: session }));
    return session;
  };

  const call = async (name, method) => {
    const answer = await ask(base + name, { method, headers: { "X-Evergate": "1" } });
    const { status } = answer;
    if (![200, 401, 409].includes(status)) throw +answer.headers.get("Retry-After") || 60;
    const session = status == 200 ? await answer.json() : { active: false };
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
    await (locks ? locks.request(base, turn) : turn());
    return active;
  };
  const look = () => attempt("session");

  channel.onmessage = e => heard(e.data);
  // Timers stand still while a computer sleeps.
  const wake = () => document.hidden || look();
  addEventListener("visibilitychange", wake);
  addEventListener("pageshow", e => e.persisted && wake());

  window.fetch = async (input, init) => {
    const again = input instanceof Request ? input.clone() : input;
    const answer = await ask(input, init);
    // Without a hint, or if nobody is logged in, there is nothing to try.
    const hint = answer.status == 401 && answer.headers.get("X-Evergate-Refresh");
    return hint && active !== false && await refresh() ? ask(again, init) : answer;
  };

  window.evergate = { refresh, session: look };
  look();
})();
