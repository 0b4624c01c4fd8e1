//! Upstreams: the named ones, and those that routes name by URL.

use std::collections::BTreeMap;

use super::{Context, url};
use crate::config::raw::upstream::Upstream;
use crate::config::raw::values::{List, Period};
use crate::config::reports::{KeyPath, Problem, nearest};
use crate::policy::route::UpstreamId;
use crate::proxy::upstreams::{HostHeader, ServerAddress, UpstreamSettings};

const UPSTREAMS_MAX: usize = 1000;
const SERVERS_MAX: usize = 256;

/// All upstreams; the index in `list` is the [`UpstreamId`].
pub struct Upstreams {
    pub list: Vec<UpstreamSettings>,
    /// Names and URLs.
    ids: BTreeMap<String, UpstreamId>,
}

pub fn upstreams(cx: &mut Context<'_>) -> Upstreams {
    let raw = cx.raw;
    let at = KeyPath::root().key("upstreams");
    cx.at_most(&at, raw.upstreams.len(), UPSTREAMS_MAX);
    let mut upstreams = Upstreams { list: Vec::new(), ids: BTreeMap::new() };
    for (name, upstream) in &raw.upstreams {
        let at = at.key(name);
        cx.name(&at, name);
        let settings = settings(cx, &at, name, upstream);
        upstreams.add(name, settings);
    }
    if let Some(name) = &raw.defaults.upstream {
        let at = KeyPath::root().key("defaults").key("upstream");
        let found = upstreams.find(name);
        cx.ok(&at, found);
    }
    upstreams
}

impl Upstreams {
    /// The upstream of this name, or a new one for this URL.
    pub fn resolve(
        &mut self,
        cx: &mut Context<'_>,
        at: &KeyPath,
        name: &str,
    ) -> Option<UpstreamId> {
        if self.known(name).is_some() || !name.contains("://") {
            return cx.ok(at, self.find(name));
        }
        cx.at_most(at, self.list.len() + 1, UPSTREAMS_MAX + cx.raw.routes.len());
        let upstream = Upstream { servers: List(vec![name.to_owned()]), ..Upstream::default() };
        let address = server(name);
        cx.ok(at, address)?;
        let settings = settings(cx, at, name, &upstream);
        Some(self.add(name, settings))
    }

    /// The upstream of this name, if there is one.
    pub fn known(&self, name: &str) -> Option<UpstreamId> {
        self.ids.get(name).copied()
    }

    fn find(&self, name: &str) -> Result<UpstreamId, Problem> {
        self.ids.get(name).copied().ok_or_else(|| {
            Problem::error(format!("there is no upstream `{name}`"))
                .nearest(name, self.ids.keys().map(String::as_str))
        })
    }

    fn add(&mut self, name: &str, settings: UpstreamSettings) -> UpstreamId {
        let id = UpstreamId(u16::try_from(self.list.len()).unwrap_or(u16::MAX));
        self.list.push(settings);
        self.ids.insert(name.to_owned(), id);
        id
    }
}

/// Reports a duration of zero, with which nothing would ever succeed.
pub fn not_zero(cx: &mut Context<'_>, at: &KeyPath, periods: &[(&str, Option<Period>)]) {
    for (key, period) in periods {
        if period.is_some_and(|period| period.0.is_zero()) {
            cx.error(&at.key(key), "nothing can be done in no time", "expected more than 0s");
        }
    }
}

fn settings(cx: &mut Context<'_>, at: &KeyPath, name: &str, raw: &Upstream) -> UpstreamSettings {
    let timeouts = &raw.timeouts;
    not_zero(
        cx,
        &at.key("timeouts"),
        &[
            ("connect", Some(timeouts.connect)),
            ("read", Some(timeouts.read)),
            ("write", Some(timeouts.write)),
            ("stream_idle", Some(timeouts.stream_idle)),
        ],
    );
    let servers = servers(cx, &at.key("servers"), &raw.servers);
    let tls_at = at.key("tls");
    let plain = !servers.is_empty() && servers.iter().all(|server| !server.tls);
    for (key, given) in [("ca", &raw.tls.ca), ("server_name", &raw.tls.server_name)] {
        if given.is_some() && plain {
            cx.error(&tls_at.key(key), "without effect: no server of this upstream is https", "");
        }
    }
    let host_header = host_header(&raw.host_header);
    UpstreamSettings {
        name: name.into(),
        servers,
        connect: timeouts.connect.0,
        read: timeouts.read.0,
        write: timeouts.write.0,
        idle: timeouts.idle.0,
        stream_idle: timeouts.stream_idle.0,
        host_header: cx.ok(&at.key("host_header"), host_header).unwrap_or(HostHeader::Preserve),
        tls_ca: raw.tls.ca.as_ref().map(|path| cx.file(&tls_at.key("ca"), path)),
        tls_server_name: raw.tls.server_name.clone(),
    }
}

fn servers(cx: &mut Context<'_>, at: &KeyPath, list: &List<String>) -> Vec<ServerAddress> {
    if list.0.is_empty() {
        cx.error(at, "missing", "for example `http://127.0.0.1:3000`");
    }
    cx.at_most(at, list.0.len(), SERVERS_MAX);
    let servers = list.0.iter().enumerate();
    servers.filter_map(|(index, text)| cx.ok(&at.item(index), server(text))).collect()
}

fn server(text: &str) -> Result<ServerAddress, Problem> {
    let url =
        url::parse(text).map_err(|problem| problem.expected("expected `http://host:port`"))?;
    if !matches!(url.path_and_query.as_str(), "" | "/") {
        return Err(Problem::error("a server has no path")
            .expected("expected `http://host:port`")
            .help("a route can take a prefix off the path: `rewrite.strip_prefix`"));
    }
    Ok(ServerAddress { host: url.host, port: url.port, tls: url.tls })
}

fn host_header(text: &str) -> Result<HostHeader, Problem> {
    const WORDS: &[&str] = &["preserve", "upstream"];
    let expected = "expected `preserve`, `upstream` or a host name";
    match text {
        "preserve" => Ok(HostHeader::Preserve),
        "upstream" => Ok(HostHeader::Upstream),
        _ if nearest(text, WORDS).is_some() => {
            Err(Problem::error(format!("unknown word `{text}`")).nearest(text, WORDS.to_vec()))
        }
        _ => match text.parse::<http::uri::Authority>() {
            Ok(authority) if !authority.as_str().contains('@') => {
                Ok(HostHeader::Literal(text.to_owned()))
            }
            Ok(_) | Err(_) => Err(Problem::error("not a host name").expected(expected)),
        },
    }
}
