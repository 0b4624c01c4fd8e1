//! The auth backend's own login page, behind a route with `adopt_tokens`.

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_logs_in_on_the_backends_page_and_comes_back() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);

    let refused = browser.navigate("/page?a=1&b=2").await;
    let page = browser.navigate("/auth/login?return_to=%2Fpage").await;
    let login = browser.submit("/auth/login", "user=alice").await;
    let home = browser.navigate("/home").await;

    assert_eq!(refused.status, 302);
    let back = "/auth/login?return_to=%2Fpage%3Fa%3D1%26b%3D2";
    assert_eq!(refused.head.all("location"), [back]);
    assert!(page.text().contains("Log in"));
    assert_eq!((login.status, home.status), (303, 200));
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn adopted_cookies_have_our_names_and_attributes_and_others_pass_untouched() {
    let world = World::start().await;
    let login = post("/auth/login", "user=alice").send(world.gateway.address).await;

    let cookies = login.cookies();
    let names: Vec<&str> = cookies.keys().map(String::as_str).collect();
    assert_eq!(names, ["__Host-access", "__Host-refresh", "theme"]);
    assert_eq!(cookies["theme"].attributes, set(["Path=/"]));
    // Both live as long as the session can: what an access token is worth, it says itself.
    let ours = set(["Path=/", "Secure", "HttpOnly", "SameSite=Lax", "Max-Age=3600"]);
    assert_eq!(cookies["__Host-access"].attributes, ours);
    assert_eq!(cookies["__Host-refresh"].attributes, ours);
    assert!(login.head.all("cache-control").concat().contains("private"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_sees_its_own_cookie_names_and_the_app_sees_none() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let (access, refresh) =
        (browser.jar["__Host-access"].clone(), browser.jar["__Host-refresh"].clone());

    let me = browser.fetch("/auth/me").await.text();
    browser.fetch("/page").await;

    let mut shown: Vec<&str> = me.split("; ").collect();
    shown.sort();
    let (access, refresh) = (format!("access_token={access}"), format!("refresh_token={refresh}"));
    assert_eq!(shown, [access.as_str(), refresh.as_str(), "theme=dark"]);
    assert_eq!(world.upstream.record.last().head.all("cookie"), ["theme=dark"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_clears_our_cookies_and_the_session_cannot_be_renewed() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let stolen = browser.jar["__Host-refresh"].clone();

    let logout = browser.submit("/auth/logout", "").await;
    let old = get("/page")
        .header("Cookie", &format!("__Host-refresh={stolen}"))
        .send(world.gateway.address)
        .await;

    assert_eq!(logout.status, 204);
    let cleared: Vec<_> =
        logout.cookies().into_iter().filter(|(_, c)| c.clears()).map(|(name, _)| name).collect();
    assert_eq!(cleared, ["__Host-access", "__Host-refresh"]);
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["theme"]);
    assert_eq!((old.status, world.backend.token_calls()), (401, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_the_same_browser_ends_the_session_before_it() {
    let world = World::start().await;
    let mut browser = Browser::new(world.gateway.address);
    browser.submit("/auth/login", "user=alice").await;
    let before = browser.jar["__Host-refresh"].clone();

    browser.submit("/auth/login", "user=bob").await;
    let now = browser.fetch("/page").await;
    let old = get("/page")
        .header("Cookie", &format!("__Host-refresh={before}"))
        .send(world.gateway.address)
        .await;

    assert_eq!(now.status, 200);
    assert_eq!(world.upstream.record.last().head.all("x-forwarded-user"), ["bob"]);
    assert_eq!((old.status, world.backend.token_calls()), (401, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_whose_token_does_not_verify_is_not_adopted() {
    let world = World::start().await;
    world.backend.grant_claim("aud", "another-app");

    let login = post("/auth/login", "user=alice").send(world.gateway.address).await;

    let names: Vec<String> = login.cookies().into_keys().collect();
    assert_eq!(names, ["theme"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_bring_the_backends_own_cookies() {
    let world = World::start().await;
    let pair = world.backend.login("alice", |token| token);
    let forged = format!("access_token={}; refresh_token={}; x=1", pair.access, pair.refresh);

    let me = get("/auth/me").header("Cookie", &forged).send(world.gateway.address).await;
    let page = get("/page").header("Cookie", &forged).send(world.gateway.address).await;

    assert_eq!(me.text(), "x=1");
    assert_eq!(page.status, 401);
}
