//! Would the page's own policy let the script run (Content Security Policy Level 3)?
//!
//! Every policy of every `Content-Security-Policy` line must allow two things: that the script loads
//! (`script-src-elem`, else `script-src`, else `default-src`), and that it talks to the gateway
//! (`connect-src`, else `default-src`). A nonce of the page's is used where only that helps. What
//! only reports blocks nothing and is not read; a `<meta>` comes after the script. Trusted Types
//! guard what scripts write into a page (§ "injection sinks" there), not what its HTML says.
//!
//! In doubt it says no: a script that the browser refuses would be a line in everybody's console.

use super::Kept;
use crate::policy::route::host::{self, Authority};

/// A nonce is copied into the page.
const NONCE_BYTES_MAX: usize = 256;

/// The origin that the page has in the browser's eyes.
pub struct PageOrigin<'a> {
    /// The request's `Host`.
    pub host: Option<Authority<'a>>,
    /// Known to have come by https. Where somebody else ends TLS and does not say so, it is not.
    pub https: bool,
}

impl<'a> PageOrigin<'a> {
    pub fn new(host: Option<&'a str>, https: bool) -> PageOrigin<'a> {
        PageOrigin { host: host.and_then(host::authority), https }
    }
}

/// The nonce that the tag needs, if any; the URLs are paths at the page's own origin.
///
/// # Errors
/// Why the script must stay out.
pub fn judge<'h>(
    lines: impl Iterator<Item = &'h [u8]>,
    origin: &PageOrigin<'_>,
    script: &str,
    calls: &[&str],
) -> Result<Option<&'h str>, Kept> {
    let mut nonces: Option<Vec<&str>> = None;
    for line in lines {
        // One that cannot be read may forbid anything.
        let line = std::str::from_utf8(line).map_err(|_| Kept::CspScript)?;
        for policy in line.split(',').map(Policy::read) {
            if !policy.lets_it_be_itself() {
                return Err(Kept::CspSandbox);
            }
            if !policy.connects(origin, calls) {
                return Err(Kept::CspConnect);
            }
            match policy.loads(origin, script) {
                Loads::Anyhow => {}
                Loads::With(own) => match &mut nonces {
                    None => nonces = Some(own),
                    // One tag has one nonce.
                    Some(both) => both.retain(|nonce| own.contains(nonce)),
                },
            }
        }
    }
    match nonces.as_deref() {
        None => Ok(None),
        Some([nonce, ..]) => Ok(Some(nonce)),
        Some([]) => Err(Kept::CspScript),
    }
}

enum Loads<'h> {
    Anyhow,
    /// With one of these nonces only.
    With(Vec<&'h str>),
}

/// One policy's directives that matter, each the first of its name (CSP3 §2.2.1).
#[derive(Default)]
struct Policy<'h> {
    default: Option<&'h str>,
    script: Option<&'h str>,
    script_elements: Option<&'h str>,
    connect: Option<&'h str>,
    sandbox: Option<&'h str>,
}

