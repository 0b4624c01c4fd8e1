//! `Authorization` (RFC 9110 §11.6.2), of which only Bearer (RFC 6750 §2.1) is the gateway's.

use std::fmt;

use crate::policy::reason::Reason;

/// What `Authorization` says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'a> {
    Absent,
    Bearer(&'a str),
    /// Scheme Bearer without exactly one token.
    Malformed,
    /// Basic and the rest: the application's own, passed untouched.
    Other,
}

impl<'a> Authorization<'a> {
    /// Reads all `Authorization` lines of a request.
    ///
    /// # Errors
    /// `bad_request` if there are several: the gateway and the application might read different
    /// ones.
    pub fn read(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<Authorization<'a>, Reason> {
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else { return Ok(Authorization::Absent) };
        match lines.next() {
            Some(_) => Err(Reason::BadRequest),
            None => Ok(judge(line)),
        }
    }
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Authorization::Absent => "Absent",
            Authorization::Bearer(_) => "Bearer([redacted])",
            Authorization::Malformed => "Malformed",
            Authorization::Other => "Other",
        })
    }
}

fn judge(line: &[u8]) -> Authorization<'_> {
    let line = line.trim_ascii();
    let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(line.len());
    let Some((scheme, rest)) = line.split_at_checked(end) else { return Authorization::Malformed };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Authorization::Other;
    }
    let token = rest.trim_ascii_start();
    match std::str::from_utf8(token) {
        Ok(token) if rest.starts_with(b" ") && is_token68(token) => Authorization::Bearer(token),
        Ok(_) | Err(_) => Authorization::Malformed,
    }
}

/// RFC 9110 §11.2.
fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let letter = |byte: u8| {
        byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    // Without an early end the compiler looks at 16 bytes at a time.
    !body.is_empty() & body.bytes().fold(true, |token, byte| token & letter(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(lines: &[&'a str]) -> Result<Authorization<'a>, Reason> {
        Authorization::read(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn bearer_is_one_token_whatever_the_scheme_s_case() {
        for line in
            ["Bearer a.b-c_d~e+f/g==", "bearer a.b-c_d~e+f/g==", " BEARER  a.b-c_d~e+f/g== "]
        {
            assert_eq!(read(&[line]), Ok(Authorization::Bearer("a.b-c_d~e+f/g==")), "{line}");
        }
    }

    #[test]
    fn bearer_without_exactly_one_token_is_malformed() {
        let bad = [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a, Bearer b",
            "Bearer\ta",
            "Bearer =",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer ä",
            "Bearer:a",
            "Bearer,a",
            "Bearer realm=\"x\"",
        ];
        for line in bad {
            assert_eq!(read(&[line]), Ok(Authorization::Malformed), "{line}");
        }
    }

    #[test]
    fn other_schemes_are_the_applications() {
        for line in ["Basic dXNlcjpwYXNz", "Bearers a", "Digest username=\"x\"", "", "abc"] {
            assert_eq!(read(&[line]), Ok(Authorization::Other), "{line}");
        }
    }

    #[test]
    fn several_lines_are_refused_even_if_equal() {
        assert_eq!(read(&[]), Ok(Authorization::Absent));
        assert_eq!(read(&["Bearer a", "Bearer a"]), Err(Reason::BadRequest));
        assert_eq!(read(&["Basic a", "Bearer a"]), Err(Reason::BadRequest));
    }

    #[test]
    fn debug_shows_no_token() {
        assert_eq!(format!("{:?}", read(&["Bearer secret"])), "Ok(Bearer([redacted]))");
    }
}
