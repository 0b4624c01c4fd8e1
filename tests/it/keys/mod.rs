//! Keys of `gateway.yaml` that no other story needs: each changes what happens.

mod upstreams;
mod limits;
mod issuers;
mod refresh;
mod routes;

use std::time::Duration;

use super::support::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// The standard world before this app, with more keys of its upstream.
async fn before(app: &str, keys: &str) -> World {
    let upstream = format!("upstreams: {{ app: {{ servers: [\"{app}\"], {keys} }} }}");
    World::changed("upstream: http://UPSTREAM", &upstream).await
}

/// The standard world with more keys of its issuer.
async fn issuer(keys: &str) -> World {
    World::changed("audience: legacy-app", &format!("audience: legacy-app, {keys}")).await
}

/// The standard world with more keys of its refresh.
async fn refresh(keys: &str) -> World {
    World::changed("client_secret: s3cret", &format!("client_secret: s3cret, {keys}")).await
}

/// The standard world with one more key at the top.
async fn top(key: &str) -> World {
    World::changed("listen:", &format!("{key}\nlisten:")).await
}

/// The standard world with one more route.
async fn route(route: &str) -> World {
    World::with(&format!("{STANDARD}  - {{ {route} }}\n")).await
}

async fn page(world: &World, token: &Token) -> Reply {
    get("/page").access(&token.sign()).send(world.gateway.address).await
}

/// Status, and reason where the gateway answered.
fn outcome(reply: &Reply) -> (u16, String) {
    let ours = reply.status >= 400;
    (reply.status, if ours { reply.reason() } else { String::new() })
}

fn is(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_string())
}
