use std::time::Duration;

use reqwest::Client;

use super::*;
use crate::demo::controls::Availability;
use crate::demo::events::{Bus, Event};
use crate::demo::http_client::http_client;
use crate::demo::tokens::Signer;
use crate::demo::{listen, serve};

/// A running backend and a client that keeps no cookies.
struct World {
    url: String,
    backend: Arc<AuthBackend>,
    client: Client,
}

impl World {
    async fn start() -> World {
        let (address, listener) = listen("the auth backend", 0).await.unwrap();
        let signer = Signer::new(format!("http://{address}")).unwrap();
        let controls = Controls::new(signer, Bus::new(), Duration::from_secs(20));
        let backend = Arc::new(AuthBackend::new(Arc::new(controls)));
        serve(listener, router(Arc::clone(&backend)));
        let client = http_client().unwrap();
        World { url: format!("http://{address}"), backend, client }
    }

    fn post(&self, path: &str, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).form(form)
    }

    async fn log_in(&self) -> reqwest::Response {
        let form = [("user", "alice"), ("password", "wonderland"), ("return_to", "/app/?a=b")];
        self.post("/auth/login", &form).send().await.unwrap()
    }

    async fn refresh_token(&self) -> String {
        cookie_value(&self.log_in().await, "refresh_token").unwrap()
    }

    async fn renew(&self, token: &str) -> (u16, Value) {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        let answer = self.post("/token", &form).send().await.unwrap();
        (answer.status().as_u16(), answer.json_value().await)
    }
}

/// reqwest is built without its JSON feature.
trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Value {
        serde_json::from_slice(&self.bytes().await.unwrap()).unwrap()
    }
}

fn cookie_lines(answer: &reqwest::Response) -> Vec<String> {
    let lines = answer.headers().get_all("set-cookie").into_iter();
    lines.map(|line| line.to_str().unwrap().to_owned()).collect()
}

fn cookie_value(answer: &reqwest::Response, name: &str) -> Option<String> {
    let line = cookie_lines(answer).into_iter().find(|line| line.starts_with(name))?;
    let (_, rest) = line.split_once('=')?;
    Some(rest.split(';').next()?.to_owned())
}

#[tokio::test]
async fn a_login_sets_both_cookies_and_goes_back() {
    let world = World::start().await;

    let answer = world.log_in().await;

    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/app/?a=b");
    let attributes: Vec<String> = cookie_lines(&answer)
        .iter()
        .map(|line| {
            let (name, rest) = line.split_once('=').unwrap();
            format!("{name} {}", rest.split_once(';').unwrap().1)
        })
        .collect();
    let expected = [
        "access_token  Path=/; HttpOnly; SameSite=Lax; Max-Age=20",
        "refresh_token  Path=/; HttpOnly; SameSite=Lax; Max-Age=86400",
    ];
    assert_eq!(attributes, expected);
}

#[tokio::test]
async fn a_wrong_password_brings_the_page_again_and_no_cookie() {
    let world = World::start().await;
    let form = [("user", "alice"), ("password", "x"), ("return_to", "/\"><script>")];

    let answer = world.post("/auth/login", &form).send().await.unwrap();

    assert_eq!(answer.status(), 403);
    assert_eq!(cookie_lines(&answer), Vec::<String>::new());
    let html = answer.text().await.unwrap();
    assert!(html.contains("do not belong together"), "{html}");
    assert!(html.contains(r#"value="/&quot;&gt;&lt;script&gt;""#), "{html}");
}

#[tokio::test]
async fn a_login_or_logout_from_a_foreign_page_does_nothing() {
    let world = World::start().await;
    let token = world.refresh_token().await;
    let form = [("user", "alice"), ("password", "wonderland")];

    for path in ["/auth/login", "/auth/logout"] {
        let request = world.post(path, &form).header("Origin", "http://evil.example");
        let answer =
            request.header("Cookie", format!("refresh_token={token}")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), cookie_lines(&answer).len()), (403, 0), "{path}");
    }
    assert_eq!(world.renew(&token).await.0, 200);
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_once_and_its_reuse_ends_the_session() {
    let world = World::start().await;
    let first = world.refresh_token().await;

    let (status, pair) = world.renew(&first).await;
    let reused = world.renew(&first).await;
    let newest = world.renew(pair["refresh_token"].as_str().unwrap()).await;

    assert_eq!(status, 200);
    assert_eq!(pair["token_type"], "Bearer");
    assert_eq!(pair["expires_in"], 20);
    assert_eq!(reused, (400, json!({ "error": "invalid_grant" })));
    assert_eq!(newest, (400, json!({ "error": "invalid_grant" })));
    let stats = world.backend.controls.stats();
    assert_eq!((stats.grants, stats.reuses, stats.refusals), (1, 1, 1));
}

#[tokio::test]
async fn what_is_no_refresh_grant_is_named() {
    let world = World::start().await;
    for (form, error) in [
        (vec![], "invalid_request"),
        (vec![("grant_type", "refresh_token")], "invalid_request"),
        (vec![("grant_type", "password"), ("refresh_token", "x")], "unsupported_grant_type"),
    ] {
        let answer = world.post("/token", &form).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json_value().await, json!({ "error": error }));
    }
}

