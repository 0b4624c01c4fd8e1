//! Backend, app and gateway together.

use std::time::Duration;

use super::{Backend, Gateway, Upstream};

/// The configuration that most stories use: the smallest useful file.
pub const STANDARD: &str = r#"
listen: 127.0.0.1:0
admin: { address: "127.0.0.1:0" }
upstream: http://UPSTREAM
issuer: { url: "http://BACKEND", audience: legacy-app }
refresh: { url: "http://BACKEND/token", client_id: evergate, client_secret: s3cret }
on_denied: { browser: { redirect: "/auth/login?return_to={url}" } }
routes:
  - { path: /auth/*, auth: public, upstream: "http://BACKEND", adopt_tokens: true }
  - { path: /static/*, auth: public }
  - { path: /optional/*, auth: optional }
  - { path: /admin/*, require: { roles: [admin] } }
  - { path: /* }
"#;

pub struct World {
    pub backend: Backend,
    pub upstream: Upstream,
    pub gateway: Gateway,
}

impl World {
    pub async fn start() -> World {
        World::with(STANDARD).await
    }

    /// `UPSTREAM` and `BACKEND` in the text become their addresses.
    pub async fn with(yaml: &str) -> World {
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let yaml = place(yaml, &backend, &upstream);
        let gateway = Gateway::start(&yaml).await;
        World { backend, upstream, gateway }
    }

    /// For the backend and the gateway it is so much later from now on. Only their clocks move: a
    /// call that waits for an answer still waits as long.
    pub fn skip(&self, time: Duration) {
        self.backend.skip(time);
        self.gateway.skip(time);
    }

    /// The standard file with one more line at the top level or one changed.
    pub async fn changed(from: &str, to: &str) -> World {
        assert!(STANDARD.contains(from), "not in the standard file: {from}");
        World::with(&STANDARD.replacen(from, to, 1)).await
    }
}

pub fn place(yaml: &str, backend: &Backend, upstream: &Upstream) -> String {
    yaml.replace("UPSTREAM", &upstream.address.to_string())
        .replace("BACKEND", &backend.address.to_string())
}
