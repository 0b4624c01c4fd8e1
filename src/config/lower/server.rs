//! Listeners, admin, log, limits, paths.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::Context;
use crate::config::raw::values::{List, Size};
use crate::config::raw::{Gateway, server as raw};
use crate::config::reports::{KeyPath, Problem};
use crate::config::{Limits, ListenAddress, ListenerSettings, LogFormat, LogSettings};
use crate::policy::path::{DotSegments, DoubleSlash, EncodedSlash, Parameters, PathRules};

const LISTENERS_MAX: usize = 64;
/// Longest path of a Unix socket (`sockaddr_un`, less the final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What Pingora's parser takes at most, whatever is configured.
const HEADER_BYTES_MAX: u64 = 1 << 20;
const HEADER_BYTES_MIN: u64 = 1 << 10;
const HEADERS_MAX: u32 = 256;
const THREADS_MAX: u32 = 1024;

const ADDRESS_FORM: &str = "expected `127.0.0.1:8080`, `[::]:8080` or `unix:/path`";

pub fn listeners(cx: &mut Context<'_>) -> Vec<ListenerSettings> {
    let raw = cx.raw;
    let base = KeyPath::root().key("listeners");
    if raw.listeners.is_empty() {
        cx.error(
            &base,
            "missing: there is nowhere to listen",
            "for example `listen: 127.0.0.1:8080`",
        );
    }
    cx.at_most(&base, raw.listeners.len(), LISTENERS_MAX);
    let mut lowered: Vec<ListenerSettings> = Vec::new();
    for (name, listener) in &raw.listeners {
        let at = base.key(name);
        cx.name(&at, name);
        let trusted_proxies = networks(cx, &at.key("trusted_proxies"), &listener.trusted_proxies);
        if let Some(all) = trusted_proxies.iter().position(|network| network.prefix_len() == 0) {
            let problem = Problem::warning("everybody may claim to come from anywhere")
                .expected("the networks of your proxies");
            cx.report(&at.key("trusted_proxies").item(all), problem);
        }
        let at = at.key("address");
        let Some(text) = &listener.address else {
            cx.error(&at, "missing", ADDRESS_FORM);
            continue;
        };
        let Some(address) = cx.ok(&at, listen_address(text)) else { continue };
        if let Some(other) = lowered.iter().find(|other| same(&other.address, &address)) {
            let what = format!("the listener `{}` already listens there", other.name);
            cx.error(&at, what, "");
        }
        lowered.push(ListenerSettings { name: name.as_str().into(), address, trusted_proxies });
    }
    lowered
}

pub fn admin(cx: &mut Context<'_>, listeners: &[ListenerSettings]) -> SocketAddr {
    let at = KeyPath::root().key("admin").key("address");
    let unspecified = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address = match cx.ok(&at, listen_address(&cx.raw.admin.address)) {
        Some(ListenAddress::Tcp(address)) => address,
        Some(ListenAddress::Unix(_)) => {
            cx.error(&at, "a Unix socket is not supported here", "expected `127.0.0.1:9901`");
            return unspecified;
        }
        None => return unspecified,
    };
    if !address.ip().is_loopback() {
        let problem = Problem::error("only loopback: whoever reaches it needs no password")
            .expected("expected `127.0.0.1:port` or `[::1]:port`")
            .help("other addresses need `admin.token`, which is not supported yet");
        cx.report(&at, problem);
    }
    let tcp = ListenAddress::Tcp(address);
    if let Some(other) = listeners.iter().find(|other| same(&other.address, &tcp)) {
        cx.error(&at, format!("the listener `{}` already listens on {address}", other.name), "");
    }
    address
}

/// Networks in CIDR form, or single addresses.
pub fn networks(cx: &mut Context<'_>, at: &KeyPath, list: &List<String>) -> Vec<IpNet> {
    let networks = list.0.iter().enumerate();
    networks.filter_map(|(index, text)| cx.ok(&at.item(index), network(text))).collect()
}

pub fn log(raw: &Gateway) -> LogSettings {
    let format = match raw.log.format {
        raw::Format::Auto => None,
        raw::Format::Json => Some(LogFormat::Json),
        raw::Format::Text => Some(LogFormat::Text),
    };
    let level = match raw.log.level {
        raw::Level::Error => tracing::Level::ERROR,
        raw::Level::Warn => tracing::Level::WARN,
        raw::Level::Info => tracing::Level::INFO,
        raw::Level::Debug => tracing::Level::DEBUG,
        raw::Level::Trace => tracing::Level::TRACE,
    };
    LogSettings { format, level, access: raw.log.access }
}

