//! What a remembered token and a session record take of memory, in the real code.
//!
//! A number of them is made, and the process looked at before and after (`VmRSS`, so Linux only). The
//! allocator is the gateway's own. One thread, so that nothing else grows meanwhile.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use evergate::config::{self, Config};
use evergate::policy::claims::IssuerId;
use evergate::policy::decide::Session;
use evergate::policy::secret::Secret;
use evergate::policy::time::{Now, UnixSeconds};
use evergate::refresh::{
    Answer, Ask, AuthBackend, Edges, Outcome, Parts, Presented, RefreshLimits, Refresher,
};
use evergate::token::{TokenLimits, Tokens, Verdict};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::runtime::{Builder, Handle};

const ISSUER: &str = "https://id.example.com/realms/staff";
const KEY: &str = "thirty-two bytes and a few more for HS256";
const START: u64 = 1_800_000_000;
const LIFE_S: u64 = 300;

const TOKENS: u64 = 50_000;
const SESSIONS: u64 = 20_000;
/// How often each session is renewed: each leaves one more hash, and eight a session are kept when
/// the ledger is full.
const RENEWALS: u64 = 7;

/// How much a token says.
#[derive(Clone, Copy)]
enum Kind {
    /// A home-made backend's: who, for whom, until when, and two roles.
    Small,
    /// About what Keycloak sets by default.
    Large,
}

