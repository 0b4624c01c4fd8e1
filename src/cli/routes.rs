//! `evergate routes`: the table in the order in which routes are tried.
//!
//! Hosts: exact, then the longest suffix, then none. Paths: exact, then the longest prefix. Methods:
//! the route that names them before the one that does not.

use std::process::ExitCode;

use super::{CONFIGURATION, ConfigFile, file};
use crate::config::Config;
use crate::policy::claims::Requirement;
use crate::policy::route::table::RouteTable;
use crate::policy::route::{Auth, HostPattern, PathPattern, Route};

const HEAD: [&str; 6] = ["HOST", "PATH", "METHODS", "AUTH", "UPSTREAM", "NEEDS"];

pub fn table(args: &ConfigFile) -> ExitCode {
    let loaded = match file::load(args) {
        Ok((_, loaded)) => loaded,
        Err(code) => return code,
    };
    // Ties are configuration errors, so a loaded configuration has a table.
    let Ok(table) = RouteTable::new(loaded.config.routes.clone()) else {
        return ExitCode::from(CONFIGURATION);
    };
    print!("{}", text(&loaded.config, &table));
    ExitCode::SUCCESS
}

fn text(config: &Config, table: &RouteTable) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(table.in_match_order().iter().map(|route| row(config, route)));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(config: &Config, route: &Route) -> [String; 6] {
    let upstream = config.upstreams.get(usize::from(route.upstream.0));
    [
        match &route.host {
            HostPattern::Any => "any".to_owned(),
            HostPattern::Exact(host) => host.to_string(),
            HostPattern::Suffix(suffix) => format!("*{suffix}"),
        },
        match &route.path {
            PathPattern::Exact(path) => path.to_string(),
            PathPattern::Prefix(path) => format!("{path}/*"),
        },
        match &route.methods {
            None => "all".to_owned(),
            Some(methods) => methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(","),
        },
        match route.auth {
            Auth::Required => "required".to_owned(),
            Auth::Optional => "optional".to_owned(),
            Auth::Public => "public".to_owned(),
        },
        upstream.map_or_else(String::new, |upstream| upstream.name.to_string()),
        needs(route),
    ]
}

fn needs(route: &Route) -> String {
    let mut needs: Vec<String> = route.require.iter().flat_map(requirement).collect();
    if let Some(networks) = &route.source_ips {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        needs.push(format!("from {}", networks.join("|")));
    }
    needs.join(", ")
}

fn requirement(require: &Requirement) -> Vec<String> {
    let lists = [("role", &require.roles), ("scope", &require.scopes)];
    let claims = require.claims.iter().map(|(path, values)| (path.as_ref(), values));
    let lists = lists.into_iter().chain(claims).filter(|(_, values)| !values.is_empty());
    lists.map(|(name, values)| format!("{name} {}", values.join("|"))).collect()
}
