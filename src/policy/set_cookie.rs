//! The gateway's cookies as they leave, and the auth backend's as they are adopted.
//!
//! 1. Attributes are fixed: `Path=/`, no Domain, HttpOnly, Secure and SameSite as configured. So
//!    `__Host-` names hold, and no sibling host can plant one (RFC 6265bis §4.1.3). Only the refresh
//!    cookie of carrier `path` has another path, and so a name that a sibling can plant.
//! 2. What is stale is expired *before* the new value is set: a request that leaves the browser
//!    between the two lines carries no access token, which is renewed, never two.
//! 3. A value is written whole or not at all.
//!
//! Nothing here may let a byte into a line that a cookie value cannot hold.

pub mod backend;
pub mod cache;
mod date;

use http::HeaderValue;

use super::credentials::{NAMES_MAX, Seen};

/// Longer values are split. Browsers keep 4,096 bytes of name and value (RFC 6265bis §5.7).
pub const PART_BYTES_MAX: usize = 3_800;

/// The most cookies one value is split into.
pub const PARTS_MAX: usize = 4;

/// 400 days: browsers cap it there (RFC 6265bis §5.6.2).
pub const MAX_AGE_S_MAX: u64 = 400 * 24 * 60 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

/// One gateway cookie's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieNames {
    pub name: Box<str>,
    /// Old names, read when `name` is absent and moved to `name` at the next Set-Cookie.
    pub accept: Vec<Box<str>>,
    /// Its `Path`: below it the browser sends the cookie along.
    pub path: Box<str>,
}

/// `cookies`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    pub access: CookieNames,
    pub refresh: CookieNames,
    /// The refresh token where the browser shows it to the gateway's refresh path only.
    pub refresh_path: CookieNames,
    /// Both tokens in one: sealed, or a handle.
    pub session: CookieNames,
    /// When the session began and was last used; sealed.
    pub stamp: CookieNames,
    /// What the gateway notes about a browser that it has just sent to the refresh path.
    pub bounced: CookieNames,
    pub same_site: SameSite,
    pub secure: bool,
}

/// `refresh.backend_cookies`: the auth backend's own names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendCookies {
    pub access: Box<str>,
    pub refresh: Box<str>,
}

/// Why a value cannot be a cookie. The caller logs it as the operator's or the backend's fault and
/// sends no cookie at all: half a session in the browser would be worse than the old one, which the
/// session record still answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieFault {
    #[error(
        "cookie value has {bytes} bytes, more than {PARTS_MAX} cookies of {PART_BYTES_MAX} hold"
    )]
    TooLarge { bytes: usize },
    #[error("cookie value is empty or holds a byte that cookies cannot")]
    Unsafe,
}

impl CookieNames {
    /// The current name, then the old ones.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.name).chain(self.accept.iter().map(|name| &**name))
    }
}

impl CookieSettings {
    /// Every cookie of the gateway's.
    pub fn all(&self) -> [&CookieNames; 6] {
        let CookieSettings { access, refresh, refresh_path, session, stamp, bounced, .. } = self;
        [access, refresh, refresh_path, session, stamp, bounced]
    }

    /// The Set-Cookie lines that give one cookie a new value and expire what of it is stale.
    ///
    /// # Errors
    /// See [`CookieFault`].
    pub fn set(
        &self,
        names: &CookieNames,
        value: &str,
        max_age_s: Option<u64>,
        seen: Seen,
    ) -> Result<Vec<HeaderValue>, CookieFault> {
        if value.len() > PARTS_MAX * PART_BYTES_MAX {
            return Err(CookieFault::TooLarge { bytes: value.len() });
        }
        // An empty value would read as "no cookie" and is the business of `expire`.
        if value.is_empty() || !value.bytes().all(is_cookie_octet) {
            return Err(CookieFault::Unsafe);
        }
        let chunks: Vec<&[u8]> = value.as_bytes().chunks(PART_BYTES_MAX).collect();
        let split = chunks.len() > 1;
        let is_set = |part: Option<usize>| match part {
            None => !split,
            Some(part) => split && part < chunks.len(),
        };
        let mut lines = self.expired(names, |name, part| {
            let stale = name > 0 || !is_set(part);
            stale && seen.holds(name, part)
        })?;
        let max_age_s = max_age_s.map(|seconds| seconds.min(MAX_AGE_S_MAX));
        for (part, chunk) in chunks.iter().enumerate() {
            let chunk = std::str::from_utf8(chunk).map_err(|_| CookieFault::Unsafe)?;
            let part = split.then_some(part);
            lines.push(self.line(names, &names.name, part, chunk, max_age_s)?);
        }
        Ok(lines)
    }

