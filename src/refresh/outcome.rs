//! What an auth backend's answer means. Pure.
//!
//! Five classes, because each asks for something else:
//!
//! - **refused**: the session is over. Only a clear word counts, one of the standards' or of the
//!   operator's ([`super::dead_when`]); a network error is not a logout.
//! - **misconfigured**: the operator's turn. Sessions are kept, an alarm rises.
//! - **transient**: the backend did not do it. Try again later.
//! - **ambiguous**: sent, and no answer that can be used. The refresh token may be spent, so trying
//!   again at once could kill the session.
//! - **renewed**: new tokens, not yet verified.

use std::time::Duration;

use serde::Deserialize;

use super::dead_when::{DeadWhen, says_dead};
use super::events::Detail;
use super::settings::Protocol;
use super::{cookie, json, oauth2};
use crate::policy::secret::Secret;
use crate::policy::time::UnixSeconds;

/// A longer refresh token could not be given to a browser (4 cookies of 3,800 bytes), and ten of
/// them would be a memory problem; real ones have 40 to 2,000 bytes.
pub(super) const REFRESH_TOKEN_BYTES_MAX: usize = 8 * 1024;

/// New tokens as the backend sent them. Nothing in here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub access: Secret,
    /// `None`: the refresh token stays as it is.
    pub refresh: Option<Secret>,
    /// How long the refresh token lives, if the backend says so.
    pub max_age_s: Option<u64>,
}

/// How one call came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Renewed(Answer),
    Refused,
    Misconfigured(Detail),
    Transient {
        detail: Detail,
        retry_after: Option<Duration>,
        /// No connection: the request never left, so it may be tried again at once.
        unsent: bool,
    },
    Ambiguous(Detail),
}

/// An HTTP answer, as much of it as was read.
pub(super) struct Reply<'a> {
    pub status: u16,
    pub retry_after: Option<&'a str>,
    pub set_cookies: Vec<&'a str>,
    /// `Err`: it was cut off, too slow or too long.
    pub body: Result<&'a [u8], Detail>,
}

/// Judges an answer of the auth backend.
pub(super) fn classify(
    reply: &Reply,
    protocol: &Protocol,
    dead_when: &[DeadWhen],
    now: UnixSeconds,
) -> Outcome {
    let outcome = by_standard(reply, protocol, now);
    let failed = !matches!(outcome, Outcome::Renewed(_));
    if failed && says_dead(dead_when, reply) { Outcome::Refused } else { outcome }
}

fn by_standard(reply: &Reply, protocol: &Protocol, now: UnixSeconds) -> Outcome {
    let transient = |word| Outcome::Transient {
        detail: Detail { word, status: Some(reply.status) },
        retry_after: reply.retry_after.and_then(|value| parse_retry_after(value, now)),
        unsent: false,
    };
    match reply.status {
        200..=399 => renewed(reply, protocol, now),
        408 | 425 | 429 if !says_refused(reply) => transient("busy"),
        400..=499 => rejected(reply, protocol),
        500..=599 => transient("server_error"),
        _ => Outcome::Misconfigured(Detail { word: "bad_status", status: Some(reply.status) }),
    }
}

fn renewed(reply: &Reply, protocol: &Protocol, now: UnixSeconds) -> Outcome {
    let redirect = reply.status >= 300;
    let answer = match (protocol, &reply.body) {
        // The tokens are in the header: a body that broke off loses nothing.
        (Protocol::Cookie { access_name, refresh_name }, _) => {
            cookie::tokens(&reply.set_cookies, access_name, refresh_name, now)
        }
        (_, _) if redirect => None,
        (_, Err(detail)) => {
            return Outcome::Ambiguous(Detail { status: Some(reply.status), ..*detail });
        }
        (Protocol::OAuth2 { .. }, Ok(body)) => oauth2::tokens(body),
        (Protocol::Json { receive_access, receive_refresh, .. }, Ok(body)) => {
            json::tokens(body, receive_access, receive_refresh)
        }
    };
    let status = Some(reply.status);
    match answer.and_then(plausible) {
        Some(answer) => Outcome::Renewed(answer),
        // Redirects are not followed: a refresh token goes to the configured address only.
        None if redirect => Outcome::Misconfigured(Detail { word: "redirect", status }),
        None => Outcome::Ambiguous(Detail { word: "no_token", status }),
    }
}