pub fn paths(raw: &Gateway) -> PathRules {
    PathRules {
        double_slash: match raw.paths.double_slash {
            raw::DoubleSlash::Refuse => DoubleSlash::Refuse,
            raw::DoubleSlash::Merge => DoubleSlash::Merge,
        },
        dot_segments: match raw.paths.dot_segments {
            raw::DotSegments::Refuse => DotSegments::Refuse,
            raw::DotSegments::Resolve => DotSegments::Resolve,
        },
        encoded_slash: match raw.paths.encoded_slash {
            raw::EncodedSlash::Refuse => EncodedSlash::Refuse,
            raw::EncodedSlash::Keep => EncodedSlash::Keep,
        },
        parameters: match raw.paths.parameters {
            raw::Parameters::Refuse => Parameters::Refuse,
            raw::Parameters::Java => Parameters::Java,
        },
    }
}

pub fn threads(cx: &mut Context<'_>) -> usize {
    let threads = cx.raw.threads.unwrap_or(1);
    if threads == 0 || threads > THREADS_MAX {
        let at = KeyPath::root().key("threads");
        cx.error(&at, format!("{threads} threads"), "expected 1 to 1024");
    }
    threads as usize
}

pub fn limits(cx: &mut Context<'_>) -> Limits {
    let raw = &cx.raw.limits;
    let at = KeyPath::root().key("limits");
    let header = raw.max_header_bytes;
    if header.0 < HEADER_BYTES_MIN || header.0 > HEADER_BYTES_MAX {
        cx.error(&at.key("max_header_bytes"), format!("{header}"), "expected 1KiB to 1MiB");
    }
    if raw.max_headers == 0 || raw.max_headers > HEADERS_MAX {
        let what = format!("{} headers", raw.max_headers);
        cx.error(&at.key("max_headers"), what, "expected 1 to 256");
    }
    if raw.max_token_bytes.0 == 0 || raw.max_token_bytes.0 > HEADER_BYTES_MAX {
        let what = format!("{}", raw.max_token_bytes);
        cx.error(&at.key("max_token_bytes"), what, "expected 1B to 1MiB");
    }
    for (key, zero) in [
        ("max_body", raw.max_body == Size(0)),
        ("verified_tokens", raw.verified_tokens == 0),
        ("sessions", raw.sessions == 0),
    ] {
        if zero {
            cx.error(&at.key(key), "nothing could pass a limit of 0", "expected at least 1");
        }
    }
    Limits {
        header_bytes_max: usize::try_from(header.0).unwrap_or(usize::MAX),
        headers_max: raw.max_headers as usize,
        token_bytes_max: usize::try_from(raw.max_token_bytes.0).unwrap_or(usize::MAX),
        body_bytes_max: raw.max_body.0,
        verified_tokens_max: raw.verified_tokens.into(),
        sessions_max: raw.sessions as usize,
    }
}

fn listen_address(text: &str) -> Result<ListenAddress, Problem> {
    let expected = |what: &str| Problem::error(what).expected(ADDRESS_FORM);
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.len() > SOCKET_PATH_BYTES_MAX || path.contains('\0') {
            return Err(expected("not the absolute path of a socket, at most 107 bytes"));
        }
        return Ok(ListenAddress::Unix(PathBuf::from(path)));
    }
    if text.starts_with("systemd:") {
        return Err(expected("`systemd:` is not supported yet"));
    }
    if let Ok(address) = text.parse() {
        return Ok(ListenAddress::Tcp(address));
    }
    let port = |text: &str| text.parse::<u16>().ok();
    match text.rsplit_once(':') {
        Some(("localhost", number)) if port(number).is_some() => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(number).unwrap_or(0)));
            Ok(ListenAddress::Tcp(address))
        }
        Some(("" | "*", number)) if port(number).is_some() => Err(expected(
            "the address is missing",
        )
        .help(format!("every address of this machine is `0.0.0.0:{number}` or `[::]:{number}`"))),
        _ => Err(expected("not an address and a port")),
    }
}

/// The same place; port 0 is a new one each time.
fn same(one: &ListenAddress, other: &ListenAddress) -> bool {
    let any_port = matches!(one, ListenAddress::Tcp(address) if address.port() == 0);
    one == other && !any_port
}

fn network(text: &str) -> Result<IpNet, Problem> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(address.into());
    }
    let expected = "expected `10.0.0.0/8`, `fd00::/8` or a single address";
    let network: IpNet =
        text.parse().map_err(|_| Problem::error("not a network").expected(expected))?;
    if network != network.trunc() {
        return Err(Problem::error("an address within the network, not the network")
            .expected(format!("did you mean `{}`?", network.trunc())));
    }
    Ok(network)
}
