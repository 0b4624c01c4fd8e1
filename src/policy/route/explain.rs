//! Why a route wins and the others lose, for `evergate routes test`.
//!
//! Judges every route by the rules alone, without the table's hashing; a test holds the two against
//! each other, so that neither can be wrong alone.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::table::{MethodFit, RouteTable, method_fit};
use super::{HostPattern, PathPattern, Route, host};
use crate::policy::path::one_spelling;

/// What became of one route for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wins,
    OtherHost,
    OtherPath,
    LessSpecificHost,
    ShorterPrefix,
    OtherMethod,
    /// The route would take the method, but another names it (more exactly).
    LessSpecificMethod,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Wins => "wins",
            Verdict::OtherHost => "other host",
            Verdict::OtherPath => "path does not match",
            Verdict::LessSpecificHost => "less specific host",
            Verdict::ShorterPrefix => "shorter prefix",
            Verdict::OtherMethod => "other method",
            Verdict::LessSpecificMethod => "another route names the method",
        })
    }
}

impl RouteTable {
    /// All routes in match order with their verdicts; arguments as for [`RouteTable::find`].
    pub fn explain(
        &self,
        host: Option<&str>,
        path: &str,
        method: &Method,
    ) -> Vec<(Arc<Route>, Verdict)> {
        let path = one_spelling(path);
        let fits: Vec<(&Arc<Route>, Fit)> = self
            .in_match_order()
            .iter()
            .map(|route| (route, Fit::of(route, host, &path, method)))
            .collect();
        let candidates = || fits.iter().filter_map(|(_, fit)| Some((fit.host?, fit.path?, fit)));
        let best_host = candidates().map(|(host, ..)| host).max();
        let best_path =
            candidates().filter(|c| Some(c.0) == best_host).map(|(_, path, _)| path).max();
        let best_method = candidates()
            .filter(|c| Some(c.0) == best_host && Some(c.1) == best_path)
            .filter_map(|(.., fit)| fit.method)
            .max();
        let verdict = |fit: &Fit| match fit {
            Fit { host: None, .. } => Verdict::OtherHost,
            Fit { path: None, .. } => Verdict::OtherPath,
            Fit { host, .. } if *host < best_host => Verdict::LessSpecificHost,
            Fit { path, .. } if *path < best_path => Verdict::ShorterPrefix,
            Fit { method: None, .. } => Verdict::OtherMethod,
            Fit { method, .. } if *method < best_method => Verdict::LessSpecificMethod,
            Fit { .. } => Verdict::Wins,
        };
        fits.iter().map(|(route, fit)| (Arc::clone(route), verdict(fit))).collect()
    }
}

/// How well a route fits, part by part; greater is more specific, `None` does not fit.
struct Fit {
    host: Option<usize>,
    path: Option<usize>,
    method: Option<MethodFit>,
}

impl Fit {
    fn of(route: &Route, host: Option<&str>, path: &str, method: &Method) -> Fit {
        Fit {
            host: host_fit(&route.host, host),
            path: path_fit(&route.path, path),
            method: method_fit(route, method),
        }
    }
}

fn host_fit(pattern: &HostPattern, host: Option<&str>) -> Option<usize> {
    let name = match host {
        Some(text) => Some(host::authority(text)?.name),
        None => None,
    };
    match pattern {
        HostPattern::Any => Some(0),
        HostPattern::Exact(wanted) => (name? == **wanted).then_some(usize::MAX),
        HostPattern::Suffix(suffix) => {
            let name = name?;
            let under = name.len() > suffix.len() && name.ends_with(&**suffix);
            under.then_some(suffix.len())
        }
    }
}

fn path_fit(pattern: &PathPattern, path: &str) -> Option<usize> {
    match pattern {
        PathPattern::Exact(wanted) => (path == one_spelling(wanted)).then_some(usize::MAX),
        PathPattern::Prefix(prefix) => {
            let prefix = one_spelling(prefix);
            let rest = path.strip_prefix(&*prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(host: Option<&str>, path: &str, method: Method) -> Vec<(String, Verdict)> {
        let named = |host, path, methods| Arc::new(Route::for_tests(host, path, methods));
        let table = RouteTable::new(vec![
            named("", "/*", None),
            named("", "/admin/*", None),
            named("app.example.com", "/admin/*", Some(&[Method::GET])),
            named("app.example.com", "/admin/*", None),
            named("app.example.com", "/admin/users", Some(&[Method::POST])),
            named("*.example.com", "/*", None),
        ])
        .unwrap();
        let explained = table.explain(host, path, &method);
        explained.into_iter().map(|(route, verdict)| (route.name.to_string(), verdict)).collect()
    }

    #[test]
    fn every_route_says_why_it_lost() {
        let expected = [
            ("app.example.com/admin/users", Verdict::OtherPath),
            ("app.example.com/admin/*", Verdict::Wins),
            ("app.example.com/admin/*", Verdict::LessSpecificMethod),
            ("*.example.com/*", Verdict::LessSpecificHost),
            ("/admin/*", Verdict::LessSpecificHost),
            ("/*", Verdict::LessSpecificHost),
        ]
        .map(|(name, verdict)| (name.to_owned(), verdict));
        assert_eq!(verdicts(Some("app.example.com"), "/admin/x", Method::GET), expected);
    }

    #[test]
    fn nobody_wins_where_the_method_is_not_taken() {
        let expected = [
            ("app.example.com/admin/users", Verdict::OtherMethod),
            ("app.example.com/admin/*", Verdict::ShorterPrefix),
            ("app.example.com/admin/*", Verdict::ShorterPrefix),
            ("*.example.com/*", Verdict::LessSpecificHost),
            ("/admin/*", Verdict::LessSpecificHost),
            ("/*", Verdict::LessSpecificHost),
        ]
        .map(|(name, verdict)| (name.to_owned(), verdict));
        assert_eq!(verdicts(Some("app.example.com"), "/admin/users", Method::GET), expected);
    }

    #[test]
    fn what_is_no_host_matches_no_route() {
        let found = verdicts(Some("a b"), "/", Method::GET);
        assert!(found.iter().all(|(_, verdict)| *verdict == Verdict::OtherHost), "{found:?}");
    }
}
