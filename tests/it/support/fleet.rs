//! Several gateways before one app: real processes that share a real Redis server.

use std::net::SocketAddr;

use super::client::Ask;
use super::gateway::{Binary, Metrics};
use super::parts::{Program, free_port, listening};
use super::world::place;
use super::{Backend, Redis, Reply, STANDARD, Upstream, get};

/// What all gateways of a fleet share; no secret of anybody's.
const KEY: &str = "0123456789abcdef0123456789abcdef";

pub struct Fleet {
    pub backend: Backend,
    /// Stops when dropped.
    _upstream: Upstream,
    pub redis: Redis,
    pub gateways: Vec<Member>,
}

/// One gateway.
pub struct Member {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub program: Program,
    binary: Binary,
}

impl Fleet {
    /// `refresh`: more keys of `refresh`, such as `, wait: 2s`; `store`: of `store`.
    pub async fn of(gateways: usize, refresh: &str, store: &str) -> Fleet {
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let redis = Redis::used().await;
        let store =
            format!("store: {{ kind: redis, url: \"{}\", key: {KEY}{store} }}", redis.url());
        let yaml = STANDARD.replacen(
            "client_secret: s3cret",
            &format!("client_secret: s3cret{refresh}"),
            1,
        );
        let yaml = format!("{store}\n{}", place(&yaml, &backend, &upstream));
        let mut fleet = Fleet { backend, _upstream: upstream, redis, gateways: Vec::new() };
        for _ in 0..gateways {
            fleet.gateways.push(Member::start(&yaml).await);
        }
        fleet
    }

    /// One request to one gateway.
    pub async fn send(&self, gateway: usize, ask: Ask) -> Reply {
        ask.send(self.gateways[gateway].address).await
    }
}

impl Member {
    async fn start(yaml: &str) -> Member {
        let (port, admin) = (free_port().await, free_port().await);
        let yaml = yaml
            .replacen("listen: 127.0.0.1:0", &format!("listen: 127.0.0.1:{port}"), 1)
            .replacen("127.0.0.1:0", &format!("127.0.0.1:{admin}"), 1);
        let binary = Binary::with(&yaml);
        let program = binary.start("run");
        listening(port).await;
        let [address, admin] = [port, admin].map(|port| ([127, 0, 0, 1], port).into());
        Member { address, admin, program, binary }
    }

    /// Ends as systemd ends it, and starts again.
    pub async fn restart(&mut self) {
        self.program.signal("TERM");
        assert_eq!(self.program.ended().await.code(), Some(0), "{}", self.program.output());
        self.start_again().await;
    }

    /// Dies without a word.
    pub async fn kill(&mut self) {
        self.program.signal("KILL");
        self.program.ended().await;
    }

    pub async fn start_again(&mut self) {
        self.program = self.binary.start("run");
        listening(self.address.port()).await;
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics(get("/metrics").send(self.admin).await.text())
    }
}
