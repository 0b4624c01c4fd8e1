//! What a request brings to prove who asks: the gateway's cookies and `Authorization`.
//!
//! 1. All Cookie lines (HTTP/1 lines, HTTP/2 crumbs) are one list of pairs.
//! 2. A gateway cookie's name is compared byte for byte after trimming; a look-alike is another
//!    cookie. One that comes twice is refused, whatever the values: guessing which one the browser
//!    meant is how a cookie planted from a sibling host wins.
//! 3. An old name is read only while the current one is absent.
//! 4. A cookie and a bearer token that differ are refused, never ranked.
//! 5. Other cookies pass byte for byte and in order; the gateway's never do.
//!
//! `Debug` of these types must never show a value.

pub mod authorization;
pub mod forward;
pub mod refresh_value;

use std::borrow::Cow;
use std::fmt;

use memchr::memchr;

use super::reason::Reason;
use super::route::CredentialKinds;
use super::set_cookie::{CookieNames, CookieSettings, PARTS_MAX};
use authorization::Authorization;

/// The most names one gateway cookie may have, the current one included.
pub const NAMES_MAX: usize = 12;

/// A whole cookie and its parts `.0` to `.3`.
const FORMS: usize = 1 + PARTS_MAX;

/// The gateway's cookies of one request.
#[derive(Clone, Debug)]
pub struct Cookies<'a> {
    pub access: Held<'a>,
    pub refresh: Held<'a>,
    pub session: Held<'a>,
    /// When the session began and was last used; sealed.
    pub stamp: Held<'a>,
}

/// One gateway cookie as the browser holds it.
#[derive(Clone, Debug)]
pub struct Held<'a> {
    pub value: CookieValue<'a>,
    pub seen: Seen,
}

#[derive(Clone, PartialEq, Eq)]
pub enum CookieValue<'a> {
    /// No such cookie, or an empty one.
    Absent,
    /// Visible ASCII.
    Text(Cow<'a, str>),
    /// Not a value that the gateway writes, or a part is missing.
    Broken,
    /// A name that came twice, or a whole cookie together with parts.
    Duplicate,
}

/// Which spellings of one gateway cookie a request carried: its current and old names, whole and in
/// parts. What is not written again at the next Set-Cookie is stale and expired there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u64);

/// The access token of a request, before it is verified.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential<'a> {
    None,
    Cookie(Cow<'a, str>),
    Bearer(&'a str),
    /// Something came that cannot be a token (`malformed_token`).
    Broken {
        bearer: bool,
    },
}

impl<'a> Held<'a> {
    /// Finds one gateway cookie in all Cookie lines, as [`Cookies::read`] finds two.
    pub fn read(lines: impl IntoIterator<Item = &'a [u8]>, names: &CookieNames) -> Held<'a> {
        let mut forms = Forms::default();
        for (name, value) in lines.into_iter().flat_map(pairs) {
            forms.note(name, value, names);
        }
        forms.held()
    }
}

impl<'a> Cookies<'a> {
    /// Finds the gateway's cookies in all Cookie lines; allocates only to join parts.
    pub fn read(
        lines: impl IntoIterator<Item = &'a [u8]>,
        settings: &CookieSettings,
    ) -> Cookies<'a> {
        let [mut access, mut refresh, mut session, mut stamp] = [Forms::default(); 4];
        for (name, value) in lines.into_iter().flat_map(pairs) {
            access.note(name, value, &settings.access);
            refresh.note(name, value, &settings.refresh);
            session.note(name, value, &settings.session);
            stamp.note(name, value, &settings.stamp);
        }
        Cookies {
            access: access.held(),
            refresh: refresh.held(),
            session: session.held(),
            stamp: stamp.held(),
        }
    }

    /// The one access token of this request, from the kinds that its route reads.
    ///
    /// A cookie equal to the bearer token counts as cookie: the browser can be given a newer one.
    ///
    /// # Errors
    /// `duplicate_credential`, `conflicting_credentials`.
    pub fn credential(
        &self,
        authorization: &Authorization<'a>,
        kinds: CredentialKinds,
    ) -> Result<Credential<'a>, Reason> {
        let twice = |held: &Held<'_>| held.value == CookieValue::Duplicate;
        if kinds.cookie && [&self.refresh, &self.session, &self.stamp].into_iter().any(twice) {
            return Err(Reason::DuplicateCredential);
        }
        let cookie = if kinds.cookie { &self.access.value } else { &CookieValue::Absent };
        let bearer = if kinds.bearer { authorization } else { &Authorization::Absent };
        match (cookie, bearer) {
            (CookieValue::Duplicate, _) => Err(Reason::DuplicateCredential),
            (CookieValue::Absent, Authorization::Absent | Authorization::Other) => {
                Ok(Credential::None)
            }
            (CookieValue::Absent, Authorization::Bearer(token)) => Ok(Credential::Bearer(token)),
            (CookieValue::Absent, Authorization::Malformed) => {
                Ok(Credential::Broken { bearer: true })
            }
            (CookieValue::Text(text), Authorization::Absent | Authorization::Other) => {
                Ok(Credential::Cookie(text.clone()))
            }
            (CookieValue::Text(text), Authorization::Bearer(token)) if text == token => {
                Ok(Credential::Cookie(text.clone()))
            }
            (CookieValue::Broken, Authorization::Absent | Authorization::Other) => {
                Ok(Credential::Broken { bearer: false })
            }
            (
                CookieValue::Text(_) | CookieValue::Broken,
                Authorization::Bearer(_) | Authorization::Malformed,
            ) => Err(Reason::ConflictingCredentials),
        }
    }
}

