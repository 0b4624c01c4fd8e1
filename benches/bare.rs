//! Bare Pingora: the yardstick of `./dev bench`.
//!
//! What a user of Pingora writes to stand before one app, and nothing else: its own server, its
//! default modules, one upstream. It is built in the same command, with the same profile and the
//! same allocator as the gateway, so that the difference is the gateway's own work.
//!
//! `bare LISTEN UPSTREAM THREADS`, both addresses as `ip:port`; SIGINT ends it.

use std::env;
use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut Self::CTX,
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, upstream, threads] = arguments.as_slice() else {
        return Err("usage: bare LISTEN UPSTREAM THREADS".into());
    };
    let conf = ServerConf { threads: threads.parse()?, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service =
        http_proxy_service(&server.configuration, Bare { upstream: upstream.parse()? });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}
