//! Where verification keys come from, and which algorithms they may be used with.

use jsonwebtoken::Algorithm;

use super::{Context, url};
use crate::config::raw::issuer::{self as raw, Issuer, Keys};
use crate::config::reports::{KeyPath, Problem};
use crate::policy::secret::Secret;
use crate::token::KeySource;

pub fn source(cx: &mut Context<'_>, at: &KeyPath, keys: &Keys) -> KeySource {
    match keys {
        Keys::Discovery => KeySource::Discovery,
        Keys::Url(text) => {
            cx.ok(&at.key("url"), url::parse_trusted(text));
            KeySource::Url(text.clone())
        }
        Keys::File(path) => KeySource::File(cx.file(&at.key("file"), path)),
        Keys::Pem(text) => {
            cx.ok(&at.key("pem"), public_pem(text));
            KeySource::Pem(text.clone())
        }
        Keys::Secret(source) => {
            let at = at.key("secret");
            let secret = cx.secret(&at, source).unwrap_or_default();
            KeySource::Secret(secret)
        }
    }
}

/// HS* is for shared secrets and only for them: a public key used as an HMAC secret would let
/// everyone sign (RFC 8725 §2.1).
pub fn algorithms(cx: &mut Context<'_>, at: &KeyPath, issuer: &Issuer) -> Vec<Algorithm> {
    let shared = matches!(issuer.keys, Keys::Secret(_));
    let Some(list) = &issuer.algorithms else { return Vec::new() };
    if list.0.is_empty() {
        cx.error(at, "no algorithm at all: no token could be verified", "for example `[ES256]`");
    }
    for (index, algorithm) in list.0.iter().enumerate() {
        let symmetric = is_symmetric(*algorithm);
        if symmetric && !shared {
            let what = format!("{algorithm:?} needs `keys: {{ secret: … }}`");
            cx.error(&at.item(index), what, "expected RS*, PS*, ES* or EdDSA");
        }
        if !symmetric && shared {
            let what = format!("{algorithm:?} cannot be used with a shared secret");
            cx.error(&at.item(index), what, "expected HS256, HS384 or HS512");
        }
    }
    list.0.iter().map(|algorithm| convert(*algorithm)).collect()
}

/// RFC 7518 §3.2 asks for a secret as long as the hash. The backend has chosen it, so a shorter one
/// is warned of, not refused: without the gateway it would be just as short.
pub fn short_secret(cx: &mut Context<'_>, at: &KeyPath, algorithms: &[Algorithm], secret: &Secret) {
    let needed = |algorithm: &Algorithm| match algorithm {
        Algorithm::HS512 => 64,
        Algorithm::HS384 => 48,
        _ => 32,
    };
    let needed = algorithms.iter().map(needed).max().unwrap_or(32);
    let bytes = secret.expose().len();
    if bytes > 0 && bytes < needed {
        let what = "a short secret: whoever has a token can search for it";
        cx.report(at, Problem::warning(what).expected(format!("at least {needed} random bytes")));
    }
}

fn public_pem(text: &str) -> Result<(), Problem> {
    let expected = "expected `-----BEGIN PUBLIC KEY-----` or a certificate";
    if text.contains("PRIVATE KEY-----") {
        return Err(Problem::error("a private key does not belong here").expected(expected));
    }
    if !text.contains("-----BEGIN ") || !text.contains("-----END ") {
        return Err(Problem::error("not PEM").expected(expected));
    }
    Ok(())
}

fn is_symmetric(algorithm: raw::Algorithm) -> bool {
    match algorithm {
        raw::Algorithm::HS256 | raw::Algorithm::HS384 | raw::Algorithm::HS512 => true,
        raw::Algorithm::RS256
        | raw::Algorithm::RS384
        | raw::Algorithm::RS512
        | raw::Algorithm::PS256
        | raw::Algorithm::PS384
        | raw::Algorithm::PS512
        | raw::Algorithm::ES256
        | raw::Algorithm::ES384
        | raw::Algorithm::EdDSA => false,
    }
}

fn convert(algorithm: raw::Algorithm) -> Algorithm {
    match algorithm {
        raw::Algorithm::RS256 => Algorithm::RS256,
        raw::Algorithm::RS384 => Algorithm::RS384,
        raw::Algorithm::RS512 => Algorithm::RS512,
        raw::Algorithm::PS256 => Algorithm::PS256,
        raw::Algorithm::PS384 => Algorithm::PS384,
        raw::Algorithm::PS512 => Algorithm::PS512,
        raw::Algorithm::ES256 => Algorithm::ES256,
        raw::Algorithm::ES384 => Algorithm::ES384,
        raw::Algorithm::EdDSA => Algorithm::EdDSA,
        raw::Algorithm::HS256 => Algorithm::HS256,
        raw::Algorithm::HS384 => Algorithm::HS384,
        raw::Algorithm::HS512 => Algorithm::HS512,
    }
}
