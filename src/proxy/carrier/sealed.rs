//! `carrier: sealed`: both tokens in one cookie that only gateways can open.

use http::HeaderValue;

use super::{Leaving, session_cookie};
use crate::policy::claims::IssuerId;
use crate::policy::kept::{Kept, SessionValue};
use crate::proxy::Gateway;
use crate::proxy::shown::SeenCookies;

/// What else is sealed with the same keys does not open as a session.
const PURPOSE: &str = "session cookie";

/// What was sealed here. `None`: by nobody who has one of our keys, or not as it was.
pub fn open(gateway: &Gateway, text: &str) -> Option<Kept> {
    Kept::from_bytes(&gateway.seals.open(PURPOSE, text)?)
}

/// The Set-Cookie lines; none if the tokens are too long, as with any cookie.
pub fn lines(gateway: &Gateway, leaving: &Leaving<'_>, seen: SeenCookies) -> Vec<HeaderValue> {
    let bytes = leaving.kept(gateway).and_then(|kept| kept.to_bytes());
    let Some(text) = bytes.and_then(|bytes| gateway.seals.seal(PURPOSE, &bytes)) else {
        tracing::error!("a session cannot be sealed");
        return Vec::new();
    };
    session_cookie(gateway, SessionValue::Sealed(&text), leaving.max_age_s, seen)
}

/// The issuer that a session names, if there is one of this name still.
pub fn issuer(gateway: &Gateway, name: &str) -> Option<IssuerId> {
    let index = gateway.issuer_names.iter().position(|known| **known == *name)?;
    u16::try_from(index).ok().map(IssuerId)
}
