//! A strict auth backend: one-time refresh tokens; the second use of one kills its whole family.
//!
//! Speaks all three protocols (`/token` OAuth 2.0, `/refresh` its own cookies, `/json` JSON), has a
//! login page that sets its own cookies, counts everything, and fails on command.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::keys::{LIFE_S, SigningKey, Token, unique};
use super::upstream::Record;
use super::wire::{self, Guard, Head, Stream, response};

/// What the token endpoint does instead of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Does its job, this much later.
    Delay(Duration),
    /// Takes the request and never answers; the refresh token is spent.
    Hang,
    /// Spends the refresh token, then resets the connection.
    ResetAfterGrant,
    /// Spends the refresh token and answers a page.
    Html,
    /// Spends the refresh token and answers bytes that are no HTTP.
    Garbage,
    /// Spends the refresh token and answers 200 without any token.
    NoToken,
    /// Answers with another person's token.
    WrongSubject,
    /// Answers with a token of another issuer's.
    WrongIssuer,
    /// Answers with a token for another audience.
    WrongAudience,
    /// Answers with a token that has expired.
    ExpiredToken,
    /// Renews the access token and keeps the refresh token: no rotation.
    NoRefreshToken,
    /// Answers status, `error` member and Retry-After; no grant is made.
    Refuse { status: u16, error: &'static str, retry_after: Option<&'static str> },
    /// 302 to a page that would hand out tokens.
    Redirect,
    /// Spends the refresh token and answers 10 MiB.
    Huge,
    /// Does its job, a byte a second.
    SlowBytes,
}

/// The tokens of one logged-in browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub access: String,
    pub refresh: String,
}

pub struct Backend {
    pub address: SocketAddr,
    /// Every request, of whatever path.
    pub record: Record,
    state: Arc<Mutex<State>>,
    guard: Option<Guard>,
}

/// What the token endpoint did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Token pairs handed out for a refresh token.
    pub grants: u32,
    /// A spent refresh token came again, and its family was killed.
    pub reuses: u32,
    /// A refresh token that was never ours, or of a dead family.
    pub unknown: u32,
}

struct State {
    issuer: String,
    keys: Vec<Arc<SigningKey>>,
    more_jwks: Vec<Value>,
    refresh_tokens: HashMap<String, RefreshToken>,
    dead_families: Vec<u64>,
    families: u64,
    counts: Counts,
    faults: VecDeque<Fault>,
    standing_fault: Option<Fault>,
    roles: Vec<&'static str>,
    takes_spent_tokens: bool,
    /// Of the access tokens that are granted; `None`: the usual life.
    life_s: Option<u64>,
    /// How far this backend's clock is ahead of the real one.
    ahead_s: u64,
    /// Claims of every token that is granted or logged in with, over the usual ones.
    extra: Vec<(&'static str, Value)>,
    /// More members of the discovery document.
    announced: Vec<(&'static str, &'static str)>,
}

struct RefreshToken {
    family: u64,
    subject: String,
    spent: bool,
}

impl Backend {
    pub async fn start() -> Backend {
        let state = Arc::new(Mutex::new(State {
            issuer: String::new(),
            keys: vec![SigningKey::es256("key-1")],
            more_jwks: Vec::new(),
            refresh_tokens: HashMap::new(),
            dead_families: Vec::new(),
            families: 0,
            counts: Counts::default(),
            faults: VecDeque::new(),
            standing_fault: None,
            roles: vec!["staff"],
            takes_spent_tokens: false,
            life_s: None,
            ahead_s: 0,
            extra: Vec::new(),
            announced: Vec::new(),
        }));
        let record = Record::default();
        let (for_state, for_record) = (state.clone(), record.clone());
        let (address, guard) = wire::listen(move |stream| {
            let (state, record) = (for_state.clone(), for_record.clone());
            async move {
                let _ = serve(stream, state, record).await;
            }
        })
        .await;
        state.lock().expect("just made").issuer = format!("http://{address}");
        Backend { address, record, state, guard: Some(guard) }
    }

    /// A token of this issuer, to be spoiled and signed.
    pub fn token(&self, subject: &str) -> Token {
        self.lock().token(subject)
    }

    /// A new login: a refresh token of a family of its own, and an access token made by `shape`.
    pub fn login(&self, subject: &str, shape: impl FnOnce(Token) -> Token) -> Pair {
        let access = shape(self.token(subject)).sign();
        let mut state = self.lock();
        state.families += 1;
        let family = state.families;
        Pair { access, refresh: state.issue(family, subject) }
    }

