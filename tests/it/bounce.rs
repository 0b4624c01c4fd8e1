//! Carrier `path`: the browser shows its refresh token at the gateway's refresh path only, and is sent
//! there and back when a page needs it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::sleep;

use super::support::backend::{Counts, Pair};
use super::support::*;

const REFRESH: &str = "/_evergate/refresh";
const LOGOUT: &str = "/_evergate/logout";
const SCOPED: &str = "__Secure-refresh";
const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };
const KEY: &str = "0123456789abcdef0123456789abcdef";
const NO_GRANT: Counts = Counts { grants: 0, reuses: 0, unknown: 0 };

async fn world() -> World {
    with("").await
}

/// With more at the top of the file.
async fn with(keys: &str) -> World {
    let yaml = STANDARD
        .replace("s3cret }", "s3cret, carrier: path, revocation_url: \"http://BACKEND/revoke\" }");
    World::with(&format!("{keys}\n{yaml}")).await
}

fn expired(world: &World) -> Pair {
    world.backend.login("alice", Token::expired)
}

/// What a browser shows anywhere but at the refresh path.
fn page(target: &str, pair: &Pair) -> Ask {
    get(target).navigation().access(&pair.access)
}

/// What it shows there.
fn at_refresh(ask: Ask, pair: &Pair) -> Ask {
    let (access, refresh) = (&pair.access, &pair.refresh);
    ask.header("Cookie", &format!("__Host-access={access}; {SCOPED}={refresh}"))
}

fn location(reply: &Reply) -> &str {
    match reply.head.all("location")[..] {
        [location] => location,
        _ => panic!("one location: {:?}", reply.headers()),
    }
}

/// The status, where it leads, and the names of the cookies that are set (`-` before those taken away).
fn told(reply: &Reply) -> (u16, &str, Vec<String>) {
    let cookies = reply.cookies().into_iter();
    let cookies = cookies.map(|(name, it)| if it.clears() { format!("-{name}") } else { name });
    (reply.status, location(reply), cookies.collect())
}

/// Sends somebody's request for a page, and then to the refresh path.
async fn bounced(world: &World, target: &str, pair: &Pair) -> Reply {
    let away = page(target, pair).send(world.gateway.address).await;
    assert_eq!(away.status, 307, "{}", away.text());
    at_refresh(get(location(&away)).navigation(), pair).send(world.gateway.address).await
}

/// A browser that knows paths: what cookies it keeps, by name with their path.
struct Visitor {
    world: World,
    jar: BTreeMap<String, (String, String)>,
    /// It drops every cookie whose name begins so.
    drops: &'static str,
}

impl Visitor {
    async fn new(world: World) -> Visitor {
        Visitor { world, jar: BTreeMap::new(), drops: "none" }
    }

    fn with(world: World, pair: &Pair) -> Visitor {
        let cookie = |value: &str, path: &str| (value.to_string(), path.to_string());
        let jar = BTreeMap::from([
            ("__Host-access".to_string(), cookie(&pair.access, "/")),
            (SCOPED.to_string(), cookie(&pair.refresh, REFRESH)),
        ]);
        Visitor { world, jar, drops: "none" }
    }

    async fn send(&mut self, target: &str, ask: Ask) -> Reply {
        let path = target.split('?').next().unwrap_or_default();
        let sent = self.jar.iter().filter(|(_, (_, at))| at == "/" || at == path);
        let pairs: Vec<String> = sent.map(|(name, (value, _))| format!("{name}={value}")).collect();
        let reply = ask.header("Cookie", &pairs.join("; ")).send(self.world.gateway.address).await;
        for (name, cookie) in reply.cookies() {
            let path = cookie.attributes.iter().find_map(|it| it.strip_prefix("Path="));
            let path = path.expect("a path").to_string();
            if cookie.clears() {
                self.jar.remove(&name);
            } else if !name.starts_with(self.drops) {
                self.jar.insert(name, (cookie.value, path));
            }
        }
        reply
    }