impl<'h> Policy<'h> {
    fn read(text: &'h str) -> Policy<'h> {
        let mut policy = Policy::default();
        for directive in text.split(';').map(str::trim_ascii) {
            let (name, value) =
                directive.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((directive, ""));
            let place = match name.to_ascii_lowercase().as_str() {
                "default-src" => &mut policy.default,
                "script-src" => &mut policy.script,
                "script-src-elem" => &mut policy.script_elements,
                "connect-src" => &mut policy.connect,
                "sandbox" => &mut policy.sandbox,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        policy
    }

    fn loads(&self, origin: &PageOrigin<'_>, script: &str) -> Loads<'h> {
        let Some(sources) = self.script_elements.or(self.script).or(self.default) else {
            return Loads::Anyhow;
        };
        let mut each = sources.split_ascii_whitespace();
        // It takes the word from every source but nonces and hashes, for a tag that stands in the
        // page (CSP3 §6.7.1.1).
        let strict = each.clone().any(|source| source.eq_ignore_ascii_case("'strict-dynamic'"));
        if !strict && each.any(|source| origin.is_met_by(source, script)) {
            return Loads::Anyhow;
        }
        Loads::With(sources.split_ascii_whitespace().filter_map(nonce).collect())
    }

    fn connects(&self, origin: &PageOrigin<'_>, calls: &[&str]) -> bool {
        self.connect.or(self.default).is_none_or(|sources| {
            let mut each = calls.iter();
            each.all(|call| {
                sources.split_ascii_whitespace().any(|source| origin.is_met_by(source, call))
            })
        })
    }

    /// Without scripts it would not run; without its origin the gateway would refuse it.
    fn lets_it_be_itself(&self) -> bool {
        self.sandbox.is_none_or(|flags| {
            ["allow-scripts", "allow-same-origin"].iter().all(|needed| {
                flags.split_ascii_whitespace().any(|flag| flag.eq_ignore_ascii_case(needed))
            })
        })
    }
}

/// A nonce that may be used (CSP3 §2.3.1). What it is made of needs no escaping in an attribute.
fn nonce(source: &str) -> Option<&str> {
    let (scheme, value) = source.strip_suffix('\'')?.split_at_checked("'nonce-".len())?;
    let body = value.strip_suffix("==").or(value.strip_suffix('=')).unwrap_or(value);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    let good = !body.is_empty() && body.bytes().all(plain) && value.len() <= NONCE_BYTES_MAX;
    (scheme.eq_ignore_ascii_case("'nonce-") && good).then_some(value)
}

impl PageOrigin<'_> {
    /// Does a source expression match this path at the page's own origin (CSP3 §6.7.2.8)?
    fn is_met_by(&self, source: &str, path: &str) -> bool {
        if source == "*" || source.eq_ignore_ascii_case("'self'") {
            return true;
        }
        if let Some(scheme) = source.strip_suffix(':') {
            return self.has_scheme(scheme);
        }
        let rest = match source.split_once("://") {
            Some((scheme, rest)) if self.has_scheme(scheme) => rest,
            Some(_) => return false,
            None => source,
        };
        let (authority, below) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // A redirect would not count the path; the gateway gives none.
        let path_is_met = match below {
            "" => true,
            folder if folder.ends_with('/') => path.starts_with(folder),
            file => file == path,
        };
        path_is_met && self.has_authority(authority)
    }

    /// `http` stands for https, too (CSP3 §6.7.2.9).
    fn has_scheme(&self, scheme: &str) -> bool {
        scheme.eq_ignore_ascii_case("http") || (scheme.eq_ignore_ascii_case("https") && self.https)
    }

    fn has_authority(&self, pattern: &str) -> bool {
        let Some(own) = &self.host else { return false };
        let (name, port) = pattern.split_once(':').unwrap_or((pattern, ""));
        let port_is_met = match (port, own.port) {
            ("*", _) | ("", None) => true,
            ("80", None) => true,
            ("443", None) => self.https,
            (port, own) => port.parse().is_ok_and(|port: u16| own == Some(port)),
        };
        let name_is_met = match name.strip_prefix('*') {
            Some("") => true,
            Some(suffix) => suffix.starts_with('.') && ends_with(&own.name, suffix),
            None => name.eq_ignore_ascii_case(&own.name),
        };
        port_is_met && name_is_met
    }
}

fn ends_with(name: &str, suffix: &str) -> bool {
    let start = name.len().checked_sub(suffix.len()).filter(|start| *start > 0);
    start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "/_evergate/script.js";
    const CALLS: &[&str] = &["/_evergate/session", "/_evergate/refresh"];

    fn judged<'h>(lines: &[&'h str], host: &str, https: bool) -> Result<Option<&'h str>, Kept> {
        let origin = PageOrigin::new(Some(host), https);
        judge(lines.iter().map(|line| line.as_bytes()), &origin, SCRIPT, CALLS)
    }

