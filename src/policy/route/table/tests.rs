//! The matching rules, and the table held against [`RouteTable::explain`].

use super::*;
use crate::policy::route::explain::Verdict;

type Row<'a> = (&'a str, &'a str, Option<&'a [Method]>);

fn table(rows: &[Row<'_>]) -> RouteTable {
    RouteTable::new(routes(rows)).unwrap()
}

fn routes(rows: &[Row<'_>]) -> Vec<Arc<Route>> {
    rows.iter()
        .map(|(host, path, methods)| Arc::new(Route::for_tests(host, path, *methods)))
        .collect()
}

/// The winner's name, `404`, or `405` with its Allow.
fn found(table: &RouteTable, host: &str, path: &str, method: Method) -> String {
    let host = if host.is_empty() { None } else { Some(host) };
    match table.find(host, path, &method) {
        Found::Route(route) => route.name.to_string(),
        Found::NoRoute => "404".to_owned(),
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
    }
}

#[test]
fn exact_host_beats_longest_suffix_beats_no_host() {
    let table = table(&[
        ("", "/*", None),
        ("*.example.com", "/*", None),
        ("*.app.example.com", "/*", None),
        ("app.example.com", "/*", None),
    ]);
    let host = |host| found(&table, host, "/x", Method::GET);
    assert_eq!(host("APP.example.com.:80"), "app.example.com/*");
    assert_eq!(host("a.app.example.com"), "*.app.example.com/*");
    assert_eq!(host("a.b.app.example.com"), "*.app.example.com/*");
    assert_eq!(host("other.example.com"), "*.example.com/*");
    assert_eq!(host("example.com"), "/*");
    assert_eq!(host("notexample.com"), "/*");
    assert_eq!(host(""), "/*");
}

#[test]
fn best_host_that_has_a_route_for_the_path_decides() {
    let table = table(&[
        ("app.example.com", "/admin/*", None),
        ("*.example.com", "/*", Some(&[Method::GET])),
        ("", "/*", None),
    ]);
    assert_eq!(found(&table, "app.example.com", "/x", Method::GET), "*.example.com/*");
    assert_eq!(found(&table, "app.example.com", "/x", Method::POST), "405 GET, HEAD");
    assert_eq!(
        found(&table, "app.example.com", "/admin/x", Method::POST),
        "app.example.com/admin/*"
    );
}

#[test]
fn what_is_no_host_belongs_nowhere() {
    let table = table(&[("", "/*", None)]);
    for host in [".example.com", "a b", "a,b", "user@a", "a:b", "[::1"] {
        assert_eq!(found(&table, host, "/", Method::GET), "404", "{host}");
    }
}

#[test]
fn ipv6_host_is_found_in_every_spelling() {
    let table = table(&[("[::1]", "/*", None)]);
    assert_eq!(found(&table, "[0:0::1]:8080", "/", Method::GET), "[::1]/*");
}

#[test]
fn prefixes_match_whole_segments_and_the_longest_wins() {
    let table = table(&[
        ("", "/admin/*", None),
        ("", "/admin/users/*", None),
        ("", "/admin/users", None),
        ("", "/static/app.js", None),
    ]);
    let path = |path| found(&table, "", path, Method::GET);
    assert_eq!(path("/admin"), "/admin/*");
    assert_eq!(path("/admin/"), "/admin/*");
    assert_eq!(path("/admin/x/y"), "/admin/*");
    assert_eq!(path("/admin/users"), "/admin/users");
    assert_eq!(path("/admin/users/"), "/admin/users/*");
    assert_eq!(path("/admin/usersx"), "/admin/*");
    assert_eq!(path("/administrator"), "404");
    assert_eq!(path("/Admin"), "404");
    assert_eq!(path("/static/app.js/"), "404");
    assert_eq!(path("/"), "404");
}

#[test]
fn every_spelling_of_a_path_belongs_to_the_same_route() {
    let table = table(&[("", "/*", None), ("", "/@staff/*", None), ("", "/%5Bid%5D", None)]);
    let path = |path| found(&table, "", path, Method::GET);
    assert_eq!(path("/%40staff/x"), "/@staff/*");
    assert_eq!(path("/@staff%2Fx"), "/*");
    assert_eq!(path("/[id]"), "/%5Bid%5D");
}

#[test]
fn method_never_falls_to_a_shorter_prefix() {
    let table = table(&[
        ("", "/*", None),
        ("", "/api/*", Some(&[Method::GET])),
        ("", "/api/*", Some(&[Method::PUT, Method::HEAD])),
    ]);
    assert_eq!(found(&table, "", "/api/x", Method::POST), "405 GET, HEAD, PUT");
    assert_eq!(found(&table, "", "/api/x", Method::PUT), "/api/*");
    assert_eq!(found(&table, "", "/x", Method::POST), "/*");
}

#[test]
fn the_route_that_names_the_method_wins() {
    let mut rows = routes(&[
        ("", "/api/*", None),
        ("", "/api/*", Some(&[Method::GET])),
        ("", "/api/*", Some(&[Method::HEAD])),
    ]);
    for (row, name) in rows.iter_mut().zip(["unnamed", "get", "head"]) {
        Arc::make_mut(row).name = name.into();
    }
    let names = |rows: Vec<Arc<Route>>| {
        let table = RouteTable::new(rows).unwrap();
        [Method::GET, Method::HEAD, Method::POST].map(|method| found(&table, "", "/api", method))
    };
    assert_eq!(names(rows.clone()), ["get", "head", "unnamed"]);
    rows.pop();
    rows.reverse();
    assert_eq!(names(rows), ["get", "get", "unnamed"]);
}

#[test]
fn connect_and_trace_are_never_routed() {
    let table = table(&[("", "/a", None), ("", "/b", Some(&[Method::TRACE, Method::GET]))]);
    for method in [Method::CONNECT, Method::TRACE] {
        let all = "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        assert_eq!(found(&table, "", "/a", method.clone()), all);
        assert_eq!(found(&table, "", "/b", method.clone()), "405 GET, HEAD");
        assert_eq!(found(&table, "", "/c", method), "405 ");
    }
}

#[test]
fn preflight_belongs_to_the_request_it_announces() {
    let mut rows = routes(&[("", "/api/*", Some(&[Method::PUT])), ("", "/other/*", None)]);
    Arc::make_mut(rows.first_mut().unwrap()).preflight = Preflight::Pass;
    let table = RouteTable::new(rows).unwrap();
    let name = |path, method| match table.find_preflight(None, path, &method) {
        Found::Route(route) => route.name.to_string(),
        Found::NoRoute => "404".to_owned(),
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
    };
    assert_eq!(name("/api/x", Method::PUT), "/api/*");
    assert_eq!(name("/api/x", Method::GET), "405 PUT");
    assert_eq!(name("/other/x", Method::PUT), "/other/*");
    assert_eq!(name("/none", Method::PUT), "404");
}

#[test]
fn ties_are_refused_all_at_once() {
    let rows = [
        ("a.example", "/x/*", None),
        ("A.example.", "/x/*", None),
        ("", "/@x", Some(&[Method::GET, Method::PUT][..])),
        ("", "/%40x", Some(&[Method::PUT][..])),
        ("", "/x/*", None),
        ("", "/x", None),
    ];
    let ties = RouteTable::new(routes(&rows)).unwrap_err();
    let expected = [
        Tie { first: 0, second: 1, method: None },
        Tie { first: 2, second: 3, method: Some(Method::PUT) },
    ];
    assert_eq!(ties, expected);
}

#[test]
fn match_order_goes_from_specific_to_general() {
    let table = table(&[
        ("", "/*", None),
        ("", "/b/*", None),
        ("", "/a", None),
        ("", "/b/*", Some(&[Method::GET])),
        ("*.example.com", "/*", None),
        ("*.a.example.com", "/*", None),
        ("z.example.com", "/*", None),
        ("a.example.com", "/*", None),
    ]);
    let names: Vec<&str> = table.in_match_order().iter().map(|route| &*route.name).collect();
    let expected = [
        "a.example.com/*",
        "z.example.com/*",
        "*.a.example.com/*",
        "*.example.com/*",
        "/a",
        "/b/*",
        "/b/*",
        "/*",
    ];
    assert_eq!(names, expected);
}

#[test]
fn table_and_explanation_agree_on_every_request() {
    let hosts = ["", "a.x.example", "x.example", "*.x.example", "*.example"];
    let paths = ["/*", "/a", "/a/*", "/a/b/*", "/a/b"];
    let methods: [Option<&[Method]>; 3] = [None, Some(&[Method::GET]), Some(&[Method::POST])];
    let mut rows = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        for (other, path) in paths.iter().enumerate() {
            for (third, methods) in methods.iter().enumerate() {
                // Two of three rows, so that every kind of gap is met.
                if (number + 2 * other + third) % 3 != 0 {
                    rows.push((*host, *path, *methods));
                }
            }
        }
    }
    let table = table(&rows);
    let hosts = ["", "a.x.example", "b.x.example", "x.example", "c.example", "other", "bad host"];
    let paths = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/bc", "/ab", "/%61"];
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::TRACE];
    for host in hosts.map(|host| (!host.is_empty()).then_some(host)) {
        for (path, method) in paths.iter().flat_map(|p| methods.iter().map(move |m| (p, m))) {
            let explained = table.explain(host, path, method);
            let mut winners = explained.iter().filter(|(_, verdict)| *verdict == Verdict::Wins);
            let expected = match table.find(host, path, method) {
                Found::Route(route) => Some(route),
                Found::NoRoute | Found::MethodNotAllowed { .. } => None,
            };
            let winner = winners.next().map(|(route, _)| route);
            let same = match (winner, expected) {
                (Some(winner), Some(expected)) => Arc::ptr_eq(winner, expected),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(same && winners.next().is_none(), "{host:?} {path} {method}");
        }
    }
}