fn rejected(reply: &Reply, protocol: &Protocol) -> Outcome {
    let status = Some(reply.status);
    let misconfigured = |word| Outcome::Misconfigured(Detail { word, status });
    if let Err(detail) = reply.body
        && !matches!(reply.status, 404 | 405 | 415)
    {
        return Outcome::Ambiguous(Detail { status, ..detail });
    }
    match error_code(reply).as_deref() {
        Some(code) if is_refusal(code) => Outcome::Refused,
        Some("invalid_client") => misconfigured("invalid_client"),
        Some("unauthorized_client") => misconfigured("unauthorized_client"),
        Some("unsupported_grant_type") => misconfigured("unsupported_grant_type"),
        Some("invalid_scope") => misconfigured("invalid_scope"),
        Some(_) | None => match (reply.status, protocol) {
            // A home-made backend's word for "log in again".
            (401 | 403, Protocol::Cookie { .. } | Protocol::Json { .. }) => Outcome::Refused,
            (404, _) => misconfigured("not_found"),
            (405, _) => misconfigured("method_not_allowed"),
            (415, _) => misconfigured("unsupported_media_type"),
            (_, Protocol::OAuth2 { .. } | Protocol::Cookie { .. } | Protocol::Json { .. }) => {
                misconfigured("unexpected_status")
            }
        },
    }
}

/// RFC 6749 §5.2; OpenID Connect Core 1.0 §3.1.2.6 for the answers that ask for a person.
fn is_refusal(code: &str) -> bool {
    matches!(code, "invalid_grant" | "login_required" | "interaction_required" | "consent_required")
}

fn says_refused(reply: &Reply) -> bool {
    error_code(reply).is_some_and(|code| is_refusal(&code))
}

fn error_code(reply: &Reply) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorBody {
        error: String,
    }
    let body = reply.body.ok()?;
    serde_json::from_slice(body).ok().map(|ErrorBody { error }| error)
}

fn plausible(answer: Answer) -> Option<Answer> {
    let refresh = answer.refresh.as_ref().map_or(0, |refresh| refresh.expose().len());
    (!answer.access.expose().is_empty() && refresh <= REFRESH_TOKEN_BYTES_MAX).then_some(answer)
}

/// RFC 9110 §10.2.3: seconds or a date.
fn parse_retry_after(value: &str, now: UnixSeconds) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(Duration::from_secs(unix_of_date(value)?.since(now)))
}