    /// Opens a page and follows where it leads, on this gateway; how often it was led on.
    async fn open(&mut self, target: &str) -> (usize, Reply) {
        let mut target = target.to_string();
        for led in 0..20 {
            let reply = self.send(&target, get(&target).navigation()).await;
            if ![302, 303, 307].contains(&reply.status) || location(&reply).contains("/auth/login")
            {
                return (led, reply);
            }
            target = location(&reply).to_string();
        }
        panic!("led on for ever: {target}");
    }

    /// Sends a form and follows a 307 as browsers do: with the same method.
    async fn submit(&mut self, target: &str) -> Reply {
        let mut target = target.to_string();
        loop {
            let form = post(&target, "").header("Accept", "text/html");
            let form =
                form.header("Sec-Fetch-Mode", "navigate").header("Sec-Fetch-Site", "same-origin");
            let reply = self.send(&target, form).await;
            match reply.status {
                307 => target = location(&reply).to_string(),
                _ => return reply,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_the_refresh_token_a_cookie_with_a_path_of_its_own() {
    let world = world().await;
    let form = post("/auth/login", "user=alice").navigation();
    let form = form.header("Content-Type", "application/x-www-form-urlencoded");

    let mut cookies = form.send(world.gateway.address).await.cookies();

    let access = cookies.remove("__Host-access").expect("an access cookie").attributes;
    let refresh = cookies.remove(SCOPED).expect("a refresh cookie").attributes;
    // As long as the backend's refresh token: without it a request could not tell that somebody was here.
    let life = "Max-Age=3600";
    assert_eq!(access, set(["Path=/", "Secure", "HttpOnly", "SameSite=Lax", life]));
    let path = "Path=/_evergate/refresh";
    assert_eq!(refresh, set([path, "Secure", "HttpOnly", "SameSite=Lax", life]));
    // The browser did not say in how many parts it holds an older one.
    assert!(!cookies.remove("__Host-bounced").expect("what was given").clears());
    cookies.remove("theme").expect("the backend's own cookie");
    let names: Vec<&str> = cookies.keys().map(String::as_str).collect();
    assert_eq!(names, [0, 1, 2, 3].map(|part| format!("{SCOPED}.{part}")));
    assert!(cookies.values().all(|cookie| cookie.clears() && cookie.attributes.contains(path)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_opened_by_way_of_the_refresh_path_and_nobody_notices() {
    let world = world().await;
    let pair = expired(&world);
    let mut visitor = Visitor::with(world, &pair);

    let away = visitor.send("/page", get("/page?x=1&y=%2F").navigation()).await;
    let (status, to, cookies) = told(&away);
    assert_eq!((status, cookies.len()), (307, 0));
    assert!(to.starts_with("/_evergate/refresh?to=") && !to.contains("page"), "{to}");
    let back = visitor.send(to, get(to).navigation()).await;
    let set = ["__Host-access", "__Host-bounced", SCOPED].map(str::to_string).to_vec();
    assert_eq!(told(&back), (307, "/page?x=1&y=%2F", set));
    let there = visitor.send("/page", get("/page?x=1&y=%2F").navigation()).await;

    assert_eq!((there.status, there.cookies().len()), (200, 0));
    assert_eq!([&away, &back].map(|reply| reply.head.all("cache-control")), [["no-store"]; 2]);
    assert_eq!(visitor.world.backend.counts(), ONE_GRANT);
    let seen = visitor.world.upstream.record.all();
    assert_eq!(
        seen.iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(),
        ["/page?x=1&y=%2F"]
    );
    assert_eq!(seen[0].head.get("cookie"), None, "the app sees none of it");
    let again = visitor.open("/page").await;
    assert_eq!((again.0, again.1.status), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_and_forms_are_told_and_event_streams_are_sent() {
    let world = world().await;
    let pair = expired(&world);
    let ask = |ask: Ask| ask.access(&pair.access).send(world.gateway.address);
    let hint = |reply: &Reply| reply.head.get("x-evergate-refresh").map(str::to_string);
    let hinted = Some(REFRESH.to_string());

    let fetched = ask(get("/page").fetch()).await;
    let posted = ask(post("/page", "x=1").fetch()).await;
    let form = ask(post("/page", "x=1").navigation()).await;
    let socket = ask(get("/ws").websocket()).await;
    let stream = ask(get("/events").event_stream()).await;

    for reply in [&fetched, &posted] {
        assert_eq!(
            (reply.status, reply.reason(), hint(reply)),
            (401, "expired".into(), hinted.clone())
        );
    }
    assert_eq!((form.status, hint(&form)), (401, hinted));
    assert!(
        form.text().contains("<a href=\"/_evergate/refresh\" target=\"_blank\""),
        "{}",
        form.text()
    );
    assert_eq!((socket.status, hint(&socket)), (401, None));
    assert_eq!(stream.status, 307);
    let to = location(&stream).to_string();
    let back = at_refresh(get(&to).event_stream(), &pair).send(world.gateway.address).await;
    assert_eq!((back.status, location(&back)), (307, "/events"));
    assert_eq!((world.backend.counts(), world.upstream.record.count()), (ONE_GRANT, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sent_a_form_renews_in_a_new_tab_and_sends_it_again() {
    let world = world().await;
    let pair = expired(&world);
    let mut visitor = Visitor::with(world, &pair);
    let first = visitor.submit("/form").await;

    let renewed = visitor.send(REFRESH, get(REFRESH).navigation()).await;
    let again = visitor.submit("/form").await;

    assert_eq!([first.status, renewed.status, again.status], [401, 200, 200]);
    assert!(renewed.text().contains("Your session is renewed"));
    assert_eq!(visitor.world.upstream.record.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_its_window_passes_and_nothing_refreshes_alongside() {
    let world = world().await;
    let pair = world.backend.login("alice", Token::in_window);

    let reply = page("/page", &pair).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.cookies().len()), (200, 0));
    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_cookie_shown_to_a_page_is_not_used_and_not_passed_on() {
    let world = world().await;
    let pair = expired(&world);

    let required = at_refresh(get("/page").fetch(), &pair).send(world.gateway.address).await;
    let public = at_refresh(get("/static/x").fetch(), &pair).send(world.gateway.address).await;

    assert_eq!((required.status, public.status), (401, 200));
    assert_eq!(world.upstream.record.last().head.get("cookie"), None);
    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_never_here_is_led_to_the_login_and_passes_where_anybody_may() {
    let world = world().await;
    let mut visitor = Visitor::new(world).await;

    let (led, reply) = visitor.open("/page?x=1").await;
    let (anonymous, optional) = visitor.open("/optional/x").await;

    assert_eq!(
        (led, reply.status, location(&reply)),
        (1, 302, "/auth/login?return_to=%2Fpage%3Fx%3D1")
    );
    assert_eq!((anonymous, optional.status), (0, 200));
    for _ in 0..5 {
        assert_eq!(visitor.open("/page").await.1.status, 302, "who looks around is in no loop");
    }
    assert_eq!(visitor.world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_cookie_alone_brings_the_session_back() {
    let world = world().await;
    let pair = expired(&world);
    let mut visitor = Visitor::with(world, &pair);
    visitor.jar.remove("__Host-access");

    let (led, reply) = visitor.open("/page").await;

    assert_eq!((led, reply.status), (2, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tabs_at_once_make_one_grant() {
    let world = world().await;
    let pair = expired(&world);
    world.backend.fail_once(Fault::Delay(Duration::from_millis(100)));

    let tabs = join_all((0..10).map(|_| bounced(&world, "/page", &pair))).await;

    assert!(tabs.iter().all(|reply| (reply.status, location(reply)) == (307, "/page")));
    let pairs: Vec<_> = tabs.iter().map(|tab| tab.cookies().remove(SCOPED)).collect();
    assert!(pairs.iter().all(|pair| pair.is_some() && *pair == pairs[0]));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_leads_back_for_a_minute_and_nowhere_else_ever() {
    let world = world().await;
    let pair = expired(&world);
    let away = page("/page", &pair).send(world.gateway.address).await;
    let sealed = location(&away).to_string();
    let visit = |target: String, host| at_refresh(get(&target).navigation().host(host), &pair);
    let led = async |target: String, host| {
        let reply = visit(target, host).send(world.gateway.address).await;
        (reply.status, location(&reply).to_string(), reply.cookies().len())
    };
    let root = (307, "/".to_string(), 0);

    for forged in ["https://evil.test/", "//evil.test", "/page", "", "%2Fpage", &sealed[30..]] {
        assert_eq!(led(format!("{REFRESH}?to={forged}"), "app.test").await, root, "{forged}");
    }
    assert_eq!(led(sealed.clone(), "other.test").await, root, "sealed for another host");
    assert_eq!(led(format!("{sealed}A"), "app.test").await, root);
    world.skip(Duration::from_secs(61));
    assert_eq!(led(sealed, "app.test").await, root);
    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_ahead_at_the_refresh_path_and_no_program_comes_by() {
    let world = world().await;
    let pair = expired(&world);
    let away = page("/page", &pair).send(world.gateway.address).await;
    let at = |ask: Ask| at_refresh(ask, &pair).send(world.gateway.address);

    for (name, value) in
        [("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")]
    {
        let reply = at(get(location(&away)).navigation().header(name, value)).await;
        assert_eq!(
            (reply.status, reply.head.all("cache-control")),
            (503, vec!["no-store"]),
            "{name}"
        );
    }
    let fetched = at(get(location(&away)).fetch()).await;
    let image = at(get(location(&away)).header("Accept", "image/*")).await;

    assert_eq!([fetched.status, image.status], [405, 405]);
    assert_eq!(fetched.head.all("allow"), ["POST"]);
    assert_eq!(world.backend.counts(), NO_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_carrier_nobody_is_sent_anywhere() {
    let world = World::start().await;
    let pair = expired(&world);

    let away = page("/page", &pair).send(world.gateway.address).await;
    let there = at_refresh(get(REFRESH).navigation(), &pair).send(world.gateway.address).await;

    assert_eq!((away.status, location(&away)), (302, "/auth/login?return_to=%2Fpage"));
    assert_eq!((there.status, there.head.all("allow")), (405, vec!["POST"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_session_is_over_a_page_leads_to_the_login_without_another_round() {
    let world = world().await;
    let pair = expired(&world);
    world.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });
    let mut visitor = Visitor::with(world, &pair);

    let login = "/auth/login?return_to=%2Fpage";
    let (first, reply) = visitor.open("/page").await;
    assert_eq!((first, reply.status, location(&reply)), (1, 302, login));
    let (second, reply) = visitor.open("/page").await;
    assert_eq!(
        (second, reply.status, location(&reply)),
        (0, 302, login),
        "it is known to be in vain"
    );
    assert_eq!(visitor.jar["__Host-access"].0, pair.access, "nothing is cleared for it");
    assert_eq!(visitor.world.backend.token_calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_session_is_over_an_optional_page_is_served_to_nobody() {
    let world = world().await;
    let pair = expired(&world);
    world.backend.fail(Fault::Refuse { status: 400, error: "invalid_grant", retry_after: None });
    let mut visitor = Visitor::with(world, &pair);

    let (led, reply) = visitor.open("/optional/x").await;

    assert_eq!((led, reply.status), (2, 200));
    let seen = visitor.world.upstream.record.last().head;
    assert_eq!([seen.get("x-forwarded-user"), seen.get("cookie")], [None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_backend_is_away_the_page_reloads_itself_until_it_is_back() {
    let world = world().await;
    let pair = expired(&world);
    world.backend.fail(Fault::Refuse { status: 503, error: "later", retry_after: None });

    let reply = bounced(&world, "/page", &pair).await;
    assert_eq!((reply.status, reply.head.all("retry-after").len()), (503, 1));
    let text = reply.text();
    let from = text.find(";url=").expect("an address") + 5;
    let again = text[from..].split('"').next().expect("its end").to_string();
    world.backend.heal();
    world.skip(Duration::from_secs(40));
    let back = at_refresh(get(&again).navigation(), &pair).send(world.gateway.address).await;

    assert_eq!((back.status, location(&back)), (307, "/page"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_keeps_no_access_cookie_is_told_so_after_three_rounds() {
    let world = world().await;
    let pair = expired(&world);
    let mut visitor = Visitor::with(world, &pair);
    visitor.drops = "__Host-access";

    let (led, reply) = visitor.open("/page").await;

    assert_eq!((led, reply.status), (7, 400), "{}", reply.text());
    assert!(reply.text().contains("Your browser does not keep your session"));
    assert_eq!(visitor.world.backend.counts(), ONE_GRANT, "the rounds cost the backend nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_keeps_no_cookie_at_all_is_led_to_the_login() {
    let world = world().await;
    let mut visitor = Visitor::new(world).await;
    visitor.drops = "__";

    for _ in 0..5 {
        let (led, reply) = visitor.open("/page").await;
        assert_eq!((led, reply.status), (1, 302));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn short_lived_tokens_are_no_loop() {
    let world = world().await;
    world.backend.grant_life(20);
    let pair = expired(&world);
    let mut visitor = Visitor::with(world, &pair);

    for _ in 0..6 {
        let (led, reply) = visitor.open("/page").await;
        assert_eq!((led, reply.status), (2, 200), "{}", reply.text());
        visitor.world.skip(Duration::from_secs(21));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_another_site_works_with_strict_cookies() {
    let world = with("cookies: { same_site: strict }").await;
    let pair = world.backend.login("alice", |token| token);
    let from_afar = |site| {
        let ask = get("/page").header("Accept", "text/html").header("Sec-Fetch-Mode", "navigate");
        ask.header("Sec-Fetch-Site", site).send(world.gateway.address)
    };

    let cross = from_afar("cross-site").await;
    let own = from_afar("same-origin").await;

    assert_eq!((own.status, cross.status), (307, 401), "a redirect would stay foreign");
    let text = cross.text();
    let at = text.split("content=\"0;url=").nth(1).expect("it opens by itself");
    let to = at.split('"').next().expect("its end");
    assert!(to.starts_with("/_evergate/refresh?to="), "{to}");
    let back = at_refresh(get(to).navigation(), &pair).send(world.gateway.address).await;
    assert_eq!((back.status, location(&back)), (307, "/page"));
    assert_eq!(world.backend.token_calls(), 0, "the access token was good all along");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_another_site_is_an_ordinary_one_with_lax_cookies() {
    let world = world().await;
    let pair = expired(&world);
    let ask = get("/page").header("Accept", "text/html").header("Sec-Fetch-Mode", "navigate");

    let reply = ask.header("Sec-Fetch-Site", "cross-site").access(&pair.access);

    assert_eq!(reply.send(world.gateway.address).await.status, 307);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_goes_on_at_the_refresh_path_and_nothing_works_any_more() {
    for program in [false, true] {
        let world = world().await;
        let pair = world.backend.login("alice", |token| token.claim("sid", "s-1"));
        let mut visitor = Visitor::with(world, &pair);

        let target = format!("{LOGOUT}?return_to=%2Fbye");
        let reply = match program {
            false => visitor.submit(&target).await,
            true => {
                let ask = |to: &str| post(to, "").fetch().header("X-Evergate", "1");
                let on = visitor.send(&target, ask(&target)).await;
                let to = location(&on).to_string();
                visitor.send(&to, ask(&to)).await
            }
        };

        assert_eq!(reply.status, if program { 204 } else { 303 });
        assert!(program || location(&reply) == "/bye");
        assert!(visitor.jar.is_empty(), "{:?}", visitor.jar.keys());
        let world = visitor.world;
        let wish = at_refresh(post(REFRESH, "").fetch().header("X-Evergate", "1"), &pair);
        assert_eq!(wish.send(world.gateway.address).await.reason(), "revoked");
        let alone = post(REFRESH, "").fetch().header("X-Evergate", "1");
        let alone = alone.header("Cookie", &format!("{SCOPED}={}", pair.refresh));
        assert_eq!(alone.send(world.gateway.address).await.reason(), "refresh_refused");
        assert!(!world.backend.is_alive(&pair.refresh), "revoked at the backend");
        assert_eq!(world.backend.token_calls(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_page_logs_nobody_out_by_either_half() {
    let world = world().await;
    let pair = world.backend.login("alice", |token| token);
    for target in [LOGOUT.to_string(), format!("{REFRESH}?logout")] {
        let ask = post(&target, "").header("Sec-Fetch-Site", "cross-site");
        let reply = at_refresh(ask, &pair).send(world.gateway.address).await;
        assert_eq!((reply.status, reply.reason().as_str()), (403, "cross_site"), "{target}");
    }
    assert_eq!(page("/page", &pair).send(world.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_carrier_cookie_stays_logged_in_and_is_moved() {
    let world = world().await;
    let pair = expired(&world);

    let reply = get("/page").navigation().pair(&pair).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    let cookies = reply.cookies();
    assert!(cookies["__Host-refresh"].clears() && !cookies[SCOPED].clears());
    assert!(cookies[SCOPED].attributes.contains("Path=/_evergate/refresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_the_backend_keeps_is_moved_too() {
    let world = world().await;
    let pair = expired(&world);
    world.backend.fail_once(Fault::NoRefreshToken);

    let reply = get("/page").navigation().pair(&pair).send(world.gateway.address).await;

    let cookies = reply.cookies();
    assert_eq!((reply.status, &cookies[SCOPED].value), (200, &pair.refresh));
    assert!(cookies["__Host-refresh"].clears());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_out_of_reach_are_no_logout_at_the_refresh_path_either() {
    let yaml = STANDARD.replace("s3cret }", "s3cret, carrier: path }");
    let keys = "audience: legacy-app, keys: { url: \"http://127.0.0.1:1/jwks\" }";
    let world = World::with(&yaml.replace("audience: legacy-app", keys)).await;
    let pair = expired(&world);

    let asks = [at_refresh(get(REFRESH).navigation(), &pair), page(REFRESH, &pair)];
    for ask in asks {
        let reply = ask.send(world.gateway.address).await;
        assert_eq!((reply.status, reply.head.all("retry-after").len()), (503, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_carrier_path_is_moved_by_a_page_that_refreshes() {
    let world = World::start().await;
    let pair = expired(&world);
    let wish = || post(REFRESH, "").fetch().header("X-Evergate", "1");

    let alone = wish().header("Cookie", &format!("{SCOPED}={}", pair.refresh));
    let alone = alone.send(world.gateway.address).await;
    let moved = at_refresh(wish(), &pair).send(world.gateway.address).await;

    assert_eq!(
        (alone.status, alone.reason().as_str()),
        (409, "nothing_to_refresh"),
        "it may be an old one"
    );
    let cookies = moved.cookies();
    assert_eq!((moved.status, cookies["__Host-refresh"].clears()), (200, false));
    assert!(cookies[SCOPED].clears());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_s_name_is_the_operators_and_an_old_one_is_moved() {
    let world =
        with("cookies: { refresh_path: { name: __Secure-rt, accept: [__Secure-old] } }").await;
    let pair = expired(&world);
    let line = format!("__Host-access={}; __Secure-old={}", pair.access, pair.refresh);

    let wish = post(REFRESH, "").fetch().header("X-Evergate", "1").header("Cookie", &line);
    let reply = wish.send(world.gateway.address).await;

    let cookies = reply.cookies();
    assert_eq!((reply.status, cookies["__Secure-old"].clears()), (200, true));
    assert!(cookies["__Secure-rt"].attributes.contains("Path=/_evergate/refresh"));
}

#[test]
fn a_name_that_browsers_would_drop_is_refused() {
    for (name, expected) in [
        ("__Host-rt", "browsers drop such a cookie with a path of its own"),
        ("__Host-access", "browsers drop such a cookie with a path of its own"),
        ("__Host-bounced", "cannot be told from the cookie `__Host-bounced`"),
        ("__Host-refresh.0", "cannot be told from the cookie `__Host-refresh`"),
    ] {
        let keys = format!("cookies: {{ refresh_path: {{ name: {name} }} }}\n");
        let told = evergate::config::from_str("test.yaml", &(keys + STANDARD), &|_| None);
        let told = told.err().map(|told| told.to_string()).unwrap_or_default();
        assert!(told.contains(expected), "{name}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_path_moves_with_the_gateway_path() {
    let world = with("gateway_path: /gate").await;
    let pair = expired(&world);

    let away = page("/page", &pair).send(world.gateway.address).await;
    let back =
        at_refresh(get(location(&away)).navigation(), &pair).send(world.gateway.address).await;

    assert!(location(&away).starts_with("/gate/refresh?to="));
    assert_eq!((back.status, location(&back)), (307, "/page"));
    assert!(back.cookies()[SCOPED].attributes.contains("Path=/gate/refresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_issuer_is_no_reason_to_go_round() {
    let (backend, other, upstream) =
        (Backend::start().await, Backend::start().await, Upstream::start().await);
    let issuer = |at: &Backend| {
        let url = format!("http://{}", at.address);
        format!(
            "{{ url: \"{url}\", audience: legacy-app, refresh: {{ url: \"{url}/token\", carrier: path }} }}"
        )
    };
    let yaml = format!(
        "listen: 127.0.0.1:0\nadmin: {{ address: \"127.0.0.1:0\" }}\nupstream: http://UPSTREAM\n\
         issuers: {{ main: {}, partner: {} }}\n\
         policies: {{ main: {{ issuer: main }}, partner: {{ issuer: partner }} }}\n\
         on_denied: {{ browser: {{ redirect: \"/login?return_to={{url}}\" }} }}\n\
         routes:\n  - {{ path: /login, auth: public }}\n  - {{ path: /main/*, policy: main }}\n  \
         - {{ path: /partner/*, policy: partner }}\n",
        issuer(&backend),
        issuer(&other)
    );
    let gateway = Gateway::start(&yaml.replace("UPSTREAM", &upstream.address.to_string())).await;
    let pair = other.login("bob", |token| token);
    let named = Pair { refresh: format!("partner~{}", pair.refresh), ..pair };

    let away = page("/main/x", &named).send(gateway.address).await;
    let back = at_refresh(get(location(&away)).navigation(), &named).send(gateway.address).await;

    assert_eq!(page("/partner/x", &named).send(gateway.address).await.status, 200);
    assert_eq!((back.status, location(&back)), (302, "/login?return_to=%2Fmain%2Fx"));
    assert_eq!((backend.token_calls(), other.token_calls()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_told_when_to_refresh_though_the_gateway_sees_no_refresh_token() {
    let world = world().await;
    let good = world.backend.login("alice", |token| token);
    let told = async |access: &str| {
        let reply =
            get("/_evergate/session").fetch().access(access).send(world.gateway.address).await;
        let told = reply.json();
        (told["active"].clone(), told["access_expires_in"].clone(), told["refresh_in"].clone())
    };

    let (active, _, wait) = told(&good.access).await;
    assert!(active == true && wait.as_u64().is_some_and(|wait| wait > 0), "{wait}");
    let due = (json!(true), json!(0), json!(0));
    assert_eq!(told(&expired(&world).access).await, due);
    let nobody = get("/_evergate/session").fetch().send(world.gateway.address).await.json();
    assert_eq!((&nobody["active"], &nobody["refresh_in"]), (&json!(false), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_refresh_cookie_makes_nobody_another_person() {
    let world = world().await;
    let alice = expired(&world);
    let mallory = world.backend.login("mallory", Token::expired);
    let planted = Pair { access: alice.access.clone(), refresh: mallory.refresh.clone() };

    let reply = bounced(&world, "/page", &planted).await;
    let both = format!(
        "__Host-access={}; {SCOPED}={}; {SCOPED}={}",
        alice.access, alice.refresh, mallory.refresh
    );
    let twice = get(REFRESH).navigation().header("Cookie", &both).send(world.gateway.address).await;

    assert_eq!((reply.status, location(&reply)), (302, "/auth/login?return_to=%2Fpage"));
    assert_eq!(reply.cookies().keys().collect::<Vec<_>>(), ["__Host-bounced"]);
    assert_eq!(twice.status, 400);
    let cookies = twice.cookies();
    let taken: Vec<_> =
        cookies.iter().map(|(name, cookie)| (name.as_str(), cookie.clears())).collect();
    assert_eq!(taken, [(SCOPED, true)], "the access token stays: it says whose session it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_cannot_set_the_cookies_of_the_refresh_path() {
    let world = world().await;
    let good = world.backend.login("alice", |token| token);
    let refresh = format!("{SCOPED}=x; Path={REFRESH}");
    let lines = [
        ("Set-Cookie", refresh.as_str()),
        ("Set-Cookie", "__Host-bounced=x"),
        ("Set-Cookie", "own=1"),
    ];
    world.upstream.answer(200, &lines, "");

    let reply = page("/page", &good).send(world.gateway.address).await;

    assert_eq!(reply.head.all("set-cookie"), ["own=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_access_token_shows_that_the_new_pair_arrived_and_the_old_one_is_spent_after_a_grace()
 {
    for by_page in [false, true] {
        let world = world().await;
        let old = expired(&world);
        let mut visitor = Visitor::with(world, &old);
        let wish = || post(REFRESH, "").fetch().header("X-Evergate", "1");
        if by_page {
            assert_eq!(visitor.send(REFRESH, wish()).await.status, 200);
        }
        assert_eq!(visitor.open("/page").await.1.status, 200);
        let late = || at_refresh(wish(), &old).send(visitor.world.gateway.address);

        visitor.world.skip(Duration::from_secs(29));
        let within_the_grace = late().await.status;
        visitor.world.skip(Duration::from_secs(2));
        let after_it = late().await;

        assert_eq!((within_the_grace, after_it.status), (200, 401), "{}", after_it.text());
        assert_eq!(visitor.open("/page").await.1.status, 200);
        assert_eq!(visitor.world.backend.counts(), ONE_GRANT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_shows_that_at_any_gateway() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let redis = Redis::used().await;
    let yaml = STANDARD.replace("s3cret }", "s3cret, carrier: path }");
    let store = format!("store: {{ kind: redis, url: \"{}\", key: {KEY} }}", redis.url());
    let yaml = world::place(&format!("{store}\n{yaml}"), &backend, &upstream);
    let [here, there] = [Gateway::start(&yaml).await, Gateway::start(&yaml).await];
    let old = backend.login("alice", Token::expired);
    let wish = |pair| at_refresh(post(REFRESH, "").fetch().header("X-Evergate", "1"), pair);
    let jar = wish(&old).send(there.address).await.cookies();
    let shown = ["__Host-access", "__Host-bounced"].map(|n| format!("{n}={}", jar[n].value));

    let page = get("/page").fetch().header("Cookie", &shown.join("; ")).send(here.address).await;
    assert_eq!(page.status, 200);
    eventually("the store is told that the new pair arrived", async || {
        let records: Vec<String> = redis.command(&["KEYS", "evergate:*:s:*"]).await;
        let fields: Vec<String> = redis.command(&["HKEYS", &records[0]]).await;
        fields.iter().any(|field| field == "c1")
    })
    .await;
    // What a look at the store has told a gateway is good for a quarter of a second.
    sleep(Duration::from_millis(300)).await;
    let within_the_grace = wish(&old).send(there.address).await.status;
    there.skip(Duration::from_secs(31));
    let after_it = wish(&old).send(there.address).await.status;

    assert_eq!((within_the_grace, after_it), (200, 401));
    assert_eq!(backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_did_not_arrive_is_delivered_again_however_late() {
    let world = world().await;
    let old = expired(&world);
    let lost = bounced(&world, "/page", &old).await;
    world.skip(Duration::from_secs(120));

    let again = bounced(&world, "/page", &old).await;

    assert_eq!(again.cookies().remove(SCOPED), lost.cookies().remove(SCOPED));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}
