//! What routes are matched by: methods, and the prefix that is taken off a path.
//!
//! Hosts and paths are parsed by [`crate::policy::route::pattern`], with the rules that requests are
//! judged by.

use http::Method;

use crate::config::reports::Problem;
use crate::policy::path::{PathRules, one_spelling};
use crate::policy::route::PathPattern;

const METHOD_BYTES_MAX: usize = 32;

/// Parses a method name.
///
/// # Errors
/// Why no request with it is ever forwarded.
pub fn method(text: &str) -> Result<Method, Problem> {
    let expected = |what: String| Problem::error(what).expected("expected `GET`, `POST`, …");
    if matches!(text, "CONNECT" | "TRACE") {
        return Err(expected(format!("{text} is never forwarded")));
    }
    let upper = text.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '-' | '_'));
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if upper && text.len() <= METHOD_BYTES_MAX => Ok(method),
        Ok(_) | Err(_) => {
            Err(expected(format!("`{text}` is not a method: they are case-sensitive")))
        }
    }
}

/// Parses `rewrite.strip_prefix` for a route with this path; drops a trailing slash.
///
/// # Errors
/// Why it would take nothing off.
pub fn strip_prefix(
    text: &str,
    path: &PathPattern,
    rules: &PathRules,
) -> Result<Box<str>, Problem> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    if prefix.is_empty() {
        return Err(Problem::error("there is nothing to strip").expected("expected `/path`"));
    }
    let expected = "expected the route's path, or whole segments of its beginning";
    let prefix = match PathPattern::parse(prefix, rules) {
        Ok(PathPattern::Exact(prefix)) => prefix,
        Ok(PathPattern::Prefix(_)) => {
            return Err(Problem::error("a prefix has no `*`").expected(expected));
        }
        Err(what) => return Err(Problem::error(what).expected(expected)),
    };
    let (PathPattern::Exact(path) | PathPattern::Prefix(path)) = path;
    let (whole, beginning) = (one_spelling(path), one_spelling(&prefix));
    let rest = whole.strip_prefix(beginning.as_ref());
    if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Ok(prefix);
    }
    Err(Problem::error("the route's path does not begin with it").expected(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_whole_segments_of_the_path() {
        let strip = |text, path: &str| {
            let rules = PathRules::default();
            strip_prefix(text, &PathPattern::parse(path, &rules).unwrap(), &rules).ok()
        };
        assert_eq!(strip("/app/", "/app/*"), Some("/app".into()));
        assert_eq!(strip("/app", "/app/x"), Some("/app".into()));
        assert_eq!(strip("/%40me", "/@me/*"), Some("/%40me".into()));
        for text in ["/", "", "/ap", "/app/x", "app", "/app/*"] {
            assert_eq!(strip(text, "/app/*"), None, "{text}");
        }
    }
}
