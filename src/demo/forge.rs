//! Broken tokens, made from good ones: what an attacker would try.
//!
//! None of these may ever pass. They are made here and not with a token library, because no library
//! makes them on purpose.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::policy::secret::Secret;

/// A forgery, and how it was made.
#[derive(Debug)]
pub struct Forgery {
    pub what: &'static str,
    pub token: Secret,
}

/// Every forgery that this token allows; empty if it is not a signed JWT.
pub fn forgeries(good: &Secret) -> Vec<Forgery> {
    let all = [
        ("renamed to root", renamed(good)),
        ("one bit of the signature flipped", bit_flipped(good)),
        ("unsigned (alg: none)", unsigned(good)),
    ];
    all.into_iter().filter_map(|(what, token)| Some(Forgery { what, token: token? })).collect()
}

/// Says `root` and `admin` inside, with the old signature.
fn renamed(good: &Secret) -> Option<Secret> {
    let (header, payload, signature) = parts(good)?;
    Some(join(header, &as_root(payload)?, signature))
}

/// Differs from the good one in one bit that counts.
fn bit_flipped(good: &Secret) -> Option<Secret> {
    let (header, payload, signature) = parts(good)?;
    // Bytes and not text: the last character of base64url holds bits that mean nothing.
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).ok()?;
    *bytes.first_mut()? ^= 1;
    Some(join(header, payload, &URL_SAFE_NO_PAD.encode(bytes)))
}

/// Claims to need no signature (RFC 7519 §6).
fn unsigned(good: &Secret) -> Option<Secret> {
    let (_, payload, _) = parts(good)?;
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": "none", "typ": "at+jwt" }).to_string());
    Some(join(&header, &as_root(payload)?, ""))
}

fn as_root(payload: &str) -> Option<String> {
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    let members = claims.as_object_mut()?;
    members.insert("sub".into(), json!("root"));
    members.insert("roles".into(), json!(["admin"]));
    Some(URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn parts(token: &Secret) -> Option<(&str, &str, &str)> {
    let (header, rest) = token.expose().split_once('.')?;
    let (payload, signature) = rest.split_once('.')?;
    Some((header, payload, signature))
}

fn join(header: &str, payload: &str, signature: &str) -> Secret {
    Secret::new(format!("{header}.{payload}.{signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::tokens::Signer;
    use crate::demo::users::ALICE;
    use crate::policy::time::UnixSeconds;

    #[test]
    fn each_forgery_is_a_different_token_of_the_same_shape() {
        let signer = Signer::new("http://127.0.0.1:4000".into()).unwrap();
        let good = signer.mint(&ALICE, "s", UnixSeconds(1_800_000_000), 20).unwrap();

        let forged = forgeries(&good);

        assert_eq!(forged.len(), 3);
        for forgery in &forged {
            assert_ne!(forgery.token, good, "{}", forgery.what);
            assert_eq!(forgery.token.expose().split('.').count(), 3);
        }
    }

    #[test]
    fn the_renamed_token_says_root_and_keeps_everything_else() {
        let signer = Signer::new("http://127.0.0.1:4000".into()).unwrap();
        let good = signer.mint(&ALICE, "s", UnixSeconds(1_800_000_000), 20).unwrap();
        let claims = |token: &Secret| -> Value {
            let payload = URL_SAFE_NO_PAD.decode(parts(token).unwrap().1).unwrap();
            serde_json::from_slice(&payload).unwrap()
        };

        let mut expected = claims(&good);
        expected["sub"] = json!("root");
        expected["roles"] = json!(["admin"]);
        assert_eq!(claims(&renamed(&good).unwrap()), expected);
    }

    #[test]
    fn what_is_no_token_allows_no_forgery() {
        assert!(forgeries(&Secret::new("not-a-token")).is_empty());
    }
}
