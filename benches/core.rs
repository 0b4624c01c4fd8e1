//! What one request costs in the core: path, route, cookies, verification, decision.
//!
//! `cargo bench --bench core`; times only. What a whole request costs is `./dev bench`.

use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use criterion::{Criterion, criterion_group, criterion_main};
use evergate::clock;
use evergate::config::{self, Config};
use evergate::policy::claims::{IssuerId, Verified};
use evergate::policy::credentials::{Cookies, forward};
use evergate::policy::decide::{Asked, Client, Session, Token, decide};
use evergate::policy::path::{PathRules, canonicalise};
use evergate::policy::route::table::RouteTable;
use evergate::policy::time::Now;
use evergate::token::{KeySource, TokenLimits, Tokens, Verdict};
use futures_util::FutureExt;
use http::Method;
use jsonwebtoken::Algorithm;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ISSUER: &str = "https://issuer.example";

fn configured(routes: &str) -> Result<Config, String> {
    let text = format!(
        "listen: 127.0.0.1:0\nupstream: http://127.0.0.1:3000\ncookies: {{ secure: false }}\n\
         issuer: {{ url: \"{ISSUER}\", audience: bench }}\nroutes:\n{routes}  - {{ path: /* }}\n"
    );
    config::from_str("bench.yaml", &text, &|_| None)
        .map(|loaded| loaded.config)
        .map_err(|diagnostics| diagnostics.to_string())
}

fn path(c: &mut Criterion) {
    let rules = PathRules::default();
    let mut group = c.benchmark_group("canonicalise");
    for (name, target) in [
        ("plain", &b"/app/section-00042/pages/7?tab=2"[..]),
        ("escaped", b"/app/caf%c3%a9/%7Ealice/a%20b?tab=2"),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| canonicalise(black_box(target), Some("app.example"), &rules).is_ok());
        });
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for count in [10, 10_000] {
        let routes: String =
            (0..count).map(|n| format!("  - {{ path: /app/section-{n:05}/pages/* }}\n")).collect();
        let table = RouteTable::new(configured(&routes).unwrap().routes).unwrap();
        let path = format!("/app/section-{:05}/pages/7", count / 2);
        group.bench_function(format!("find among {count}"), |b| {
            b.iter(|| {
                black_box(table.find(Some("app.example:8080"), black_box(&path), &Method::GET));
            });
        });
    }
}

fn cookies(c: &mut Criterion) {
    let settings = configured("").unwrap().cookies;
    let line = format!("theme=dark; evergate_access={}; lang=en", "x".repeat(450));
    let mut group = c.benchmark_group("cookies");
    group.bench_function("find", |b| {
        b.iter(|| black_box(Cookies::read([black_box(line.as_bytes())], &settings)));
    });
    group.bench_function("strip", |b| {
        b.iter(|| black_box(forward::strip([black_box(line.as_bytes())], &settings, &[])));
    });
}

fn verification(c: &mut Criterion) {
    let now = clock::now();
    let mut group = c.benchmark_group("verify");
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let (tokens, token) = issued(algorithm, now).unwrap();
        assert!(verified(&tokens, &token, now).is_some(), "{algorithm:?}");
        group.bench_function(format!("{algorithm:?}"), |b| {
            b.iter(|| verified(&tokens, black_box(&token), now));
        });
    }
    let (tokens, token) = issued(Algorithm::ES256, now).unwrap();
    let first = tokens.verify(&token, &[IssuerId(0)], now).now_or_never();
    assert!(matches!(first, Some(Verdict::Good(_))));
    assert!(tokens.cached(&token, &[IssuerId(0)], now).is_some());
    group.bench_function("seen before", |b| {
        b.iter(|| tokens.cached(black_box(&token), &[IssuerId(0)], now));
    });
}

fn decision(c: &mut Criterion) {
    let now = clock::now();
    let (tokens, token) = issued(Algorithm::ES256, now).unwrap();
    let verified = verified(&tokens, &token, now).unwrap();
    let routes =
        configured("  - { path: /admin/*, require: { roles: [admin, staff] } }\n").unwrap();
    let route = routes.routes.iter().find(|route| !route.require.is_empty()).unwrap();
    let asked = Asked {
        client: Client::Navigation,
        bearer: false,
        may_refresh_alongside: true,
        preflight: false,
        source_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let mut group = c.benchmark_group("decide");
    for (name, token, session) in [
        ("valid", Token::Valid(Arc::clone(&verified)), Session::NotAsked),
        ("in the window", Token::InWindow(Arc::clone(&verified)), Session::Live),
        ("expired", Token::Expired(verified), Session::Live),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| black_box(decide(route, black_box(&asked), &token, &session)));
        });
    }
}

/// A complete verification, which is not remembered.
fn verified(tokens: &Tokens, token: &str, now: Now) -> Option<Arc<Verified>> {
    match tokens.verify_new(token, IssuerId(0), now).now_or_never() {
        Some(Verdict::Good(verified)) => Some(verified),
        _ => None,
    }
}

/// An issuer with one key of its own, and a token of that key.
fn issued(algorithm: Algorithm, now: Now) -> Result<(Arc<Tokens>, String), Box<dyn Error>> {
    let head = json!({ "alg": algorithm, "typ": "at+jwt" });
    let claims = json!({
        "iss": ISSUER, "aud": "bench", "sub": "0b5d3c5e-6a0f-4c39-9f1e-2f6f3c0d9a11",
        "iat": now.unix.0, "exp": now.unix.0 + 86_400, "jti": "7d1f",
        "email": "alice@example.org", "roles": ["staff", "editor"], "scope": "openid profile",
    });
    let part = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let message = format!("{}.{}", part(&head), part(&claims));
    let random = SystemRandom::new();
    let (signature, public) = match algorithm {
        Algorithm::RS256 => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)?;
            (signature, key.public_key().as_der()?.as_ref().to_vec())
        }
        Algorithm::ES256 => {
            let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
            let signature = key.sign(&random, message.as_bytes())?.as_ref().to_vec();
            (signature, key.public_key().as_der()?.as_ref().to_vec())
        }
        _ => {
            let key = Ed25519KeyPair::generate()?;
            (
                key.sign(message.as_bytes()).as_ref().to_vec(),
                key.public_key().as_der()?.as_ref().to_vec(),
            )
        }
    };
    let mut issuers = configured("")?.issuers;
    for issuer in &mut issuers {
        issuer.algorithms = vec![algorithm];
        issuer.keys = KeySource::Pem(pem(&public));
    }
    let limits = TokenLimits { token_bytes_max: 8192, verified_tokens_max: 1000 };
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    Ok((Tokens::new(issuers, limits)?, token))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .filter_map(|at| text.get(at..text.len().min(at + 64)))
        .collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

criterion_group!(core, path, route, cookies, verification, decision);
criterion_main!(core);