#[tokio::test]
async fn a_logout_clears_the_cookies_and_ends_the_session() {
    let world = World::start().await;
    let token = world.refresh_token().await;

    let request =
        world.post("/auth/logout", &[]).header("Cookie", format!("refresh_token={token}"));
    let answer = request.send().await.unwrap();

    let expected = [
        "access_token=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0",
        "refresh_token=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0",
    ];
    assert_eq!(cookie_lines(&answer), expected);
    assert_eq!(world.renew(&token).await.0, 400);
}

#[tokio::test]
async fn me_is_who_the_backends_own_cookie_says() {
    let world = World::start().await;
    let token = world.refresh_token().await;
    let me = |cookie: String| {
        world.client.get(format!("{}/auth/me", world.url)).header("Cookie", cookie).send()
    };

    let known = me(format!("refresh_token={token}")).await.unwrap();
    let unknown = me("refresh_token=x".into()).await.unwrap();

    assert_eq!(known.json_value().await, json!({ "user": "alice", "roles": ["staff"] }));
    assert_eq!(unknown.status(), 403);
}

#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let world = World::start().await;
    let url = format!("{}/.well-known/openid-configuration", world.url);

    let document = world.client.get(url).send().await.unwrap().json_value().await;
    let keys = world.client.get(document["jwks_uri"].as_str().unwrap()).send().await.unwrap();

    assert_eq!(document["issuer"], world.url.as_str());
    assert_eq!(keys.json_value().await, world.backend.controls.signer.key_set());
}

#[tokio::test]
async fn a_stopped_backend_says_503_to_everybody_and_keeps_its_sessions() {
    let world = World::start().await;
    let token = world.refresh_token().await;

    world.backend.controls.stop(Availability::Refusing);
    for path in ["/jwks.json", "/auth/login", "/.well-known/openid-configuration"] {
        let answer = world.client.get(format!("{}{path}", world.url)).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
    }
    world.backend.controls.start();

    assert_eq!(world.renew(&token).await.0, 200);
}

#[tokio::test]
async fn what_happens_is_told_without_a_token_in_it() {
    let world = World::start().await;
    let mut watcher = world.backend.controls.events.watch();

    let token = world.refresh_token().await;
    world.renew(&token).await;

    let user = || "alice".to_owned();
    let login = BackendEvent::LoggedIn { user: user() };
    let grant = BackendEvent::Granted { user: user(), generation: 2 };
    assert_eq!(watcher.next().await, Some(Event::Backend(login)));
    assert_eq!(watcher.next().await, Some(Event::Backend(grant)));
}

#[tokio::test]
async fn the_login_page_names_who_may_log_in_and_runs_no_script() {
    let world = World::start().await;
    let url = format!("{}/auth/login?user=root&return_to=//evil.example", world.url);

    let answer = world.client.get(url).send().await.unwrap();

    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none';") && !policy.contains("script-src"),
        "{policy}"
    );
    let html = answer.text().await.unwrap();
    assert!(html.contains(r#"name="user" value="root""#), "{html}");
    assert!(html.contains(r#"name="return_to" value="/""#), "{html}");
    assert!(!html.contains("{{"), "{html}");
}
