//! The real gateway: inside this process from a YAML text, or as the real binary in a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evergate::clock;
use evergate::config::Loaded;
use evergate::listen::Address;
use evergate::proxy::observe::Observer;
use evergate::refresh::Edges;
use evergate::server::Running;

use super::client::{Reply, get};
use super::parts::{Folder, Program};

/// The gateway in this process, on free ports. It ends with the test's runtime, or by
/// [`Gateway::shutdown`].
pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    running: Running,
    ahead_ms: Arc<AtomicU64>,
}

impl Gateway {
    pub async fn start(yaml: &str) -> Gateway {
        Gateway::watched(yaml, None).await
    }

    /// `observer` hears what happens at the edge, on the request's own thread.
    pub async fn watched(yaml: &str, observer: Option<Observer>) -> Gateway {
        let loaded = evergate::config::from_str("test.yaml", yaml, &|_| None);
        Gateway::run(loaded.unwrap_or_else(|diagnostics| panic!("{diagnostics}")), observer).await
    }

    /// From a file, with what it includes.
    pub async fn from_file(file: &Path) -> Gateway {
        let loaded = evergate::config::load(file);
        Gateway::run(loaded.unwrap_or_else(|diagnostics| panic!("{diagnostics}")), None).await
    }

    async fn run(loaded: Loaded, observer: Option<Observer>) -> Gateway {
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let ahead = ahead_ms.clone();
        let ahead = move || Duration::from_millis(ahead.load(Ordering::Relaxed));
        let edges = Edges { now: Arc::new(move || clock::now().later(ahead())), ..Edges::real() };
        let running = evergate::server::start_with(loaded.config, observer, edges).await;
        let running = running.unwrap_or_else(|error| panic!("{error}"));
        let default = running.addresses().iter().find(|(name, _)| &**name == "default");
        let Some((_, Address::Tcp(address))) = default else {
            panic!("no default TCP listener: {:?}", running.addresses())
        };
        Gateway { address: *address, admin: running.admin_address(), running, ahead_ms }
    }

    /// For this gateway it is so much later from now on; nobody has waited. Its timers run on.
    pub fn skip(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("less than an age");
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Stops as SIGTERM does. True if everything under way could end within `drain`.
    pub async fn shutdown(self, drain: Duration) -> bool {
        self.running.shutdown(drain).await
    }

    pub async fn metrics(&self) -> Metrics {
        let reply: Reply = get("/metrics").send(self.admin).await;
        assert_eq!(reply.status, 200);
        Metrics(reply.text())
    }
}

/// The text of `/metrics`.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of the one series that starts so, such as `evergate_refresh_total{…}`; 0 if there
    /// is none.
    pub fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// The sum over all series of this name.
    pub fn sum(&self, name: &str) -> f64 {
        let rows = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        rows.sum()
    }

    /// Every metric's name, from the `# TYPE` lines.
    pub fn names(&self) -> std::collections::BTreeSet<String> {
        let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_string());
        self.0.lines().filter_map(name).collect()
    }
}

/// The real binary with a configuration of its own.
pub struct Binary {
    pub file: PathBuf,
    _folder: Folder,
}

impl Binary {
    pub fn with(yaml: &str) -> Binary {
        let folder = Folder::new();
        Binary { file: folder.write("gateway.yaml", yaml), _folder: folder }
    }

    /// `evergate ARGUMENT -c FILE`.
    pub fn start(&self, argument: &str) -> Program {
        Program::start(evergate().arg(argument).arg("-c").arg(&self.file))
    }
}

/// A command that runs the real binary.
pub fn evergate() -> Command {
    Command::new(env!("CARGO_BIN_EXE_evergate"))
}