impl<'a> CookieValue<'a> {
    fn of(text: Option<Cow<'a, str>>) -> CookieValue<'a> {
        match text {
            Some(text) if text.is_empty() => CookieValue::Absent,
            Some(text) => CookieValue::Text(text),
            None => CookieValue::Broken,
        }
    }
}

impl Seen {
    /// Every spelling there is: to expire them without having read any.
    pub const ALL: Seen = Seen(u64::MAX);
    /// The current name, whole and in parts: where the browser does not show what it has.
    pub const CURRENT: Seen = Seen((1 << FORMS) - 1);

    /// Was the cookie there under no current name? Then it is moved at the next Set-Cookie.
    pub fn only_old_names(self) -> bool {
        self.0 != 0 && self.0.trailing_zeros() as usize >= FORMS
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// `name` counts from the current one on; `part` is `None` for the whole cookie.
    pub fn holds(self, name: usize, part: Option<usize>) -> bool {
        self.0 & Seen::bit(name, part.map_or(0, |part| part + 1)) != 0
    }

    fn bit(name: usize, form: usize) -> u64 {
        u32::try_from(name * FORMS + form).ok().and_then(|by| 1_u64.checked_shl(by)).unwrap_or(0)
    }
}

impl fmt::Debug for CookieValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CookieValue::Absent => "Absent",
            CookieValue::Text(_) => "Text([redacted])",
            CookieValue::Broken => "Broken",
            CookieValue::Duplicate => "Duplicate",
        })
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Cookie(_) => "Cookie([redacted])",
            Credential::Bearer(_) => "Bearer([redacted])",
            Credential::Broken { bearer: false } => "Broken(cookie)",
            Credential::Broken { bearer: true } => "Broken(bearer)",
        })
    }
}

/// The pairs of one Cookie line, trimmed; what has no `=` is a name without a value.
fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    split(line).map(|pair| match memchr(b'=', pair).and_then(|at| pair.split_at_checked(at)) {
        Some((name, value)) => (name.trim_ascii(), value.get(1..).map(<[u8]>::trim_ascii)),
        None => (pair.trim_ascii(), None),
    })
}

/// What stands between the semicolons of one Cookie line. A line with a token in it is long, and
/// every request has one: `slice::split`, byte by byte, took a tenth of the gateway's own time.
fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        match memchr(b';', line).and_then(|at| line.split_at_checked(at)) {
            Some((pair, after)) => {
                rest = after.get(1..);
                Some(pair)
            }
            None => rest.take(),
        }
    })
}

/// The form of the cookie `base` that `name` is: 0 whole, 1 to 4 its parts.
fn form_of(name: &[u8], base: &str) -> Option<usize> {
    match name.strip_prefix(base.as_bytes())? {
        [] => Some(0),
        [b'.', digit @ b'0'..=b'3'] => Some(usize::from(digit - b'0') + 1),
        _ => None,
    }
}

/// Collects one gateway cookie, under the best of its names that came.
#[derive(Clone, Copy, Default)]
struct Forms<'a> {
    name: Option<usize>,
    values: [Option<&'a [u8]>; FORMS],
    repeated: bool,
    seen: Seen,
}

impl<'a> Forms<'a> {
    fn note(&mut self, name: &[u8], value: Option<&'a [u8]>, names: &CookieNames) {
        for (index, base) in names.all().enumerate().take(NAMES_MAX) {
            let Some(form) = form_of(name, base) else { continue };
            let Some(value) = value else { return };
            self.seen.0 |= Seen::bit(index, form);
            if self.name.is_none_or(|best| index < best) {
                *self = Forms { name: Some(index), seen: self.seen, ..Forms::default() };
            }
            if self.name == Some(index)
                && let Some(slot) = self.values.get_mut(form)
            {
                self.repeated |= slot.replace(value).is_some();
            }
            return;
        }
    }

    fn held(self) -> Held<'a> {
        let [whole, parts @ ..] = self.values;
        let split = parts.iter().any(Option::is_some);
        let value = match whole {
            _ if self.repeated => CookieValue::Duplicate,
            Some(_) if split => CookieValue::Duplicate,
            Some(whole) => CookieValue::of(text(whole).map(Cow::Borrowed)),
            None if split => CookieValue::of(joined(&parts)),
            None => CookieValue::Absent,
        };
        Held { value, seen: self.seen }
    }
}

/// The parts from `.0` on; none may be missing before the last.
fn joined<'a>(parts: &[Option<&[u8]>; PARTS_MAX]) -> Option<Cow<'a, str>> {
    let last = parts.iter().rposition(Option::is_some)?;
    let mut out = String::new();
    for part in parts.iter().take(last + 1) {
        out.push_str(text((*part)?)?);
    }
    Some(Cow::Owned(out))
}

/// A value as text; quotes around the whole of it do not count (RFC 6265 §4.1.1).
fn text(value: &[u8]) -> Option<&str> {
    let value = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    // Without an early end the compiler looks at 16 bytes at a time.
    let visible = value.iter().fold(true, |visible, byte| visible & byte.is_ascii_graphic());
    if visible { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests;