    /// The next call to a token endpoint meets this fault.
    pub fn fail_once(&self, fault: Fault) {
        self.lock().faults.push_back(fault);
    }

    /// Every call to a token endpoint meets this fault, until [`Backend::heal`].
    pub fn fail(&self, fault: Fault) {
        self.lock().standing_fault = Some(fault);
    }

    pub fn heal(&self) {
        self.lock().standing_fault = None;
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Calls that reached a token endpoint, whatever became of them.
    pub fn token_calls(&self) -> usize {
        let is_token = |target: &str| ["/token", "/refresh", "/json"].contains(&target);
        self.record.all().iter().filter(|seen| is_token(&seen.target)).count()
    }

    /// Is the family of this refresh token still alive?
    pub fn is_alive(&self, refresh: &str) -> bool {
        let state = self.lock();
        let found = state.refresh_tokens.get(refresh);
        found.is_some_and(|token| !state.dead_families.contains(&token.family))
    }

    /// Signs with a new key; the old one stays published if `keep_old`.
    pub fn rotate_key(&self, keep_old: bool) {
        let mut state = self.lock();
        let name = format!("key-{}", unique());
        if !keep_old {
            state.keys.clear();
        }
        state.keys.insert(0, SigningKey::es256(&name));
    }

    /// Publishes one more key; it does not sign what this backend grants.
    pub fn publish(&self, key: &SigningKey) {
        self.publish_jwk(key.jwk.clone());
    }

    /// Publishes whatever this is among the keys.
    pub fn publish_jwk(&self, jwk: Value) {
        self.lock().more_jwks.push(jwk);
    }

    /// Access tokens that are granted or logged in with from now on live so long.
    pub fn grant_life(&self, seconds: u64) {
        self.lock().life_s = Some(seconds);
    }

    /// From now on a spent refresh token is as good as a new one.
    pub fn take_spent_tokens(&self) {
        self.lock().takes_spent_tokens = true;
    }

    /// Roles of every token that is granted from now on.
    pub fn grant_roles(&self, roles: &[&'static str]) {
        self.lock().roles = roles.to_vec();
    }

    /// Every token that is granted or logged in with from now on has this claim.
    pub fn grant_claim(&self, name: &'static str, value: impl Into<Value>) {
        self.lock().extra.push((name, value.into()));
    }

    /// Its discovery document has this member from now on; `BACKEND` in it becomes its URL.
    pub fn announce(&self, name: &'static str, value: &'static str) {
        self.lock().announced.push((name, value));
    }

    /// For this backend it is so much later from now on.
    pub fn skip(&self, time: Duration) {
        self.lock().ahead_s += time.as_secs();
    }

    /// From now on nobody listens there.
    pub fn stop(&mut self) {
        self.guard = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }
}

impl State {
    fn token(&self, subject: &str) -> Token {
        let token = Token::new(&self.keys[0], &self.issuer, subject).ahead(self.ahead_s);
        token.claim("roles", self.roles.clone())
    }

    fn fresh(&self, subject: &str) -> Token {
        let token = self.token(subject).aged(0);
        let token = self.life_s.map_or(token.clone(), |life_s| token.lives(life_s));
        self.extra.iter().fold(token, |token, (name, value)| token.claim(name, value.clone()))
    }

    fn issue(&mut self, family: u64, subject: &str) -> String {
        let token = format!("rt-{}", unique());
        let subject = subject.to_string();
        self.refresh_tokens.insert(token.clone(), RefreshToken { family, subject, spent: false });
        token
    }

    /// Spends `refresh`: the new pair, or `None` and perhaps a dead family.
    fn grant(&mut self, refresh: &str, fault: Option<&Fault>) -> Option<(String, Option<String>)> {
        let Some(token) = self.refresh_tokens.get_mut(refresh) else {
            self.counts.unknown += 1;
            return None;
        };
        let (family, subject) = (token.family, token.subject.clone());
        if self.dead_families.contains(&family) {
            self.counts.unknown += 1;
            return None;
        }
        if token.spent && !self.takes_spent_tokens {
            self.counts.reuses += 1;
            self.dead_families.push(family);
            return None;
        }
        let rotates = fault != Some(&Fault::NoRefreshToken);
        token.spent = rotates;
        self.counts.grants += 1;
        let access = match fault {
            Some(Fault::WrongSubject) => self.token("mallory"),
            Some(Fault::WrongIssuer) => self.token(&subject).claim("iss", "http://elsewhere.test"),
            Some(Fault::WrongAudience) => self.token(&subject).claim("aud", "another-app"),
            Some(Fault::ExpiredToken) => self.token(&subject).expired(),
            _ => self.fresh(&subject),
        };
        Some((access.sign(), rotates.then(|| self.issue(family, &subject))))
    }

    fn end(&mut self, refresh: &str) {
        if let Some(token) = self.refresh_tokens.get(refresh) {
            let family = token.family;
            self.dead_families.push(family);
        }
    }
}

type Shared = Arc<Mutex<State>>;

async fn serve(mut stream: Stream, state: Shared, record: Record) -> std::io::Result<()> {
    while let Some(head) = wire::read_head(&mut stream).await? {
        let body = wire::read_body(&mut stream, &head).await?;
        record.add(&head, body.clone());
        let path = head.word(1).split('?').next().unwrap_or_default();
        let answer = match (head.word(0), path) {
            ("GET", "/.well-known/openid-configuration") => discovery(&state),
            ("GET", "/jwks") => jwks(&state),
            ("POST", "/token" | "/refresh" | "/json") => {
                let refresh = presented(path, &head, &body);
                token_endpoint(&mut stream, &state, path, &refresh).await?;
                continue;
            }
            ("GET", "/auth/login") => response(200, &[("Content-Type", "text/html")], LOGIN_PAGE),
            ("POST", "/auth/login") => log_in(&state, &body),
            ("POST", "/revoke") => revoke(&state, &body),
            ("POST", "/hang") => std::future::pending().await,
            ("POST", "/auth/logout") => log_out(&state, &head),
            ("GET", "/auth/me") => response(200, &[], head.all("cookie").join("; ").as_bytes()),
            _ => response(404, &[], b"no such page"),
        };
        stream.write_all(&answer).await?;
    }
    Ok(())
}

const LOGIN_PAGE: &[u8] = b"<form method=post><input name=user><button>Log in</button></form>";

fn discovery(state: &Shared) -> Vec<u8> {
    let state = state.lock().expect("no panic");
    let issuer = &state.issuer;
    let mut document = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/jwks"),
        "token_endpoint": format!("{issuer}/token"),
    });
    for (name, value) in &state.announced {
        document[*name] = json!(value.replace("BACKEND", issuer));
    }
    json_response(200, &[], &document)
}

fn jwks(state: &Shared) -> Vec<u8> {
    let state = state.lock().expect("no panic");
    let keys: Vec<&Value> = state.keys.iter().map(|key| &key.jwk).chain(&state.more_jwks).collect();
    json_response(200, &[], &json!({ "keys": keys }))
}

pub fn json_response(status: u16, headers: &[(&str, &str)], body: &Value) -> Vec<u8> {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    response(status, &headers, body.to_string().as_bytes())
}

/// The refresh token, from where the protocol carries it.
fn presented(path: &str, head: &Head, body: &[u8]) -> String {
    let found = match path {
        "/token" => form(body).remove("refresh_token"),
        "/refresh" => cookie(head, "refresh_token"),
        _ => {
            let body: Value = serde_json::from_slice(body).expect("the gateway sends JSON");
            body.pointer("/session/refresh").and_then(Value::as_str).map(str::to_string)
        }
    };
    found.unwrap_or_default()
}

async fn token_endpoint(
    stream: &mut Stream,
    state: &Shared,
    path: &str,
    refresh: &str,
) -> std::io::Result<()> {
    let fault = {
        let mut state = state.lock().expect("no panic");
        state.faults.pop_front().or_else(|| state.standing_fault.clone())
    };
    match &fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::Refuse { status, error, retry_after }) => {
            let wait: Vec<(&str, &str)> = retry_after.iter().map(|s| ("Retry-After", *s)).collect();
            let answer = json_response(*status, &wait, &json!({ "error": error }));
            return stream.write_all(&answer).await;
        }
        Some(Fault::Redirect) => {
            return stream.write_all(&response(302, &[("Location", "/token")], b"")).await;
        }
        _ => {}
    }
    let granted = state.lock().expect("no panic").grant(refresh, fault.as_ref());
    let answer = granted_answer(path, granted);
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::ResetAfterGrant) => {
            #[allow(deprecated, reason = "a zero linger is how a reset is made; nothing blocks")]
            stream.get_ref().set_linger(Some(Duration::ZERO))?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        Some(Fault::Html) => {
            let html = [("Content-Type", "text/html")];
            stream.write_all(&response(200, &html, b"<h1>Down for maintenance</h1>")).await
        }
        Some(Fault::Garbage) => stream.write_all(b"\x16\x03\x01 not http at all\r\n\r\n").await,
        Some(Fault::NoToken) => stream.write_all(&json_response(200, &[], &json!({}))).await,
        Some(Fault::Huge) => {
            let huge = json!({ "access_token": "a".repeat(10 * 1024 * 1024) });
            stream.write_all(&json_response(200, &[], &huge)).await
        }
        Some(Fault::SlowBytes) => {
            for byte in answer {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        }
        _ => stream.write_all(&answer).await,
    }
}