    /// The Set-Cookie lines that take one cookie away: always the current name, and what was seen.
    ///
    /// An old cookie that was set with a Domain or another Path stays; nothing can name it.
    ///
    /// # Errors
    /// `Unsafe` if a configured name cannot be a cookie's name.
    pub fn expire(&self, names: &CookieNames, seen: Seen) -> Result<Vec<HeaderValue>, CookieFault> {
        self.expired(names, |name, part| (name, part) == (0, None) || seen.holds(name, part))
    }

    /// The Set-Cookie lines that take away what was seen of one cookie, whose tokens are kept in
    /// another way now.
    ///
    /// # Errors
    /// As [`CookieSettings::expire`].
    pub fn expire_seen(
        &self,
        names: &CookieNames,
        seen: Seen,
    ) -> Result<Vec<HeaderValue>, CookieFault> {
        self.expired(names, |name, part| seen.holds(name, part))
    }

    fn expired(
        &self,
        names: &CookieNames,
        stale: impl Fn(usize, Option<usize>) -> bool,
    ) -> Result<Vec<HeaderValue>, CookieFault> {
        let mut lines = Vec::new();
        for (index, name) in names.all().enumerate().take(NAMES_MAX) {
            for part in std::iter::once(None).chain((0..PARTS_MAX).map(Some)) {
                if stale(index, part) {
                    lines.push(self.line(names, name, part, "", Some(0))?);
                }
            }
        }
        Ok(lines)
    }

    fn line(
        &self,
        names: &CookieNames,
        name: &str,
        part: Option<usize>,
        value: &str,
        max_age_s: Option<u64>,
    ) -> Result<HeaderValue, CookieFault> {
        let part = part.map_or(String::new(), |part| format!(".{part}"));
        let secure = if self.secure { "; Secure" } else { "" };
        let same_site = match self.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        };
        let max_age = max_age_s.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        let line = format!(
            "{name}{part}={value}; Path={path}{secure}; HttpOnly; SameSite={same_site}{max_age}",
            path = names.path
        );
        let mut line = HeaderValue::try_from(line).map_err(|_| CookieFault::Unsafe)?;
        line.set_sensitive(true);
        Ok(line)
    }
}

/// Would this Set-Cookie of an upstream set a gateway cookie, in any spelling a browser or a backend
/// might take for ours?
///
/// Old names do not count: applications that still set them are what `accept` is for.
pub fn is_gateway_cookie(line: &[u8], settings: &CookieSettings) -> bool {
    // `=name=value` and `name` alone are sent back by browsers as `name=value` and `name`.
    let from = line.iter().position(|byte| byte.is_ascii_graphic() && !b"=\"".contains(byte));
    let name = line.get(from.unwrap_or(line.len())..).unwrap_or_default();
    let name = name.split(|byte| b"=;,\"".contains(byte)).next().unwrap_or_default();
    let name = name.trim_ascii();
    settings.all().iter().any(|names| {
        let ours = names.name.as_bytes();
        name.split_at_checked(ours.len()).is_some_and(|(start, rest)| {
            start.eq_ignore_ascii_case(ours) && (rest.is_empty() || rest.starts_with(b"."))
        })
    })
}

/// May this byte stand in a cookie value (RFC 6265 §4.1.1)?
pub fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

#[cfg(test)]
mod tests;
