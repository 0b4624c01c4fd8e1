//! Where requests go: servers in turn, their names resolved in the background.
//!
//! A request never waits for a name server: what cannot be resolved yet is unreachable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::protocols::ALPN;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};
use tokio::task::JoinHandle;

use crate::policy::route::Timeouts;

/// How often names are looked up again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// While a name has no address.
const RESOLVE_RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's Host goes on.
    Preserve,
    /// The server's own name.
    Upstream,
    Literal(String),
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Name or IP address, without brackets.
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

/// `upstreams.N`, checked.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub name: Arc<str>,
    pub servers: Vec<ServerAddress>,
    pub connect: Duration,
    pub read: Duration,
    pub write: Duration,
    pub idle: Duration,
    pub stream_idle: Duration,
    pub host_header: HostHeader,
    /// PEM bundle; `None` uses the system's roots.
    pub tls_ca: Option<PathBuf>,
    pub tls_server_name: Option<String>,
}

/// An upstream's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("upstream {upstream}: cannot read {path}: {source}")]
    CaUnreadable { upstream: Arc<str>, path: PathBuf, source: std::io::Error },
    #[error("upstream {upstream}: {path} has no usable PEM certificate: {detail}")]
    CaUnusable { upstream: Arc<str>, path: PathBuf, detail: String },
}

/// One upstream at work.
pub struct Upstream {
    pub host_header: HostHeader,
    name: Arc<str>,
    servers: Vec<Server>,
    next: AtomicUsize,
    tls_server_name: Option<String>,
    ca: Option<Arc<CaType>>,
    /// Keeps pooled connections of different upstreams apart: they may trust different roots.
    pool: u64,
}

struct Server {
    address: ServerAddress,
    authority: Arc<str>,
    resolved: ArcSwap<Vec<SocketAddr>>,
}

/// One server picked for one request.
pub struct Picked {
    pub peer: HttpPeer,
    /// For `host_header: upstream`.
    pub authority: Arc<str>,
}

impl Upstream {
    /// # Errors
    /// The CA file cannot be read or holds no certificate.
    pub fn new(index: u16, settings: &UpstreamSettings) -> Result<Upstream, UpstreamError> {
        Ok(Upstream {
            host_header: settings.host_header.clone(),
            name: Arc::clone(&settings.name),
            servers: settings.servers.iter().cloned().map(Server::new).collect(),
            next: AtomicUsize::new(0),
            tls_server_name: settings.tls_server_name.clone(),
            ca: settings.tls_ca.as_ref().map(|p| read_ca(&settings.name, p)).transpose()?,
            pool: u64::from(index) + 1,
        })
    }

    /// The next server in turn that has an address; `None` if none has.
    ///
    /// `streams` is a request whose response may stay silent for long (WebSocket, event stream).
    pub fn pick(&self, timeouts: &Timeouts, streams: bool) -> Option<Picked> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.servers.len();
        (0..count)
            .filter_map(|offset| self.servers.get((turn.wrapping_add(offset)) % count))
            .find_map(|server| {
                let addresses = server.resolved.load();
                let address = addresses.get(turn / count % addresses.len().max(1))?;
                Some(self.picked(server, *address, timeouts, streams))
            })
    }

    fn picked(
        &self,
        server: &Server,
        address: SocketAddr,
        timeouts: &Timeouts,
        streams: bool,
    ) -> Picked {
        let tls = server.address.tls;
        let sni = match (&self.tls_server_name, tls) {
            (_, false) => String::new(),
            (Some(name), true) => name.clone(),
            (None, true) => server.address.host.clone(),
        };
        let mut peer = HttpPeer::new(address, tls, sni);
        peer.group_key = self.pool;
        peer.options.alpn = ALPN::H1;
        peer.options.ca.clone_from(&self.ca);
        peer.options.connection_timeout = Some(timeouts.connect);
        peer.options.total_connection_timeout = Some(timeouts.connect);
        peer.options.read_timeout =
            Some(if streams { timeouts.stream_idle } else { timeouts.read });
        peer.options.write_timeout = Some(timeouts.write);
        peer.options.idle_timeout = Some(timeouts.idle);
        Picked { peer, authority: Arc::clone(&server.authority) }
    }

    /// Looks every name up now and then again and again, until the task is aborted.
    pub fn resolve_in_background(self: &Arc<Self>) -> JoinHandle<()> {
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let all = upstream.resolve().await;
                tokio::time::sleep(if all { RESOLVE_INTERVAL } else { RESOLVE_RETRY }).await;
            }
        })
    }

    /// True if every server has an address.
    async fn resolve(&self) -> bool {
        let mut all = true;
        for server in &self.servers {
            if server.is_literal() {
                continue;
            }
            let target = (server.address.host.as_str(), server.address.port);
            match tokio::net::lookup_host(target).await {
                Ok(found) => server.resolved.store(Arc::new(found.collect())),
                // The last known addresses stay: a name server that is down stops nobody.
                Err(error) => {
                    tracing::warn!(upstream = %self.name, host = server.address.host, %error, "cannot resolve");
                }
            }
            all &= !server.resolved.load().is_empty();
        }
        all
    }
}

