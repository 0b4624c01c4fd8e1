//! Where session records are kept.

use super::Context;
use crate::config::SharedStore;
use crate::config::raw::store::{self as raw, Kind};
use crate::config::reports::{KeyPath, Problem};
use crate::refresh::OnFailure;
use crate::store::{STORE_KEY_BYTES_MIN, StoreAddress, StoreSettings};

const URL_FORM: &str = "expected `redis://host:6379/0`, `redis+sentinel://h1,h2/master` or \
                        `redis+cluster://h1,h2`; `rediss` for TLS";
const KEY_FORM: &str = "expected at least 32 random bytes, as `openssl rand -base64 32` prints";

/// `None`: in this process only.
pub fn store(cx: &mut Context<'_>) -> Option<SharedStore> {
    let raw = &cx.raw.store;
    let at = KeyPath::root().key("store");
    let address = raw.url.as_deref().map(StoreAddress::parse);
    if address.as_ref().is_some_and(Result::is_err) {
        // Somebody may have written a password into it.
        cx.hide(&at.key("url"));
    }
    if raw.kind == Kind::Memory {
        for (key, given) in [
            ("url", raw.url.is_some()),
            ("password", raw.password.is_some()),
            ("key", raw.key.is_some()),
            ("on_failure", raw.on_failure.is_some()),
        ] {
            if given {
                cx.error(&at.key(key), "without effect: only `kind: redis` uses it", "");
            }
        }
        return None;
    }
    if raw.url.is_none() {
        cx.error(&at.key("url"), "missing: where is it?", URL_FORM);
    }
    if raw.key.is_none() {
        let what = "missing: what is kept in a shared store is sealed with it";
        cx.error(&at.key("key"), what, KEY_FORM);
    }
    let address = address.and_then(|parsed| {
        let parsed = parsed.map_err(|error| Problem::error(error.to_string()).expected(URL_FORM));
        cx.ok(&at.key("url"), parsed)
    });
    let password = raw.password.as_ref();
    let password = password.and_then(|source| cx.secret(&at.key("password"), source));
    let key = raw.key.as_ref().and_then(|source| cx.secret(&at.key("key"), source))?;
    let bytes = key.expose().len();
    if bytes < STORE_KEY_BYTES_MIN {
        cx.error(&at.key("key"), format!("{bytes} bytes are too short"), KEY_FORM);
    }
    let on_failure = match raw.on_failure {
        Some(raw::OnFailure::Local) => OnFailure::Local,
        Some(raw::OnFailure::Deny) | None => OnFailure::Deny,
    };
    Some(SharedStore { settings: StoreSettings { address: address?, password, key }, on_failure })
}
