//! Routes compared with each other: ties, weaker exceptions, and the list of open doors.
//!
//! A route overrides another where both would take a request and it is the more specific one: the
//! same host pattern or a narrower one, and the same path pattern or a narrower one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use super::Context;
use super::routes::Lowered;
use crate::config::PublicRoute;
use crate::config::reports::Problem;
use crate::policy::claims::Requirement;
use crate::policy::path::one_spelling;
use crate::policy::route::table::RouteTable;
use crate::policy::route::{Auth, HostPattern, PathPattern, Route};

/// The table of all routes; reports those between which nothing could decide.
pub fn table(cx: &mut Context<'_>, routes: &[Lowered]) -> Option<RouteTable> {
    let all = routes.iter().map(|lowered| Arc::clone(&lowered.route)).collect();
    let ties = match RouteTable::new(all) {
        Ok(table) => return Some(table),
        Err(ties) => ties,
    };
    for tie in ties {
        let (Some(one), Some(twin)) = (routes.get(tie.second), routes.get(tie.first)) else {
            continue;
        };
        let what = match tie.method {
            Some(method) => format!("a tie with the route `{}` for {method}", twin.route.name),
            None => format!("a tie with the route `{}`: nothing decides", twin.route.name),
        };
        let expected = "expected another path, host or methods";
        cx.report(&one.at.key("path"), Problem::error(what).expected(expected));
    }
    None
}

/// Warns of routes that ask for less than the route they override.
pub fn weaker(cx: &mut Context<'_>, routes: &[Lowered]) {
    let index = Index::new(routes);
    for one in routes {
        let Some(over) = index.overridden(one) else { continue };
        let Some(lacking) = lacking(&one.route, &over.route) else { continue };
        let what = format!("weaker than `{}`, which it overrides: {lacking}", over.pattern);
        cx.report(&one.at.key("path"), Problem::warning(what));
    }
}

/// The routes on which no token is looked at.
pub fn public(routes: &[Lowered]) -> Vec<PublicRoute> {
    let index = Index::new(routes);
    let public = routes.iter().filter(|lowered| lowered.route.auth == Auth::Public);
    public
        .map(|lowered| PublicRoute {
            name: lowered.pattern.clone(),
            overrides: index
                .overridden(lowered)
                .filter(|over| over.route.auth != Auth::Public)
                .map(|over| over.pattern.clone()),
        })
        .collect()
}

/// All routes by host and path pattern, for walking from a pattern to the wider ones.
struct Index<'a>(HashMap<(HostPattern, bool, Cow<'a, str>), Vec<&'a Lowered>>);

impl<'a> Index<'a> {
    fn new(routes: &'a [Lowered]) -> Index<'a> {
        let mut index: HashMap<_, Vec<_>> = HashMap::new();
        for lowered in routes {
            let (is_prefix, path) = path_key(&lowered.route);
            let key = (lowered.route.host.clone(), is_prefix, path);
            index.entry(key).or_default().push(lowered);
        }
        Index(index)
    }

    /// Among the routes that would take all of this one's requests, the one that would win.
    fn overridden(&self, one: &Lowered) -> Option<&'a Lowered> {
        let paths = wider_paths(&one.route);
        wider_hosts(&one.route.host).into_iter().find_map(|host| {
            paths.iter().find_map(|(is_prefix, path)| {
                let places = self.0.get(&(host.clone(), *is_prefix, path.clone()))?;
                let mut others = places.iter().copied();
                others.find(|other| {
                    let same_pattern =
                        other.route.host == one.route.host && other.route.path == one.route.path;
                    !same_pattern && share_method(&one.route, &other.route)
                })
            })
        })
    }
}

fn path_key(route: &Route) -> (bool, Cow<'_, str>) {
    match &route.path {
        PathPattern::Exact(path) => (false, one_spelling(path)),
        PathPattern::Prefix(path) => (true, one_spelling(path)),
    }
}