fn granted_answer(path: &str, granted: Option<(String, Option<String>)>) -> Vec<u8> {
    let Some((access, refresh)) = granted else {
        return match path {
            "/token" => json_response(400, &[], &json!({ "error": "invalid_grant" })),
            _ => response(401, &[], b""),
        };
    };
    match path {
        "/token" => {
            let mut body = json!({
                "access_token": access, "token_type": "Bearer", "expires_in": LIFE_S,
            });
            if let Some(refresh) = refresh {
                body["refresh_token"] = refresh.into();
            }
            json_response(200, &[("Cache-Control", "no-store")], &body)
        }
        "/refresh" => {
            let cookies = backend_cookies(&access, refresh.as_deref());
            let headers: Vec<(&str, &str)> =
                cookies.iter().map(|cookie| ("Set-Cookie", cookie.as_str())).collect();
            response(200, &headers, b"{}")
        }
        _ => {
            let body = json!({ "data": { "access": access, "refresh": refresh } });
            json_response(200, &[], &body)
        }
    }
}

/// How this backend sets its own cookies; attributes that the gateway must replace by its own.
fn backend_cookies(access: &str, refresh: Option<&str>) -> Vec<String> {
    let access = format!("access_token={access}; Path=/; Domain=backend.test; Max-Age=900");
    let refresh = refresh
        .map(|token| format!("refresh_token={token}; Path=/auth; SameSite=None; Max-Age=3600"));
    [Some(access), refresh].into_iter().flatten().collect()
}

