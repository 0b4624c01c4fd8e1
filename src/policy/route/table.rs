//! All routes, found by hashing: ten thousand cost a request what ten do.
//!
//! One lookup finds the host's own table; there, one lookup the exact path, and at most one for
//! each segment the prefix. Walking a tree of segments was rejected: it saves no lookup that matters
//! and hides the rule "exact, then longest prefix".

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::{HostPattern, PathPattern, Preflight, Route, host};
use crate::policy::path::one_spelling;

/// The methods of a route that names none, for `Allow`.
const USUAL: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The checked routes of one configuration.
#[derive(Debug)]
pub struct RouteTable {
    in_match_order: Vec<Arc<Route>>,
    exact: HashMap<Box<str>, Paths>,
    /// By `.example.com`.
    suffixes: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// Which route a request belongs to.
#[derive(Clone, Debug)]
pub enum Found<'a> {
    Route(&'a Arc<Route>),
    /// 404.
    NoRoute,
    /// 405; `allow` is the value of `Allow` (RFC 9110 §10.2.1).
    MethodNotAllowed {
        allow: String,
    },
}

/// Two routes that the same request could belong to, by their place in the list given to
/// [`RouteTable::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    pub first: usize,
    pub second: usize,
    /// The method both name; `None` if both name no method.
    pub method: Option<Method>,
}

/// How well a route fits a method; the greatest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MethodFit {
    /// The route names no method.
    Unnamed,
    /// HEAD, on a route that names GET.
    Included,
    Named,
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<str>, Place>,
    prefixes: HashMap<Box<str>, Place>,
    prefix_bytes_max: usize,
}

/// The routes of one host and one path pattern, told apart by method.
type Place = Vec<Arc<Route>>;

impl RouteTable {
    /// Builds the table.
    ///
    /// # Errors
    /// All pairs of routes that tie.
    pub fn new(routes: Vec<Arc<Route>>) -> Result<RouteTable, Vec<Tie>> {
        let ties = ties(&routes);
        if !ties.is_empty() {
            return Err(ties);
        }
        let mut in_match_order = routes;
        in_match_order.sort_by_cached_key(|route| match_order(route));
        let mut table = RouteTable {
            in_match_order: Vec::new(),
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            any: Paths::default(),
        };
        for route in &in_match_order {
            let paths = match &route.host {
                HostPattern::Any => &mut table.any,
                HostPattern::Exact(name) => table.exact.entry(name.clone()).or_default(),
                HostPattern::Suffix(suffix) => table.suffixes.entry(suffix.clone()).or_default(),
            };
            paths.add(route);
        }
        table.in_match_order = in_match_order;
        Ok(table)
    }

    /// The route of a request.
    ///
    /// `host` is the Host field as received; `path` is [`Canonical::matched`]. A Host that is no host
    /// name belongs nowhere.
    ///
    /// [`Canonical::matched`]: crate::policy::path::Canonical::matched
    pub fn find(&self, host: Option<&str>, path: &str, method: &Method) -> Found<'_> {
        let place = self.place(host, path);
        let never = never_routed(method);
        match place {
            None if never => Found::MethodNotAllowed { allow: String::new() },
            None => Found::NoRoute,
            Some(place) => match best(place, method) {
                Some(route) => Found::Route(route),
                None => Found::MethodNotAllowed { allow: allow(place) },
            },
        }
    }

    /// The route of a CORS preflight that asks for `requested` (`Access-Control-Request-Method`).
    ///
    /// A preflight belongs to the request it announces, if that one's route lets preflights pass;
    /// else it is an OPTIONS request like any other.
    pub fn find_preflight(&self, host: Option<&str>, path: &str, requested: &Method) -> Found<'_> {
        match self.find(host, path, requested) {
            Found::Route(route) if route.preflight == Preflight::Pass => Found::Route(route),
            Found::Route(_) | Found::NoRoute | Found::MethodNotAllowed { .. } => {
                self.find(host, path, &Method::OPTIONS)
            }
        }
    }

    /// All routes, the more specific first.
    pub fn in_match_order(&self) -> &[Arc<Route>] {
        &self.in_match_order
    }

    fn place(&self, host: Option<&str>, path: &str) -> Option<&Place> {
        let path = one_spelling(path);
        if let Some(text) = host {
            let name = host::authority(text)?.name;
            if let Some(place) = self.exact.get(&*name).and_then(|paths| paths.find(&path)) {
                return Some(place);
            }
            if !self.suffixes.is_empty() {
                // From the left: the longest suffix comes first.
                for (dot, _) in name.match_indices('.') {
                    let paths = name.get(dot..).and_then(|suffix| self.suffixes.get(suffix));
                    if let Some(place) = paths.and_then(|paths| paths.find(&path)) {
                        return Some(place);
                    }
                }
            }
        }
        self.any.find(&path)
    }
}

