//! Real Redis servers on free loopback ports: they can be frozen, killed and started again empty.
//!
//! Nothing is kept on disk, so a restart is the worst one: a store that lost its memory. A server that
//! the system's package may run on port 6379 is never touched.

use std::process::Command;
use std::time::Duration;

use super::eventually;
use super::parts::{Folder, Program, free_port, listening, repository};

/// One real server.
pub struct Redis {
    port: u16,
    /// `None`: killed.
    program: Option<Program>,
    /// `:PASSWORD@`, or nothing.
    login: &'static str,
    /// A master writes a dump for its replica, and any server would load it.
    folder: Folder,
}

impl Redis {
    /// Starts a server and waits until it listens.
    pub async fn start() -> Redis {
        let port = free_port().await;
        Redis::with(port, &[]).await
    }

    async fn with(port: u16, own: &[&str]) -> Redis {
        let folder = Folder::new();
        Redis { port, program: Some(run(port, &folder, own).await), login: "", folder }
    }

    /// A server as gateways have used it for long. A new one would wait for those who know it.
    pub async fn used() -> Redis {
        let redis = Redis::start().await;
        let script = include_str!("../../../src/refresh/redis/tests/used.lua");
        redis.command::<redis::Value>(&["EVAL", script, "0"]).await;
        redis
    }

    /// A server that wants the password `hunter2`, and speaks TLS on the port that is returned along.
    pub async fn guarded() -> (Redis, u16) {
        let (port, tls_port) = (free_port().await, free_port().await);
        let file = |name: &str| repository("tests/data/tls").join(name).display().to_string();
        let (certificate, key) = (file("store.pem"), file("store.key"));
        let own = [
            ["--tls-port", &tls_port.to_string()],
            ["--tls-cert-file", &certificate],
            ["--tls-key-file", &key],
            ["--tls-auth-clients", "no"],
            ["--requirepass", "hunter2"],
        ];
        (Redis { login: ":hunter2@", ..Redis::with(port, &own.concat()).await }, tls_port)
    }

    /// What `store.url` says.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Freezes the server: its connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.program().signal("STOP");
    }

    /// Goes on after [`Redis::pause`]; what was asked meanwhile is answered.
    pub fn resume(&self) {
        self.program().signal("CONT");
    }

    /// Ends the server at once; its port refuses connections.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Starts it again on the same port, empty; whatever ran there is killed first.
    pub async fn restart(&mut self) {
        self.kill();
        self.program = Some(run(self.port, &self.folder, &[]).await);
    }

    /// One command on a connection of its own, such as `["DBSIZE"]`.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.expect("it answers")
    }

    async fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let url = format!("redis://{}127.0.0.1:{}", self.login, self.port);
        let client = redis::Client::open(url).expect("a URL of ours");
        let config =
            redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| _ = command.arg(*word));
        command.query_async(&mut connection).await
    }

    /// Whether it takes writes.
    pub async fn is_master(&self) -> bool {
        let replication = self.try_command::<String>(&["INFO", "replication"]).await;
        self.program.is_some() && replication.is_ok_and(|it| it.contains("role:master"))
    }

    fn program(&self) -> &Program {
        self.program.as_ref().expect("the server runs")
    }
}

/// A real cluster: three masters, each with a replica.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    pub async fn start() -> RedisCluster {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let (port, bus) = (free_port().await, free_port().await.to_string());
            let own = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus],
                // How soon a replica takes over.
                ["--cluster-node-timeout", "1000"],
            ];
            nodes.push(Redis::with(port, &own.concat()).await);
        }
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create", "--cluster-yes", "--cluster-replicas", "1"]);
        create.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        Program::start(&mut create).says("All 16384 slots covered").await;
        let cluster = RedisCluster { nodes };
        eventually("every node sees the whole cluster", async || {
            for node in &cluster.nodes {
                let state: String = node.command(&["CLUSTER", "INFO"]).await;
                let replication: String = node.command(&["INFO", "replication"]).await;
                let linked = replication.contains("connected_slaves:1")
                    || replication.contains("master_link_status:up");
                if !state.contains("cluster_state:ok") || !linked {
                    return false;
                }
            }
            true
        })
        .await;
        cluster
    }

    /// What `store.url` says: two nodes, from which all are found.
    pub fn url(&self) -> String {
        let [one, .., other] = self.nodes.as_slice() else { panic!("six nodes") };
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", one.port, other.port)
    }

    /// The master that has this key.
    pub async fn owner(&self, key: &str) -> usize {
        for (at, node) in self.nodes.iter().enumerate() {
            if node.is_master().await && node.try_command::<bool>(&["EXISTS", key]).await.is_ok() {
                return at;
            }
        }
        panic!("no master has {key}");
    }
}

/// A real master, its replica, and three sentinels that watch them.
pub struct Sentinels {
    pub servers: Vec<Redis>,
    ports: Vec<u16>,
    _sentinels: Vec<Program>,
    _folder: Folder,
}

impl Sentinels {
    pub async fn start() -> Sentinels {
        let folder = Folder::new();
        let master = Redis::start().await;
        let master_port = master.port.to_string();
        let port = free_port().await;
        let own = ["--replicaof", "127.0.0.1", &master_port, "--repl-diskless-sync-delay", "0"];
        let replica = Redis::with(port, &own).await;
        let (mut ports, mut sentinels) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let port = free_port().await;
            let text = format!(
                "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master_port} 2\n\
                 sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
            );
            let file = folder.write(&format!("sentinel-{port}.conf"), &text);
            let mut command = Command::new("redis-server");
            sentinels.push(Program::start(command.arg(file).arg("--sentinel")));
            listening(port).await;
            ports.push(port);
        }
        let started = Sentinels {
            servers: vec![master, replica],
            ports,
            _sentinels: sentinels,
            _folder: folder,
        };
        for port in started.ports.clone() {
            let sentinel = Redis { port, program: None, login: "", folder: Folder::new() };
            eventually("the sentinels know each other and the replica", async || {
                let quorum = sentinel.try_command::<String>(&["SENTINEL", "CKQUORUM", "main"]);
                let three = quorum.await.is_ok_and(|said| said.contains("3 usable"));
                let replicas = ["SENTINEL", "REPLICAS", "main"];
                let replicas = sentinel.try_command::<Vec<redis::Value>>(&replicas).await;
                three && replicas.is_ok_and(|replicas| replicas.len() == 1)
            })
            .await;
        }
        started
    }

    /// What `store.url` says.
    pub fn url(&self) -> String {
        let sentinels: Vec<_> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/main", sentinels.join(","))
    }
}

async fn run(port: u16, folder: &Folder, own: &[&str]) -> Program {
    let program = Program::start(
        Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(&folder.0)
            .args(own),
    );
    listening(port).await;
    program
}
