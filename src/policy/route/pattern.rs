//! Host and path patterns as an operator writes them.
//!
//! A pattern is judged by the same rules as a request, so that none can be written that no request
//! can match.

use super::{HostPattern, PathPattern, host};
use crate::policy::path::{PathRules, canonicalise};

impl HostPattern {
    /// Parses `app.example.com` or `*.example.com`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn parse(text: &str) -> Result<HostPattern, String> {
        let (name, suffix) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        match host::authority(name) {
            Some(found) if found.port.is_none() && !name.ends_with(':') => Ok(match suffix {
                true => HostPattern::Suffix(format!(".{}", found.name).into()),
                false => HostPattern::Exact(found.name.into()),
            }),
            Some(_) | None => {
                Err(format!("`{text}` is not a host: expected `name` or `*.name`, without port"))
            }
        }
    }
}

impl PathPattern {
    /// Parses `/exact/path`, `/prefix/*` or `/*`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn parse(text: &str, rules: &PathRules) -> Result<PathPattern, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` does not begin with `/`"));
        }
        if text.contains('?') {
            return Err(format!("`{text}`: the query is never matched"));
        }
        // What is merged, resolved or cut out of requests can never be in one.
        let rules = PathRules { encoded_slash: rules.encoded_slash, ..PathRules::default() };
        let path = canonicalise(text.as_bytes(), None, &rules)
            .map_err(|fault| format!("`{text}` can match no request: {fault}"))?
            .path;
        let prefix = path.strip_suffix("/*");
        if prefix.unwrap_or(&path).contains('*') {
            return Err(format!(
                "`{text}`: `*` stands only at the end, for whole segments: `/x/*`"
            ));
        }
        Ok(match prefix {
            Some(prefix) => PathPattern::Prefix(prefix.into()),
            None => PathPattern::Exact(path.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(path: &str) -> Result<PathPattern, String> {
        Ok(PathPattern::Exact(path.into()))
    }

    fn prefix(path: &str) -> Result<PathPattern, String> {
        Ok(PathPattern::Prefix(path.into()))
    }

    #[test]
    fn patterns_are_kept_in_canonical_form() {
        let parse = |text| PathPattern::parse(text, &PathRules::default());
        assert_eq!(parse("/"), exact("/"));
        assert_eq!(parse("/*"), prefix(""));
        assert_eq!(parse("/admin/*"), prefix("/admin"));
        assert_eq!(parse("/admin/"), exact("/admin/"));
        assert_eq!(parse("/caf%c3%a9/%61"), exact("/caf%C3%A9/a"));
    }

    #[test]
    fn patterns_that_no_request_can_match_are_refused() {
        for text in ["", "admin", "*", "/a*", "/*/a", "/a?b", "//", "/a//*", "/../a", "/a;b", "/é"]
        {
            assert!(PathPattern::parse(text, &PathRules::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_are_normalised() {
        let parse = HostPattern::parse;
        assert_eq!(parse("App.Example.com."), Ok(HostPattern::Exact("app.example.com".into())));
        assert_eq!(parse("*.Example.com"), Ok(HostPattern::Suffix(".example.com".into())));
        assert_eq!(parse("[0::1]"), Ok(HostPattern::Exact("[::1]".into())));
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        for text in ["", "*", "*.", "a:80", "a:", "*.*.a", "a*", "http://a", ".a"] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }
}
