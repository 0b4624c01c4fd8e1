//! Request headers that no client may send, in any spelling.
//!
//! CGI, WSGI and their heirs turn every punctuation mark of a header's name into `_`, so that
//! `X_Forwarded_User` and `X-Forwarded.User` arrive as `X-Forwarded-User` (CVE-2025-64484). Names
//! are therefore compared *folded*: every byte that is no letter or digit becomes `-`, letters
//! become lower-case.

use std::borrow::Cow;
use std::collections::HashMap;

use http::HeaderName;

/// Where the client stood and what it asked for, as a proxy before us may say it. Further
/// `X-Forwarded-…` names belong here too.
const FORWARDING: [&str; 9] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-forwarded-prefix",
    "x-real-ip",
];

/// Names by which a request asks to be read as another one; nobody may.
const FORBIDDEN: [&str; 8] = [
    // The gateway names requests itself.
    "x-request-id",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    // CGI's HTTP_PROXY (CVE-2016-5385).
    "proxy",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Names that frame a message; another spelling of one frames it differently somewhere.
const FRAMING: [&str; 11] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "expect",
];

/// Longer names are folded on the heap.
const STACK_BYTES: usize = 64;

/// What becomes of a request header of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passes.
    Ordinary,
    /// An identity header of some route: removed from every request, then set where it belongs.
    Managed,
    /// Removed, unless a trusted proxy sent the request.
    Forwarding,
    /// Removed, whoever sent it.
    Forbidden,
}

/// All names of one configuration that are not the client's to send.
#[derive(Clone, Debug)]
pub struct Managed {
    names: HashMap<Box<str>, Class>,
    /// One bit for each length that some name has: most headers are let through by it unhashed.
    lengths: u64,
}

impl Managed {
    /// `identity` are the names of all header sets of all routes.
    pub fn new<'a>(identity: impl IntoIterator<Item = &'a HeaderName>) -> Managed {
        let mut names: HashMap<Box<str>, Class> = HashMap::new();
        names.extend(FORWARDING.map(|name| (name.into(), Class::Forwarding)));
        names.extend(FORBIDDEN.map(|name| (name.into(), Class::Forbidden)));
        // Last: an identity header is managed, whatever else its name may mean.
        let managed = identity.into_iter().map(|name| fold(name.as_str()).into());
        names.extend(managed.map(|name| (name, Class::Managed)));
        let lengths = names.keys().fold(0, |bits, name| bits | length_bit(name.len()));
        Managed { names, lengths }
    }

    /// What becomes of a request header; allocates only for long names with odd punctuation.
    pub fn class(&self, name: &str) -> Class {
        if is_folded(name) {
            return self.class_of_folded(name);
        }
        let mut buffer = [0; STACK_BYTES];
        let folded = match buffer.get_mut(..name.len()) {
            Some(buffer) => fold_into(name, buffer),
            None => &fold(name),
        };
        match self.class_of_folded(folded) {
            // Trusted proxies know how to spell.
            Class::Forwarding if !name.eq_ignore_ascii_case(folded) => Class::Forbidden,
            Class::Ordinary if FRAMING.contains(&folded) && !name.eq_ignore_ascii_case(folded) => {
                Class::Forbidden
            }
            class => class,
        }
    }

    /// Is this an identity header of some route, in any spelling?
    pub fn is_managed(&self, name: &str) -> bool {
        self.class(name) == Class::Managed
    }

    fn class_of_folded(&self, folded: &str) -> Class {
        if self.lengths & length_bit(folded.len()) != 0
            && let Some(class) = self.names.get(folded)
        {
            return *class;
        }
        match folded.starts_with("x-forwarded-") {
            true => Class::Forwarding,
            false => Class::Ordinary,
        }
    }
}

/// The name with every byte that is no letter or digit turned into `-`, in lower-case.
pub fn fold(name: &str) -> Cow<'_, str> {
    if is_folded(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(name.bytes().map(|byte| char::from(folded_byte(byte))).collect())
}

/// `buffer` is as long as `name`.
fn fold_into<'b>(name: &str, buffer: &'b mut [u8]) -> &'b str {
    for (to, from) in buffer.iter_mut().zip(name.bytes()) {
        *to = folded_byte(from);
    }
    // All ASCII, so always text.
    std::str::from_utf8(buffer).unwrap_or_default()
}

fn folded_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

fn is_folded(name: &str) -> bool {
    name.bytes().all(|byte| folded_byte(byte) == byte)
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

#[cfg(test)]
mod tests {
    use super::*;
    const ATTACKS: &str = include_str!("../../../tests/data/headers.txt");

    fn managed() -> Managed {
        let names = ["x-forwarded-user", "x-forwarded-email", "x-webauth-user", "remote_user"];
        Managed::new(&names.map(HeaderName::from_static))
    }

    #[test]
    fn attack_list_is_judged_as_written() {
        let managed = managed();
        let mut judged = 0;
        for line in ATTACKS.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, class) = line.split_once(' ').unwrap();
            let found = format!("{:?}", managed.class(name)).to_lowercase();
            assert_eq!(found, class.trim(), "{name}");
            judged += 1;
        }
        assert!(judged >= 60, "only {judged} lines");
    }

    #[test]
    fn every_punctuation_folds_to_the_same_name() {
        let managed = managed();
        for byte in (0x21..0x7f).filter(|byte: &u8| !byte.is_ascii_alphanumeric()) {
            let name = format!("X{0}Forwarded{0}User", char::from(byte));
            assert!(managed.is_managed(&name), "{name}");
        }
    }

    #[test]
    fn names_longer_than_the_stack_are_folded_too() {
        let name = format!("x-{}", "a_".repeat(STACK_BYTES));
        let managed = Managed::new(&[name.parse().unwrap()]);
        assert!(managed.is_managed(&name.to_uppercase()));
        assert!(!managed.is_managed(&name.replace("a_", "aa")));
    }

    #[test]
    fn folded_name_is_borrowed() {
        assert!(matches!(fold("x-real-ip"), Cow::Borrowed(_)));
        assert_eq!(fold("X_Real.IP"), "x-real-ip");
    }
}