    fn at_app<'h>(lines: &[&'h str]) -> Result<Option<&'h str>, Kept> {
        judged(lines, "app.test", false)
    }

    #[test]
    fn a_policy_that_lets_the_page_s_own_scripts_in_needs_nothing() {
        for policy in [
            "",
            ";;",
            "object-src 'none'; base-uri 'none'",
            "default-src 'self'",
            "DEFAULT-SRC 'SELF'",
            "default-src *",
            "script-src 'self' 'nonce-abc'",
            "default-src 'none'; script-src 'self'; connect-src 'self'",
            "default-src 'none'; script-src 'none'; script-src-elem 'self'; connect-src *",
            "script-src http:",
            "script-src app.test",
            "script-src http://app.test/_evergate/",
            "script-src App.Test/_evergate/script.js",
            "script-src *.test",
            "script-src *:*",
            "default-src 'self' 'unsafe-inline'; require-trusted-types-for 'script'",
            "sandbox allow-scripts allow-same-origin allow-forms",
        ] {
            assert_eq!(at_app(&[policy]), Ok(None), "{policy}");
        }
        assert_eq!(at_app(&[]), Ok(None));
    }

    #[test]
    fn a_nonce_is_carried_where_only_it_helps() {
        for policy in [
            "script-src 'nonce-aB0+/-_='",
            "script-src 'nonce-aB0+/-_=' 'strict-dynamic' https: 'unsafe-inline'",
            "script-src 'self' 'strict-dynamic' 'NONCE-aB0+/-_='",
            "default-src 'nonce-aB0+/-_='; connect-src 'self'",
            "script-src 'none'; script-src-elem other.test 'nonce-aB0+/-_=' 'nonce-second'",
            "script-src 'sha256-x' 'nonce-aB0+/-_='",
        ] {
            assert_eq!(at_app(&[policy]), Ok(Some("aB0+/-_=")), "{policy}");
        }
    }

    #[test]
    fn without_either_the_script_stays_out() {
        let long = format!("script-src 'nonce-{}'", "x".repeat(NONCE_BYTES_MAX + 1));
        for policy in [
            "script-src 'none'",
            "script-src",
            "script-src 'strict-dynamic' 'self'",
            "script-src 'sha256-abc'",
            "script-src 'unsafe-inline' 'unsafe-eval'",
            "script-src-elem other.test; script-src 'self'",
            "script-src 'none'; script-src 'self'",
            "script-src data: blob: https:",
            "script-src https://app.test",
            "script-src app.test:8080",
            "script-src *.app.test",
            "script-src *app.test",
            "script-src app.test/other/ app.test/_evergate",
            "script-src 'nonce-' 'nonce-=' 'nonce-a\"b' 'nonce-a>' nonce-a 'nonce-a",
            "script-src 'nonce-a=b' 'nonce-a==='",
            &long,
        ] {
            assert_eq!(at_app(&[policy]), Err(Kept::CspScript), "{policy}");
        }
        let line: &[u8] = b"script-src 'self' \xff";
        let origin = PageOrigin::new(Some("app.test"), false);
        assert_eq!(judge([line].into_iter(), &origin, SCRIPT, CALLS), Err(Kept::CspScript));
    }

    #[test]
    fn every_policy_of_every_line_must_agree() {
        let two = ["script-src 'nonce-a' 'nonce-b', script-src 'self'", "script-src 'nonce-b'"];
        assert_eq!(at_app(&two), Ok(Some("b")));
        let apart = ["script-src 'nonce-a'", "script-src 'nonce-b'"];
        assert_eq!(at_app(&apart), Err(Kept::CspScript));
        assert_eq!(at_app(&["default-src 'self', default-src 'none'"]), Err(Kept::CspConnect));
    }

    #[test]
    fn a_script_that_could_not_ask_stays_out() {
        for policy in [
            "default-src 'none'; script-src 'self'",
            "default-src 'nonce-a'",
            "connect-src 'none'",
            "connect-src https://api.test app.test/api/",
            "connect-src app.test/_evergate/session",
        ] {
            assert_eq!(at_app(&[policy]), Err(Kept::CspConnect), "{policy}");
        }
        for policy in ["sandbox", "sandbox allow-scripts", "sandbox allow-same-origin"] {
            assert_eq!(at_app(&[policy]), Err(Kept::CspSandbox), "{policy}");
        }
    }

    #[test]
    fn scheme_and_port_count_as_far_as_they_are_known() {
        let meets = |source: &str, host: &str, https: bool| {
            judged(&[&format!("script-src {source}")], host, https).is_ok()
        };
        assert!(meets("https:", "app.test", true) && meets("https://app.test", "app.test", true));
        assert!(meets("http://app.test", "app.test", true) && meets("app.test", "app.test", true));
        assert!(meets("app.test:443", "app.test", true) && meets("app.test:80", "app.test", true));
        assert!(
            !meets("app.test:443", "app.test", false) && meets("app.test:80", "app.test", false)
        );
        assert!(meets("app.test:8080", "app.test:8080", false));
        assert!(meets("app.test:*", "app.test:8080", false));
        assert!(
            !meets("app.test", "app.test:8080", false) && !meets("app.test:x", "app.test", true)
        );
        assert!(meets("*.b.test", "a.b.test", false) && !meets("*.b.test", "b.test", false));
        assert!(meets("'self'", "", false) && !meets("app.test", "", false));
    }
}
