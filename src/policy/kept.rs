//! What the session cookie holds: both tokens of a session, sealed, or a handle to them.
//!
//! 1. Its value begins with its kind: `s1.` and sealed text, or `h1.` and a handle of 128 bits
//!    in base64url. Anything else was not written by a gateway.
//! 2. The tokens' bytes, sealed in the cookie or kept under the handle, name their issuer by its name:
//!    its place in the configuration may change under a browser that stays logged in.
//! 3. Every reading is strict: what two readers could take for two things is nothing.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::secret::Secret;

const SEALED: &str = "s1.";
const HANDLE: &str = "h1.";
const HANDLE_BYTES: usize = 16;

/// A session's tokens, as a carrier keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The issuer's name.
    pub issuer: Box<str>,
    pub access: Option<Secret>,
    pub refresh: Option<Secret>,
}

/// Under which a gateway keeps a session's tokens. Whoever has it is that session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle([u8; HANDLE_BYTES]);

/// A session cookie's value, as it came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SessionValue<'a> {
    /// Not opened yet.
    Sealed(&'a str),
    Handle(Handle),
}

impl<'a> SessionValue<'a> {
    /// `None`: no gateway wrote this.
    pub fn read(value: &'a str) -> Option<SessionValue<'a>> {
        if let Some(sealed) = value.strip_prefix(SEALED) {
            return Some(SessionValue::Sealed(sealed));
        }
        let bytes = URL_SAFE_NO_PAD.decode(value.strip_prefix(HANDLE)?).ok()?;
        Some(SessionValue::Handle(Handle(bytes.try_into().ok()?)))
    }

    /// The cookie's value.
    pub fn write(self) -> String {
        match self {
            SessionValue::Sealed(sealed) => format!("{SEALED}{sealed}"),
            SessionValue::Handle(Handle(bytes)) => {
                let mut text = HANDLE.to_owned();
                URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
                text
            }
        }
    }
}

impl Handle {
    /// `bytes`: such that nobody can guess them.
    pub fn new(bytes: [u8; HANDLE_BYTES]) -> Handle {
        Handle(bytes)
    }

    /// For a name that does not give the handle away. Every call is a place to review.
    pub fn expose(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Kept {
    /// The length of the issuer's name in a byte, the name, the length of the access token in four
    /// bytes, the token, the refresh token. One that is missing is empty. `None`: a name or a token
    /// longer than any.
    pub fn to_bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = |token: &Option<Secret>| token.clone().unwrap_or_default();
        let (access, refresh) = (text(&self.access), text(&self.refresh));
        let (access, refresh) = (access.expose().as_bytes(), refresh.expose().as_bytes());
        let length = 1 + self.issuer.len() + 4 + access.len() + refresh.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(u8::try_from(self.issuer.len()).ok()?);
        bytes.extend_from_slice(self.issuer.as_bytes());
        bytes.extend_from_slice(&u32::try_from(access.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(access);
        bytes.extend_from_slice(refresh);
        Some(bytes)
    }

    /// What [`Kept::to_bytes`] has written; without any token it is nothing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Kept> {
        let (length, rest) = bytes.split_first()?;
        let (issuer, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (access, refresh) = rest.split_at_checked(length)?;
        let token = |bytes: &[u8]| -> Option<Option<Secret>> {
            let text = std::str::from_utf8(bytes).ok()?;
            Some((!text.is_empty()).then(|| Secret::new(text)))
        };
        let (access, refresh) = (token(access)?, token(refresh)?);
        if access.is_none() && refresh.is_none() {
            return None;
        }
        Some(Kept { issuer: std::str::from_utf8(issuer).ok()?.into(), access, refresh })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(issuer: &str, access: Option<&str>, refresh: Option<&str>) -> Kept {
        let [access, refresh] = [access, refresh].map(|token| token.map(Secret::new));
        Kept { issuer: issuer.into(), access, refresh }
    }

    #[test]
    fn tokens_come_back_as_they_were_and_a_missing_one_stays_missing() {
        for tokens in [
            kept("main", Some("a.b.c"), Some("rt")),
            kept("", Some("a"), None),
            kept("main", None, Some("r;ü\0")),
            kept("main", Some(&"a".repeat(70_000)), Some(&"r".repeat(300))),
        ] {
            let bytes = tokens.to_bytes().unwrap();
            assert_eq!(Kept::from_bytes(&bytes), Some(tokens));
        }
    }

    #[test]
    fn what_no_gateway_wrote_is_nothing() {
        let whole = kept("main", Some("a.b.c"), None).to_bytes().unwrap();
        for end in 0..whole.len() {
            assert_eq!(Kept::from_bytes(&whole[..end]), None, "{end}");
        }
        let none = kept("main", None, None).to_bytes().unwrap();
        assert_eq!(Kept::from_bytes(&none), None);
        assert_eq!(Kept::from_bytes(&[0, 0, 0, 0, 0, 0xff]), None, "no text");
        assert_eq!(kept(&"n".repeat(256), Some("a"), None).to_bytes(), None);
    }

    #[test]
    fn both_kinds_of_value_are_told_by_how_they_begin() {
        let handle = Handle::new([7; 16]);
        let text = SessionValue::Handle(handle).write();
        assert_eq!(text, "h1.BwcHBwcHBwcHBwcHBwcHBw");
        assert!(SessionValue::read(&text) == Some(SessionValue::Handle(handle)));
        assert!(SessionValue::read("s1.abc") == Some(SessionValue::Sealed("abc")));
        assert_eq!(SessionValue::Sealed("abc").write(), "s1.abc");
        assert_eq!((format!("{handle:?}").as_str(), handle.expose().len()), ("[redacted]", 32));
    }

    #[test]
    fn a_value_of_another_form_is_none_of_ours() {
        let handle = SessionValue::Handle(Handle::new([7; 16])).write();
        let other = format!("{}x", &handle[..handle.len() - 1]);
        for value in ["", "s1", "h1.", "s2.abc", "eyJ.a.b", &handle[..24], &other] {
            assert!(SessionValue::read(value).is_none(), "{value}");
        }
        assert!(SessionValue::read(&format!("{handle}A")).is_none());
    }
}