impl Paths {
    fn add(&mut self, route: &Arc<Route>) {
        let (is_prefix, key) = path_key(route);
        if is_prefix {
            self.prefix_bytes_max = self.prefix_bytes_max.max(key.len());
        }
        let map = if is_prefix { &mut self.prefixes } else { &mut self.exact };
        map.entry(key.into()).or_default().push(Arc::clone(route));
    }

    fn find(&self, path: &str) -> Option<&Place> {
        if let Some(place) = self.exact.get(path) {
            return Some(place);
        }
        if self.prefixes.is_empty() {
            return None;
        }
        // Longer than the longest prefix is not looked up: a path of a thousand segments costs no
        // more lookups than the routes have segments.
        let mut prefix = path;
        loop {
            if prefix.len() <= self.prefix_bytes_max
                && let Some(place) = self.prefixes.get(prefix)
            {
                return Some(place);
            }
            (prefix, _) = prefix.rsplit_once('/')?;
        }
    }
}

/// How `route` fits `method`; `None` if it does not.
pub(super) fn method_fit(route: &Route, method: &Method) -> Option<MethodFit> {
    if never_routed(method) {
        return None;
    }
    let Some(named) = &route.methods else { return Some(MethodFit::Unnamed) };
    if named.iter().any(|name| same(name, method)) {
        return Some(MethodFit::Named);
    }
    let included = same(method, &Method::HEAD) && named.contains(&Method::GET);
    included.then_some(MethodFit::Included)
}

/// Methods are case-sensitive (RFC 9110 §9.1), but many backends turn them into upper case: what
/// guards `POST` must guard `post`. It is forwarded as it came.
fn same(one: &Method, other: &Method) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// CONNECT opens a tunnel past every check; TRACE echoes cookies (RFC 9110 §9.3.8).
fn never_routed(method: &Method) -> bool {
    same(method, &Method::CONNECT) || same(method, &Method::TRACE)
}

fn best<'a>(place: &'a Place, method: &Method) -> Option<&'a Arc<Route>> {
    let fits = |route: &&Arc<Route>| method_fit(route, method);
    place.iter().filter(|route| fits(route).is_some()).max_by_key(fits)
}

/// The methods that some route of this place takes.
fn allow(place: &Place) -> String {
    let mut allowed: Vec<&Method> = Vec::new();
    let named = place.iter().filter_map(|route| route.methods.as_deref()).flatten();
    for method in USUAL.iter().chain(named) {
        let taken = place.iter().any(|route| method_fit(route, method).is_some());
        if taken && !allowed.contains(&method) {
            allowed.push(method);
        }
    }
    let words: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
    words.join(", ")
}

/// Routes of one host, one path and one method (or none).
fn ties(routes: &[Arc<Route>]) -> Vec<Tie> {
    let mut ties = Vec::new();
    let mut seen = HashMap::new();
    for (second, route) in routes.iter().enumerate() {
        let methods: Vec<Option<&Method>> = match &route.methods {
            None => vec![None],
            Some(named) => named.iter().map(Some).collect(),
        };
        for method in methods {
            let (is_prefix, path) = path_key(route);
            let key = (&route.host, is_prefix, path, method);
            let first = *seen.entry(key).or_insert(second);
            if first != second {
                ties.push(Tie { first, second, method: method.cloned() });
            }
        }
    }
    ties
}

fn path_key(route: &Route) -> (bool, Cow<'_, str>) {
    match &route.path {
        PathPattern::Exact(path) => (false, one_spelling(path)),
        PathPattern::Prefix(path) => (true, one_spelling(path)),
    }
}

/// Sorts as the rules do: host, path, method; what they leave open goes by the alphabet.
fn match_order(route: &Route) -> impl Ord + use<> {
    let host = match &route.host {
        HostPattern::Exact(name) => (0, Reverse(0), name.clone()),
        HostPattern::Suffix(suffix) => (1, Reverse(suffix.len()), suffix.clone()),
        HostPattern::Any => (2, Reverse(0), "".into()),
    };
    let (is_prefix, path) = path_key(route);
    let length = if is_prefix { path.len() } else { 0 };
    let methods: Vec<String> =
        route.methods.iter().flatten().map(|method| method.to_string()).collect();
    (host, is_prefix, Reverse(length), path.into_owned(), methods.is_empty(), methods)
}

#[cfg(test)]
mod tests;
