//! What was taken back before it expired: tokens that are no proof any more, and the end of sessions.

use super::Gateway;
use super::case::known;
use super::shown::Shown;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::decide::Token;
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::session::denials::{Denial, Denied, Issued};

/// A denied token is a broken one, however it was verified, and the session of the refresh token
/// beside it is over: nothing renews it.
pub async fn without_denied(
    gateway: &Gateway,
    token: Token,
    shown: &mut Shown<'_>,
    now: Now,
) -> Token {
    let issuer = match &token {
        Token::Valid(verified) | Token::InWindow(verified) | Token::Expired(verified)
            if gateway.denials.is_denied(verified) =>
        {
            verified.issuer
        }
        _ => return token,
    };
    Box::pin(end_record(gateway, issuer, shown, now)).await;
    Token::Broken(Reason::Revoked)
}

/// Is what a refresh brought no proof: because it is denied, or because the token that it replaces was
/// denied meanwhile, or because nothing shows that its session began after its person was denied?
pub fn is_head_denied(gateway: &Gateway, presented: &Token, head: &Verified) -> bool {
    let denials = &gateway.denials;
    match known(presented).filter(|token| token.issuer == head.issuer) {
        Some(token) => denials.is_denied(&token) || denials.is_denied(head),
        None => denials.is_denied_unvouched(head),
    }
}

/// Ends the record of the refresh token that came along, and forgets the token for this request.
pub async fn end_record(gateway: &Gateway, issuer: IssuerId, shown: &mut Shown<'_>, now: Now) {
    // Another issuer's session is another session.
    if let Some((own, refresh)) = shown.refresh.take_if(|(own, _)| *own == issuer) {
        gateway.refresher.end(own, &Secret::new(refresh), now).await;
    }
}

/// Denies the access tokens of a session that was logged out: all of its `sid` that were issued up to
/// the newest of these, so that the next login works though the backend keeps the `sid`; else each by
/// its `jti`. What has neither is good until it expires.
pub fn deny_session(gateway: &Gateway, tokens: &[&Verified], now: Now) {
    let newest = tokens.iter().filter_map(|token| token.issued_at).max();
    // The newest token may be the one that has the least to say.
    let lapses = tokens.iter().map(|token| token.expires_at).max().unwrap_or_default();
    for token in tokens {
        let issued = newest.map_or(Issued::AnyTime, |newest| Issued::Before(newest.plus(1)));
        let what = match (&token.session_id, &token.token_id) {
            (Some(id), _) => Denied::Session { id: id.clone(), issued },
            (None, Some(id)) => Denied::Token(id.clone()),
            (None, None) => {
                tracing::warn!(
                    "an access token has neither sid nor jti: it outlives its logout until it expires"
                );
                continue;
            }
        };
        let denial = Denial { issuer: token.issuer, what, lapses };
        match gateway.denials.deny(&denial, now.unix) {
            Ok(()) => gateway.metrics.revocations.with_label_values(&["logout"]).inc(),
            Err(error) => {
                tracing::error!(%error, "a logged out access token is good until it expires");
            }
        }
    }
}