/// This pattern and those that take all that it takes, the narrowest first.
fn wider_hosts(host: &HostPattern) -> Vec<HostPattern> {
    let name = match host {
        HostPattern::Any => return vec![HostPattern::Any],
        HostPattern::Exact(name) | HostPattern::Suffix(name) => name,
    };
    // A suffix begins with its dot, so it finds itself.
    let suffixes = name.match_indices('.').filter_map(|(dot, _)| name.get(dot..));
    let suffixes = suffixes.map(|suffix| HostPattern::Suffix(suffix.into()));
    let exact = matches!(host, HostPattern::Exact(_)).then(|| host.clone());
    exact.into_iter().chain(suffixes).chain([HostPattern::Any]).collect()
}

/// This pattern and those that take all that it takes, the narrowest first.
fn wider_paths(route: &Route) -> Vec<(bool, Cow<'_, str>)> {
    let (is_prefix, path) = path_key(route);
    let mut wider = if is_prefix { Vec::new() } else { vec![(false, path.clone())] };
    let mut prefix: &str = &path;
    loop {
        wider.push((true, Cow::Owned(prefix.to_owned())));
        match prefix.rsplit_once('/') {
            Some((shorter, _)) => prefix = shorter,
            None => return wider,
        }
    }
}

fn share_method(one: &Route, other: &Route) -> bool {
    let takes = |route: &Route, method: &Method| {
        route.methods.as_ref().is_none_or(|methods| methods.contains(method))
    };
    let named = one.methods.iter().chain(&other.methods).flatten();
    let mut named = named.peekable();
    named.peek().is_none() || named.any(|method| takes(one, method) && takes(other, method))
}

/// What `inner` does not ask for although `outer` does.
fn lacking(inner: &Route, outer: &Route) -> Option<String> {
    if outer.auth == Auth::Public {
        return None;
    }
    let asked: Vec<&Requirement> = outer.require.iter().collect();
    if inner.auth == Auth::Public {
        // That it is public is listed each time; worth a warning is what lay behind it.
        let lost = asked.iter().find_map(|requirement| missing(requirement, &[]));
        return lost.map(|what| format!("public, {what}"));
    }
    if inner.auth == Auth::Optional && outer.auth == Auth::Required {
        return Some("`auth: optional` instead of `required`".to_owned());
    }
    if outer.source_ips.is_some() && inner.source_ips.is_none() {
        return Some("without `source_ips`".to_owned());
    }
    asked.iter().find_map(|asked| missing(asked, &inner.require))
}

/// The first list of `asked` that `given` does not ask for, or asks for more widely.
fn missing(asked: &Requirement, given: &[Requirement]) -> Option<String> {
    let roles = given.iter().map(|given| &given.roles).collect();
    let scopes = given.iter().map(|given| &given.scopes).collect();
    let mut claims = asked.claims.iter().filter_map(|(path, values)| {
        let given = given.iter().filter_map(|given| given.claims.get(path)).collect();
        gap(&format!("claim {path}"), values, given)
    });
    gap("roles", &asked.roles, roles)
        .or_else(|| gap("scopes", &asked.scopes, scopes))
        .or_else(|| claims.next())
}

/// Other values are another decision; none at all, or the same values and more, are a wider one.
fn gap(name: &str, asked: &[Box<str>], given: Vec<&Vec<Box<str>>>) -> Option<String> {
    if asked.is_empty() {
        return None;
    }
    let given: Vec<_> = given.into_iter().filter(|given| !given.is_empty()).collect();
    let wider = |given: &&Vec<Box<str>>| {
        given.len() > asked.len() && asked.iter().all(|value| given.contains(value))
    };
    let first = match given.first() {
        None => return Some(format!("without {name} {}", asked.join(", "))),
        Some(first) => first,
    };
    let all_wider = given.iter().all(wider);
    all_wider.then(|| format!("{name} {} instead of {}", first.join(", "), asked.join(", ")))
}
