//! The room as a whole, against a fake issuer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, HS256, PS256, RS256};
use serde_json::{Value, json};

use super::testing::*;
use super::*;
use crate::policy::claims::IssuerId;
use crate::policy::time::{Now, UnixSeconds};

mod verifying;
mod caching;
mod fetching;
mod outages;
mod sources;
mod showing;

async fn verdict(tokens: &Tokens, token: &str, now: Now) -> String {
    word(&tokens.verify(token, &[ISSUER], now).await)
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Good(verified) => format!("good {}", verified.subject),
        Verdict::Expired(_) => "expired".to_owned(),
        Verdict::Bad(reason) => reason.word().to_owned(),
        Verdict::KeysUnavailable { retry_after_s } => format!("unavailable {retry_after_s}"),
    }
}

fn later(seconds: u64) -> Now {
    NOW.later(Duration::from_secs(seconds))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Good for an hour, so that only what a test is about ends it.
fn lasting() -> Value {
    claims(json!({"exp": NOW.unix.0 + 3_600}))
}