/// An HTTP date (RFC 9110 §5.6.7).
pub(super) fn unix_of_date(value: &str) -> Option<UnixSeconds> {
    let date = httpdate::parse_http_date(value).ok()?;
    Some(UnixSeconds(date.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refresh::settings::ClientAuth;

    /// 1994-11-06 08:49:37 UTC, the day of the dates in the file.
    const NOW: UnixSeconds = UnixSeconds(784_111_777);

    fn protocol(name: &str) -> Protocol {
        match name {
            "oauth2" => Protocol::OAuth2 { client_id: None, client_auth: ClientAuth::None },
            "cookie" => Protocol::Cookie { access_name: "at".into(), refresh_name: "rt".into() },
            "json" => Protocol::Json {
                send_refresh: "/refresh_token".into(),
                receive_access: "/access_token".into(),
                receive_refresh: "/refresh_token".into(),
            },
            other => panic!("no such protocol: {other}"),
        }
    }

    fn describe(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Renewed(answer) => {
                let refresh = answer.refresh.as_ref().map_or("", |refresh| refresh.expose());
                format!("renewed {} {refresh}", answer.access.expose()).trim_end().to_owned()
            }
            Outcome::Refused => "refused".to_owned(),
            Outcome::Misconfigured(detail) => format!("misconfigured {}", detail.word),
            Outcome::Transient { detail, retry_after, unsent } => {
                assert!(!unsent, "it was answered");
                let after = retry_after.map(|rest| format!(" after {}", rest.as_secs()));
                format!("transient {}{}", detail.word, after.unwrap_or_default())
            }
            Outcome::Ambiguous(detail) => format!("ambiguous {}", detail.word),
        }
    }

    /// One line of the file, judged.
    fn judge(case: &str) -> String {
        judge_with(&[], case)
    }

    fn judge_with(dead_when: &[DeadWhen], case: &str) -> String {
        let parts: Vec<&str> = case.splitn(4, '|').map(str::trim).collect();
        let [name, status, header, body] = parts[..] else { panic!("not a case: {case}") };
        let header = |name: &str| header.strip_prefix(name)?.strip_prefix(": ");
        let reply = Reply {
            status: status.parse().unwrap(),
            retry_after: header("Retry-After"),
            set_cookies: header("Set-Cookie").into_iter().collect(),
            body: if body == "cut" {
                Err(Detail::new("body_cut_off"))
            } else {
                Ok(body.as_bytes())
            },
        };
        describe(&classify(&reply, &protocol(name), dead_when, NOW))
    }

    #[test]
    fn every_answer_of_the_list_is_judged_as_it_says() {
        let list = include_str!("../../tests/data/refresh_answers.txt");
        let cases = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut judged = 0;
        for case in cases {
            let (case, expected) = case.rsplit_once("=>").unwrap();
            assert_eq!(judge(case), expected.trim(), "{case}");
            judged += 1;
        }
        assert!(judged > 60, "only {judged} cases");
    }

    #[test]
    fn a_refresh_token_too_long_for_any_browser_is_not_taken() {
        let body =
            |length| format!(r#"{{"access_token":"A","refresh_token":"{}"}}"#, "x".repeat(length));
        for (length, taken) in
            [(REFRESH_TOKEN_BYTES_MAX, true), (REFRESH_TOKEN_BYTES_MAX + 1, false)]
        {
            let body = body(length);
            let reply = Reply {
                status: 200,
                retry_after: None,
                set_cookies: Vec::new(),
                body: Ok(body.as_bytes()),
            };
            let outcome = classify(&reply, &protocol("oauth2"), &[], NOW);
            assert_eq!(matches!(outcome, Outcome::Renewed(_)), taken);
        }
    }

    #[test]
    fn an_operators_word_turns_any_failure_into_a_refusal_and_never_a_success() {
        let error = DeadWhen { status: vec![], json: vec![("/error".into(), vec!["gone".into()])] };
        let dead_when = [error, DeadWhen { status: vec![302], json: vec![] }];
        for (case, expected) in [
            (r#"oauth2 | 400 | | {"error":"gone"}"#, "refused"),
            (r#"oauth2 | 200 | | {"error":"gone"}"#, "refused"),
            (r#"oauth2 | 500 | | {"error":"gone"}"#, "refused"),
            (r#"oauth2 | 429 | Retry-After: 7 | {"error":"gone"}"#, "refused"),
            ("cookie | 302 | Location: /login |", "refused"),
            (r#"oauth2 | 200 | | {"access_token":"A","error":"gone"}"#, "renewed A"),
            ("cookie | 302 | Set-Cookie: at=A; Path=/ |", "renewed A"),
            (r#"oauth2 | 400 | | {"error":"other"}"#, "misconfigured unexpected_status"),
            (r#"oauth2 | 400 | | {"error":"invalid_grant"}"#, "refused"),
        ] {
            assert_eq!(judge_with(&dead_when, case), expected, "{case}");
        }
    }

    #[test]
    fn deep_nesting_is_an_unclear_answer() {
        let body = "[".repeat(60_000);
        let deep = |name| judge(&format!("{name} | 200 | | {body}"));
        assert_eq!(deep("oauth2"), "ambiguous no_token");
        assert_eq!(deep("json"), "ambiguous no_token");
        assert_eq!(judge(&format!("oauth2 | 400 | | {body}")), "misconfigured unexpected_status");
    }
}
