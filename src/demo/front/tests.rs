use std::time::Duration;

use axum::routing::any;
use serde_json::Value;

use super::*;
use crate::demo::controls::Controls;
use crate::demo::events::{Bus, GatewayEvent};
use crate::demo::http_client::http_client;
use crate::demo::tokens::Signer;
use crate::demo::{listen, serve};

/// A running front server, asked without a gateway in between.
struct World {
    url: String,
    front: Arc<Front>,
}

impl World {
    async fn start() -> World {
        let (address, listener) = listen("the front page", 0).await.unwrap();
        let signer = Signer::new("http://127.0.0.1:4000".into()).unwrap();
        let controls = Arc::new(Controls::new(signer, Bus::new(), Duration::from_secs(20)));
        let backend = Arc::new(AuthBackend::new(controls));
        let front = Arc::new(Front::new(backend, http_client().unwrap()));
        serve(listener, router(Arc::clone(&front)));
        World { url: format!("http://{address}"), front }
    }

    async fn post(&self, path: &str) -> (u16, String) {
        let answer = self.front.client.post(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn stats(&self) -> Stats {
        self.front.backend.controls.stats()
    }
}

#[tokio::test]
async fn the_page_allows_only_its_own_inline_script_and_style() {
    let world = World::start().await;

    let answer = world.front.client.get(&world.url).send().await.unwrap();

    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn the_page_loads_nothing_and_has_no_inline_handlers_or_style_attributes() {
    for forbidden in [" src=", "@import", "url(", " style=", " onclick=", "innerHTML", "https://"] {
        assert!(!PAGE.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn me_is_what_the_identity_headers_say() {
    let world = World::start().await;
    let me = |headers: &[(&str, &str)]| {
        let mut request = world.front.client.get(format!("{}/demo/me", world.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async { request.send().await.unwrap().text().await.unwrap() }
    };

    let alice =
        me(&[("X-Forwarded-User", "alice"), ("X-Demo-Roles", "staff"), ("X-Demo-Expires", "7")]);

    assert_eq!(alice.await, r#"{"exp":7,"roles":"staff","user":"alice"}"#);
    assert_eq!(me(&[]).await, r#"{"exp":null,"roles":null,"user":null}"#);
}

#[tokio::test]
async fn the_switches_turn_the_backend_off_and_on_and_its_key_over() {
    let world = World::start().await;
    let key = world.stats().key;

    assert_eq!(world.post("/demo/control/stop").await.0, 200);
    assert!(!world.stats().running);
    assert_eq!(world.post("/demo/start").await.0, 200);
    assert!(world.stats().running);
    assert_eq!(world.post("/demo/control/rotate").await.0, 200);
    assert_ne!(world.stats().key, key);
}

#[tokio::test]
async fn a_foreign_page_presses_no_switch() {
    let world = World::start().await;
    let before = world.stats();

    for path in ["/demo/control/stop", "/demo/control/rotate", "/demo/control/tamper"] {
        let request = world.front.client.post(format!("{}{path}", world.url));
        let answer = request.header("Sec-Fetch-Site", "cross-site").send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path}");
    }
    assert_eq!(world.stats(), before);
}

#[tokio::test]
async fn the_stream_carries_the_gateways_events() {
    let world = World::start().await;
    let url = format!("{}/demo/events", world.url);
    let mut answer = world.front.client.get(url).send().await.unwrap();

    world.front.backend.controls.events.gateway(GatewayEvent::Delivered);

    let piece = answer.chunk().await.unwrap().unwrap();
    let expected = "data: {\"source\":\"gateway\",\"kind\":\"delivered\"}\n\n";
    assert_eq!(std::str::from_utf8(&piece).unwrap(), expected);
}

#[tokio::test]
async fn tampering_shows_the_gateways_own_answers() {
    let world = World::start().await;
    let (gateway, listener) = listen("a gateway that refuses", 0).await.unwrap();
    let refusal =
        || async { (StatusCode::UNAUTHORIZED, Json(json!({ "reason": "bad_signature" }))) };
    serve(listener, Router::new().route("/app/", any(refusal)));

    let without_gateway = world.post("/demo/control/tamper").await.0;
    world.front.gateway_is(gateway);
    let (status, body) = world.post("/demo/control/tamper").await;

    assert_eq!((without_gateway, status), (503, 200));
    let outcomes: Value = serde_json::from_str(&body).unwrap();
    let refused = |what| json!({ "what": what, "status": 401, "reason": "bad_signature" });
    let expected = json!([
        refused("renamed to root"),
        refused("one bit of the signature flipped"),
        refused("unsigned (alg: none)"),
    ]);
    assert_eq!(outcomes, expected);
}