fn log_in(state: &Shared, body: &[u8]) -> Vec<u8> {
    let mut fields = form(body);
    let user = fields.remove("user").unwrap_or_default();
    let mut state = state.lock().expect("no panic");
    state.families += 1;
    let family = state.families;
    let refresh = state.issue(family, &user);
    let access = state.fresh(&user).sign();
    let cookies = backend_cookies(&access, Some(&refresh));
    let mut headers = vec![("Location", "/home"), ("Set-Cookie", "theme=dark; Path=/")];
    headers.extend(cookies.iter().map(|cookie| ("Set-Cookie", cookie.as_str())));
    response(303, &headers, b"")
}

/// RFC 7009 §2: of a token that nobody knows it says the same.
fn revoke(state: &Shared, body: &[u8]) -> Vec<u8> {
    let body = String::from_utf8_lossy(body);
    let token = body.split('&').find_map(|pair| pair.strip_prefix("token="));
    state.lock().expect("no panic").end(token.unwrap_or_default());
    response(200, &[], b"")
}

fn log_out(state: &Shared, head: &Head) -> Vec<u8> {
    if let Some(refresh) = cookie(head, "refresh_token") {
        state.lock().expect("no panic").end(&refresh);
    }
    let clear = ["access_token=; Path=/; Max-Age=0", "refresh_token=; Path=/auth; Max-Age=0"];
    response(204, &clear.map(|cookie| ("Set-Cookie", cookie)), b"")
}

pub fn cookie(head: &Head, name: &str) -> Option<String> {
    let lines = head.all("cookie").join("; ");
    let found = lines.split("; ").find_map(|pair| pair.strip_prefix(&format!("{name}=")));
    found.map(str::to_string)
}

pub fn form(body: &[u8]) -> HashMap<String, String> {
    let pairs = String::from_utf8_lossy(body).to_string();
    pairs
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_string(), percent_decode(value)))
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).expect("two hex digits"));
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