impl ServerAddress {
    /// `host:port`, without the port where it is the scheme's own.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl Server {
    fn new(address: ServerAddress) -> Server {
        let known = address.host.parse().map(|ip| SocketAddr::new(ip, address.port));
        Server {
            resolved: ArcSwap::from_pointee(known.into_iter().collect()),
            authority: address.authority().into(),
            address,
        }
    }

    fn is_literal(&self) -> bool {
        self.address.host.parse::<std::net::IpAddr>().is_ok()
    }
}

fn read_ca(upstream: &Arc<str>, path: &std::path::Path) -> Result<Arc<CaType>, UpstreamError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let pem = std::fs::read(path).map_err(|source| UpstreamError::CaUnreadable {
        upstream: Arc::clone(upstream),
        path: path.to_owned(),
        source,
    })?;
    let unusable = |detail: String| UpstreamError::CaUnusable {
        upstream: Arc::clone(upstream),
        path: path.to_owned(),
        detail,
    };
    let mut certificates = Vec::new();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
        // Pingora panics on a certificate that does not parse: refuse it here.
        roots.add(certificate.clone()).map_err(|e| unusable(e.to_string()))?;
        certificates.push(WrappedX509::new(certificate.to_vec(), parse_x509));
    }
    if certificates.is_empty() {
        return Err(unusable("the file holds none".to_owned()));
    }
    Ok(certificates.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(hosts: &[&str]) -> Upstream {
        let server =
            |host: &&str| ServerAddress { host: (*host).to_owned(), port: 3000, tls: false };
        let second = Duration::from_secs(1);
        Upstream::new(
            0,
            &UpstreamSettings {
                name: Arc::from("app"),
                servers: hosts.iter().map(server).collect(),
                connect: second,
                read: second,
                write: second,
                idle: second,
                stream_idle: second,
                host_header: HostHeader::Preserve,
                tls_ca: None,
                tls_server_name: None,
            },
        )
        .unwrap()
    }

    fn picks(upstream: &Upstream, count: usize) -> Vec<String> {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            connect: second,
            read: second,
            write: second,
            idle: second,
            stream_idle: second,
        };
        (0..count)
            .filter_map(|_| upstream.pick(&timeouts, false))
            .map(|picked| picked.authority.to_string())
            .collect()
    }

    #[test]
    fn servers_take_turns() {
        let upstream = upstream(&["10.0.0.1", "::1"]);
        assert_eq!(picks(&upstream, 3), ["10.0.0.1:3000", "[::1]:3000", "10.0.0.1:3000"]);
    }

    #[test]
    fn a_name_without_an_address_is_passed_over() {
        let upstream = upstream(&["not-resolved-yet.invalid", "10.0.0.2"]);
        assert_eq!(picks(&upstream, 2), ["10.0.0.2:3000", "10.0.0.2:3000"]);
        assert_eq!(picks(&super::tests::upstream(&["still-nothing.invalid"]), 1), [""; 0]);
    }

    #[test]
    fn the_schemes_own_port_is_left_out_of_the_authority() {
        let address = |port, tls| ServerAddress { host: "app.test".into(), port, tls }.authority();
        assert_eq!(address(80, false), "app.test");
        assert_eq!(address(443, true), "app.test");
        assert_eq!(address(80, true), "app.test:80");
    }
}
