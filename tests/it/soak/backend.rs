//! The strict auth backend of the soak: it knows the whole story of every refresh token, and nothing
//! it keeps grows with the number of requests. (`support::backend` keeps every request, which is
//! what a story wants and ten minutes of load do not.)
//!
//! A refresh token is `rt.SUBJECT.NUMBER`: each login has a subject of its own, and the number counts
//! its rotations. So whoever gets a token can see whose it is, and which one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use super::families::{Death, Families, Presented};
use super::faults::{Fault, Faults};
use super::plan::{REFRESH_LIFE, TOKEN_LIFE};
use super::tally::Tally;
use crate::support::backend::{cookie, form, json_response};
use crate::support::keys::{SigningKey, Token};
use crate::support::wire::{self, Guard, Head, Stream, response};

pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _guard: Guard,
}

struct Shared {
    key: Arc<SigningKey>,
    issuer: std::sync::OnceLock<String>,
    families: Mutex<Families>,
    faults: Mutex<Faults>,
    tally: Arc<Tally>,
}

impl Backend {
    pub async fn start(families: Families, faults: Faults, tally: Arc<Tally>) -> Backend {
        let shared = Arc::new(Shared {
            key: SigningKey::es256("key-1"),
            issuer: std::sync::OnceLock::new(),
            families: Mutex::new(families),
            faults: Mutex::new(faults),
            tally,
        });
        let serving = shared.clone();
        let (address, guard) = wire::listen(move |stream| {
            let shared = serving.clone();
            async move {
                // An error here is a gateway that went away, which is part of the run.
                let _ = serve(stream, &shared).await;
            }
        })
        .await;
        let _ = shared.issuer.set(format!("http://{address}"));
        Backend { address, shared, _guard: guard }
    }

    pub fn families(&self) -> MutexGuard<'_, Families> {
        self.shared.families()
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.shared.faults.lock().expect("no panic under the lock")
    }
}

impl Shared {
    fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().expect("no panic under the lock")
    }

    fn access(&self, subject: &str) -> String {
        let issuer = self.issuer.get().expect("set at the start");
        let now = crate::support::keys::now();
        Token::new(&self.key, issuer, subject)
            .claim("iat", now)
            .claim("exp", now + TOKEN_LIFE.as_secs())
            .sign()
    }
}

async fn serve(mut stream: Stream, shared: &Shared) -> std::io::Result<()> {
    while let Some(head) = wire::read_head(&mut stream).await? {
        let body = wire::read_body(&mut stream, &head).await?;
        let answer = match (head.word(0), head.word(1)) {
            ("GET", "/.well-known/openid-configuration") => {
                let issuer = shared.issuer.get().expect("set at the start");
                let document = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/jwks") });
                json_response(200, &[], &document)
            }
            ("GET", "/jwks") => json_response(200, &[], &json!({ "keys": [shared.key.jwk] })),
            ("POST", "/token") => {
                token_endpoint(&mut stream, shared, &body).await?;
                continue;
            }
            ("POST", "/auth/login") => log_in(shared, &body),
            ("POST", "/auth/logout") => log_out(shared, &head),
            _ => response(404, &[], b"no such page"),
        };
        stream.write_all(&answer).await?;
    }
    Ok(())
}

async fn token_endpoint(stream: &mut Stream, shared: &Shared, body: &[u8]) -> std::io::Result<()> {
    let mut fields = form(body);
    let refresh = fields.remove("refresh_token").unwrap_or_default();
    let gateway = fields.remove("client_id").unwrap_or_default();
    shared.tally.add("backend: refresh calls");
    let (presented, fault) = {
        let mut families = shared.families();
        let calls = families.calls(&refresh);
        let fault = shared.faults.lock().expect("no panic").meets(&refresh, calls);
        (families.present(&refresh, &gateway, fault), fault)
    };
    if let Some(fault) = fault {
        shared.tally.add(fault.row());
    }
    let (subject, number) = match presented {
        Presented::Granted { subject, number } => (subject, number),
        Presented::Failed => return stream.write_all(&failed(fault)).await,
        Presented::Refused => {
            return stream
                .write_all(&json_response(400, &[], &json!({ "error": "invalid_grant" })))
                .await;
        }
    };
    let answer = json!({
        "access_token": shared.access(&subject),
        "refresh_token": format!("rt.{subject}.{number}"),
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE.as_secs(),
        "refresh_expires_in": REFRESH_LIFE.as_secs(),
    });
    match fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        // Until the gateway gives up.
        Some(Fault::Hang) => {
            let _ = stream.fill_buf().await;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::Reset) => {
            #[allow(deprecated, reason = "a zero linger is how a reset is made; nothing blocks")]
            stream.get_ref().set_linger(Some(Duration::ZERO))?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::Html) => {
            let html = [("Content-Type", "text/html")];
            return stream.write_all(&response(200, &html, b"<h1>Maintenance</h1>")).await;
        }
        Some(Fault::TooMany | Fault::Broken | Fault::Revoke) | None => {}
    }
    let sent = stream.write_all(&json_response(200, &[], &answer)).await;
    shared.families().answered(&subject, number);
    sent
}

/// Answers that make no grant and spend nothing.
fn failed(fault: Option<Fault>) -> Vec<u8> {
    match fault {
        Some(Fault::TooMany) => {
            json_response(429, &[("Retry-After", "1")], &json!({ "error": "slow_down" }))
        }
        _ => response(500, &[], b"oops"),
    }
}

/// How this backend sets its own cookies; the gateway adopts them.
fn log_in(shared: &Shared, body: &[u8]) -> Vec<u8> {
    let user = form(body).remove("user").unwrap_or_default();
    shared.families().log_in(&user);
    let (access, life) = (shared.access(&user), REFRESH_LIFE.as_secs());
    let cookies = [
        format!("access_token={access}; Path=/; Max-Age={life}"),
        format!("refresh_token=rt.{user}.0; Path=/auth; Max-Age={life}"),
    ];
    let headers = cookies.each_ref().map(|cookie| ("Set-Cookie", cookie.as_str()));
    response(303, &[&headers[..], &[("Location", "/home")]].concat(), b"")
}

fn log_out(shared: &Shared, head: &Head) -> Vec<u8> {
    if let Some(refresh) = cookie(head, "refresh_token") {
        shared.families().end(&refresh, Death::LoggedOut);
    }
    let clear = ["access_token=; Path=/; Max-Age=0", "refresh_token=; Path=/auth; Max-Age=0"];
    response(204, &clear.map(|cookie| ("Set-Cookie", cookie)), b"")
}