pub fn print() -> Result<(), Box<dyn Error>> {
    if resident().is_none() {
        println!("memory: not measured, there is no /proc/self/status");
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    println!("| bytes | small token | large token |\n| --- | ---: | ---: |");
    let kinds = [Kind::Small, Kind::Large];
    let [small, large] = kinds.map(|kind| token(kind, 0, 0).len());
    println!("| access token | {small} | {large} |");
    let [small, large] = kinds.map(|kind| refresh_token(kind, 0).len());
    println!("| refresh token | {small} | {large} |");
    runtime.block_on(async {
        // All is kept: what is freed would be used again, and not be seen to grow.
        let (small, small_kept) = sessions(Kind::Small).await?;
        let (large, large_kept) = sessions(Kind::Large).await?;
        for ((renewals, small), (_, large)) in small.into_iter().zip(large) {
            println!("| session record, renewed {renewals} times | {small} | {large} |");
        }
        let (small, small_tokens) = remembered_tokens(Kind::Small).await?;
        let (large, large_tokens) = remembered_tokens(Kind::Large).await?;
        println!("| entry of the verified-token cache | {small} | {large} |");
        drop((small_kept, large_kept, small_tokens, large_tokens));
        Ok(())
    })
}

/// Bytes an entry of the verified-token cache.
async fn remembered_tokens(kind: Kind) -> Result<(u64, Arc<Tokens>), Box<dyn Error>> {
    let tokens = verifier(&config()?)?;
    let before = resident().unwrap_or(0);
    for number in 0..TOKENS {
        match tokens.verify(&token(kind, number, 0), &[IssuerId(0)], at(0)).await {
            Verdict::Good(_) => {}
            other => return Err(format!("a token that is no good: {other:?}").into()),
        }
    }
    Ok((resident().unwrap_or(0).saturating_sub(before) / TOKENS, tokens))
}

/// Bytes a session record, after so many renewals.
async fn sessions(kind: Kind) -> Result<(Vec<(u64, u64)>, Refresher), Box<dyn Error>> {
    let config = config()?;
    let clock = Arc::new(AtomicU64::new(0));
    let refresher = refresher(kind, &config, &clock)?;
    let mut each = Vec::new();
    let before = resident().unwrap_or(0);
    for renewal in 1..=RENEWALS {
        // Past the end of the last token: every session is renewed.
        clock.fetch_add(LIFE_S + 1, Ordering::Relaxed);
        let now = at(clock.load(Ordering::Relaxed));
        for number in 0..SESSIONS {
            let shown = number + (renewal - 1) * SESSIONS;
            let presented = Presented {
                issuer: IssuerId(0),
                refresh_token: Secret::new(refresh_token(kind, shown)),
                access: None,
                // A stranger until the backend has answered, and an address has only so many.
                client: IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            };
            match refresher.renew(&presented, Duration::from_secs(5), now).await {
                (Session::Renewed(_), _) => {}
                (other, _) => return Err(format!("not renewed: {other:?}").into()),
            }
        }
        if renewal == 1 || renewal == RENEWALS {
            each.push((renewal, resident().unwrap_or(0).saturating_sub(before) / SESSIONS));
        }
    }
    Ok((each, refresher))
}

/// Answers each refresh token with the session's next one and a new access token.
struct Issuing(Kind);

#[async_trait]
impl AuthBackend for Issuing {
    async fn renew(&self, ask: &Ask, now: Now) -> Outcome {
        let number = ask.refresh.expose().rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
        let number = number.unwrap_or_default() + SESSIONS;
        let age = now.unix.since(UnixSeconds(START));
        Outcome::Renewed(Answer {
            access: Secret::new(token(self.0, number, age)),
            refresh: Some(Secret::new(refresh_token(self.0, number))),
            max_age_s: None,
        })
    }
}

fn refresher(
    kind: Kind,
    config: &Config,
    clock: &Arc<AtomicU64>,
) -> Result<Refresher, Box<dyn Error>> {
    let clock = Arc::clone(clock);
    let backend: Arc<dyn AuthBackend> = Arc::new(Issuing(kind));
    Ok(Refresher::new(Parts {
        issuers: config.refresh.iter().map(|s| (s.clone(), Arc::clone(&backend))).collect(),
        limits: RefreshLimits { sessions_max: SESSIONS as usize + 1_000 },
        hash_key: [7; 32],
        verify: verifier(config)? as _,
        edges: Edges {
            now: Arc::new(move || at(clock.load(Ordering::Relaxed))),
            random: Arc::new(|| 0.5),
        },
        runtime: Handle::current(),
        observer: Arc::new(|_| {}),
        store: None,
    }))
}

fn verifier(config: &Config) -> Result<Arc<Tokens>, Box<dyn Error>> {
    let limits = TokenLimits { token_bytes_max: 8192, verified_tokens_max: TOKENS * 2 };
    Ok(Tokens::new(config.issuers.clone(), limits)?)
}

fn config() -> Result<Config, String> {
    let text = format!(
        "listen: 127.0.0.1:0\nupstream: http://127.0.0.1:3000\ncookies: {{ secure: false }}\n\
         issuer: {{ url: \"{ISSUER}\", audience: legacy-app, keys: {{ secret: \"{KEY}\" }} }}\n\
         refresh: {{ url: \"http://127.0.0.1:4000/token\" }}\nroutes: [{{ path: /* }}]\n"
    );
    config::from_str("scaling.yaml", &text, &|_| None)
        .map(|loaded| loaded.config)
        .map_err(|diagnostics| diagnostics.to_string())
}

fn at(seconds: u64) -> Now {
    Now { unix: UnixSeconds(START), uptime: Duration::ZERO }.later(Duration::from_secs(seconds))
}

/// A signed access token; empty, and so refused, if it could not be signed.
fn token(kind: Kind, number: u64, age: u64) -> String {
    let subject = format!("0b5d3c5e-6a0f-4c39-9f1e-{:012}", number % SESSIONS);
    let claims = match kind {
        Kind::Small => json!({
            "iss": ISSUER, "aud": "legacy-app", "sub": subject,
            "iat": START + age, "exp": START + age + LIFE_S, "jti": format!("{number:016x}"),
            "email": "alice@example.com", "roles": ["staff", "editor"],
        }),
        Kind::Large => json!({
            "iss": ISSUER, "aud": ["legacy-app", "account"], "sub": subject,
            "iat": START + age, "exp": START + age + LIFE_S, "jti": format!("onrtac:{number:032x}"),
            "auth_time": START, "typ": "Bearer", "azp": "legacy-app",
            "sid": format!("7d0c1f4a-43b0-4a7e-8a55-{:012}", number % SESSIONS),
            "acr": "1", "allowed-origins": ["https://app.example.com"],
            "realm_access": { "roles": ["default-roles-staff", "offline_access", "uma_authorization"] },
            "resource_access": { "account": { "roles": ["manage-account", "view-profile"] } },
            "scope": "openid email profile", "email_verified": true, "name": "Alice Liddell",
            "preferred_username": "alice", "given_name": "Alice", "family_name": "Liddell",
            "email": "alice@example.com",
        }),
    };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes()))
        .unwrap_or_default()
}

/// 256 random bits in Base64, or a token of its own as Keycloak's are. Ends with its number.
fn refresh_token(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Small => format!("{}-{number:012}", "r".repeat(30)),
        Kind::Large => format!("{}-{number:012}", "r".repeat(587)),
    }
}

/// Bytes of memory that the process holds.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
