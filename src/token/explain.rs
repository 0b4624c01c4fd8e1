//! A token explained to an operator (`evergate token FILE|-`).
//!
//! Shows header and claims, which are no secrets to whoever holds the token; never the signature, so
//! that what is printed cannot be used.

use std::sync::Arc;

use super::issuer::Asker;
use super::json::Object;
use super::tokens::{Judged, Tokens};
use super::{Verdict, human_time, jws};
use crate::policy::claims::IssuerId;
use crate::policy::time::{Now, UnixSeconds, numeric_date};

/// Everything there is to say about one token.
#[derive(Debug)]
pub struct Explanation {
    /// `None` where it is not base64url of a JSON object.
    pub header: Option<Object>,
    pub claims: Option<Object>,
    pub times: Vec<ExplainedTime>,
    /// The configured issuer that its `iss` names.
    pub issuer: Option<ExplainedIssuer>,
    /// The id of the key that signed it, if one did.
    pub key: Option<String>,
    pub verdict: Verdict,
    /// One sentence for the verdict.
    pub detail: &'static str,
}

/// `exp`, `nbf`, `iat` or `auth_time`.
#[derive(Debug, PartialEq, Eq)]
pub struct ExplainedTime {
    pub claim: &'static str,
    pub at: UnixSeconds,
    /// `2027-01-15T08:00:00Z`.
    pub iso: String,
    /// `in 4 min 10 s`.
    pub relative: String,
}

/// What the configuration asks of this issuer's tokens.
#[derive(Debug)]
pub struct ExplainedIssuer {
    pub name: Arc<str>,
    pub url: String,
    pub audience: Vec<String>,
    pub algorithms: Vec<String>,
    pub token_types: Vec<String>,
}

impl Tokens {
    /// Verifies `token` for any issuer, fetching keys if need be, and says what it found.
    pub async fn explain(&self, token: &str, now: Now) -> Explanation {
        let every_issuer: Vec<IssuerId> = self.issuer_ids().collect();
        let judged = self.judge(token, &every_issuer, Asker::Ourselves, now).await;
        let (header, claims) = jws::peek(token);
        let times = claims.as_ref().map(|claims| times(claims, now.unix)).unwrap_or_default();
        let Judged { verdict, detail, issuer, key } = judged;
        Explanation {
            header,
            claims,
            times,
            issuer: issuer.and_then(|id| self.explain_issuer(id)),
            key: key.map(|key| key.label().to_owned()),
            verdict,
            detail,
        }
    }

    fn explain_issuer(&self, id: IssuerId) -> Option<ExplainedIssuer> {
        let settings = &self.issuer(id)?.settings;
        Some(ExplainedIssuer {
            name: Arc::clone(&settings.name),
            url: settings.url.clone(),
            audience: settings.audience.clone(),
            algorithms: settings.algorithms.iter().map(|alg| format!("{alg:?}")).collect(),
            token_types: settings.token_types.clone(),
        })
    }
}

fn times(claims: &Object, now: UnixSeconds) -> Vec<ExplainedTime> {
    let named = ["iat", "nbf", "exp", "auth_time"].into_iter();
    named
        .filter_map(|claim| {
            let at = numeric_date(claims.get(claim)?)?;
            let (iso, relative) = (human_time::iso(at), human_time::relative(at, now));
            Some(ExplainedTime { claim, at, iso, relative })
        })
        .collect()
}
