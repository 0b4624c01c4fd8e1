//! The gateways: real processes, restarted while load goes on, and their memory.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::timeout;

use super::plan::WINDOW;
use super::tally::now;
use super::visit::{connect, exchange};
use crate::support::gateway::Binary;
use crate::support::get;
use crate::support::parts::{Program, free_port, listening};

/// A connection may wait this long in a listener's queue, and is cut there when that closes.
pub const NOTICED_AFTER: Duration = Duration::from_millis(200);

const METRICS_MAX: Duration = Duration::from_secs(2);

pub struct Fleet {
    places: Vec<Place>,
    config: String,
}

/// Where one gateway listens, whichever process that is.
struct Place {
    port: u16,
    admin: u16,
    state: Mutex<State>,
}

struct State {
    /// `None` while it is restarted.
    process: Option<Process>,
    /// Processes so far.
    started: u32,
    trouble: Option<Trouble>,
}

/// The last time that a process was ended.
#[derive(Clone, Copy)]
pub struct Trouble {
    /// By SIGKILL, not by SIGTERM.
    pub killed: bool,
    pub from: Duration,
    until: Option<Duration>,
}

/// One process.
pub struct Process {
    pub name: String,
    pub program: Program,
    _binary: Binary,
}

/// One look at the memory of one gateway.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Duration,
    pub gateway: usize,
    pub resident_kib: u64,
}

impl Fleet {
    /// `store`: the configuration's line about it, or nothing.
    pub async fn start(count: usize, backend: SocketAddr, app: SocketAddr, store: &str) -> Fleet {
        let config = CONFIG
            .replace("BACKEND", &backend.to_string())
            .replace("APP", &app.to_string())
            .replace("WINDOW", &format!("{}s", WINDOW.as_secs()))
            + store;
        let mut places = Vec::new();
        for _ in 0..count {
            let state = Mutex::new(State { process: None, started: 0, trouble: None });
            places.push(Place { port: free_port().await, admin: free_port().await, state });
        }
        let fleet = Fleet { places, config };
        for index in 0..count {
            fleet.run(index).await;
        }
        fleet
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn address(&self, index: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.places[index].port).into()
    }

    /// What it says of itself; empty while it is restarted.
    pub async fn metrics(&self, index: usize) -> String {
        let address = ([127, 0, 0, 1], self.places[index].admin).into();
        let asked = get("/metrics").bytes();
        let stream = connect([127, 0, 0, 1].into(), address).await;
        let reply = match stream {
            Some(stream) => timeout(METRICS_MAX, exchange(stream, &asked)).await.ok().flatten(),
            None => None,
        };
        reply.map_or_else(String::new, |reply| reply.text())
    }

    /// Starts a process where none runs.
    pub async fn run(&self, index: usize) {
        let place = &self.places[index];
        let name = {
            let mut state = self.state(index);
            state.started += 1;
            format!("g{index}.{}", state.started)
        };
        let config = self
            .config
            .replace("PORT", &place.port.to_string())
            .replace("ADMIN", &place.admin.to_string())
            .replace("NAME", &name);
        let binary = Binary::with(&config);
        let program = binary.start("run");
        listening(place.port).await;
        let mut state = self.state(index);
        state.process = Some(Process { name, program, _binary: binary });
        if let Some(trouble) = &mut state.trouble {
            trouble.until = Some(now());
        }
    }

    /// Takes the process out, to be ended; from here on its troubles are the run's doing.
    pub fn take(&self, index: usize, killed: bool) -> Process {
        let mut state = self.state(index);
        state.trouble = Some(Trouble { killed, from: now(), until: None });
        state.process.take().expect("one restart at a time")
    }

    /// Was this gateway ended, and not yet there again, at any time since then?
    pub fn trouble(&self, index: usize, since: Duration) -> Option<Trouble> {
        let trouble = self.state(index).trouble?;
        trouble.until.is_none_or(|at| at + NOTICED_AFTER >= since).then_some(trouble)
    }

    /// What each gateway has of memory now.
    pub fn sample(&self) -> Vec<Sample> {
        let resident = |index| {
            let state = self.state(index);
            let id = state.process.as_ref()?.program.id();
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let resident_kib = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(Sample { at: now(), gateway: index, resident_kib })
        };
        (0..self.len()).filter_map(resident).collect()
    }

    fn state(&self, index: usize) -> std::sync::MutexGuard<'_, State> {
        self.places[index].state.lock().expect("no panic under the lock")
    }
}

/// Each process asks the backend under a name of its own, so that the backend can tell them apart.
const CONFIG: &str = r#"
listen: 127.0.0.1:PORT
admin: { address: "127.0.0.1:ADMIN" }
upstream: http://APP
threads: 2
log: { format: json, level: warn, access: false }
limits: { verified_tokens: 5000 }
issuer: { url: "http://BACKEND", audience: legacy-app }
refresh:
  url: http://BACKEND/token
  client_id: NAME
  client_secret: s3cret
  client_auth: post
  window: WINDOW
  wait: 4s
  timeout: 6s
on_denied: { browser: { redirect: "/auth/login?return_to={url}" } }
routes:
  - { path: /auth/*, auth: public, upstream: "http://BACKEND", adopt_tokens: true }
  - { path: /* }
"#;
