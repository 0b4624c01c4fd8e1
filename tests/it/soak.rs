//! The soak: many browsers, everything going wrong, and nobody notices.
//!
//! Real gateway processes stand between simulated browsers, an app that reflects whom it sees, and a
//! strict auth backend that kills a token family whose refresh token comes twice. Browsers hang up,
//! sleep, log out and come back as somebody else; gateways are restarted, the store freezes, the
//! backend fails. Every logout must be explained by a fault that was done to that very session, and
//! nobody may ever get another's token or identity.
//!
//! `./dev soak` runs it for ten minutes with 2,000 sessions; every run of the tests takes a minute of
//! it. docs/soak.md has a real table.

mod plan;
mod dice;
mod faults;
mod families;
mod backend;
mod app;
mod fleet;
mod chaos;
mod visit;
mod jar;
mod browser;
mod judge;
mod tally;
mod report;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::backend::Backend;
use self::browser::Browser;
use self::families::Families;
use self::faults::Faults;
use self::fleet::{Fleet, Process, Sample};
use self::plan::{Plan, REFRESH_LIFE};
use self::report::Memory;
use self::tally::{Tally, now};
use crate::support::parts::repository;
use crate::support::{Redis, Reply};

/// After the last fault: cool-downs end, the breaker closes.
const CALM: Duration = Duration::from_secs(10);
/// Where the gateways' logs stay, until the next run.
const LOGS: &str = "target/soak";
/// A store that comes back empty is told all sessions again; each gateway notices within two seconds.
const RETOLD_AFTER: Duration = Duration::from_secs(5);
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(20);

/// All that takes part.
pub struct World {
    plan: Plan,
    tally: Arc<Tally>,
    backend: Backend,
    fleet: Fleet,
    _app: app::App,
    /// When a gateway last found the store away.
    away: Mutex<Option<Duration>>,
    /// When browsers stop clicking.
    ends: Duration,
    /// All is well again.
    calm: watch::Sender<bool>,
    /// Everybody has looked once more.
    finished: watch::Sender<bool>,
}

impl World {
    async fn start(plan: Plan, redis: Option<&Redis>) -> Arc<World> {
        let tally = Arc::new(Tally::default());
        let faults = Faults { seed: plan.seed, standing: None, over: false };
        let families = Families::new(plan.redis, tally.clone());
        let backend = Backend::start(families, faults, tally.clone()).await;
        let app = app::App::start(tally.clone()).await;
        let store = redis.map_or_else(String::new, |redis| {
            format!("store: {{ kind: redis, url: \"{}\", key: {} }}\n", redis.url(), "k".repeat(64))
        });
        let fleet = Fleet::start(plan.gateways, backend.address, app.address, &store).await;
        let ends = now() + plan.length;
        let (calm, finished) = (watch::Sender::new(false), watch::Sender::new(false));
        Arc::new(World {
            plan,
            tally,
            backend,
            fleet,
            _app: app,
            away: Mutex::default(),
            ends,
            calm,
            finished,
        })
    }

    fn answered(&self, who: &str, gateway: usize, took: Duration, reply: &Reply) {
        self.tally.add(&format!("answers: {}", reply.status));
        let set = reply.head.all("set-cookie").iter().any(|line| line.contains("__Host-refresh"));
        let (status, ms, set) =
            (reply.status, took.as_millis(), if set { ", cookies" } else { "" });
        self.tally.note(who, format!("gateway {gateway}: {status} after {ms} ms{set}"));
    }

    /// Could every gateway hear of what happened then? Not if the store was away since, or had just
    /// come back empty, or if a gateway was killed that may have had to tell it.
    async fn heard(&self, then: Duration) -> bool {
        sleep(2 * SAMPLED_EVERY).await;
        let away = *self.away.lock().expect("no panic under the lock");
        let killed = |index| self.fleet.trouble(index, then).is_some_and(|trouble| trouble.killed);
        let emptied = self.backend.families().emptied_since(then.saturating_sub(RETOLD_AFTER));
        away.is_none_or(|at| at + SAMPLED_EVERY < then)
            && !emptied
            && !(0..self.fleet.len()).any(killed)
    }

    /// Asks each gateway whether the store is away for it.
    async fn look_for_store(&self) {
        for index in 0..self.fleet.len() {
            let metrics = self.fleet.metrics(index).await;
            if metrics.lines().any(|line| line == "evergate_store_degraded 1") {
                self.tally.add("trouble: seconds of a gateway without the store");
                *self.away.lock().expect("no panic under the lock") = Some(now());
            }
        }
    }

    fn trouble(&self, what: String, row: &str) {
        println!("{:8.1} {what}", now().as_secs_f64());
        self.tally.add(row);
    }

    /// What an ended process left behind.
    fn autopsy(&self, process: &Process) {
        let output = process.program.output();
        let logs = repository(LOGS);
        let kept = std::fs::create_dir_all(&logs)
            .and_then(|()| std::fs::write(logs.join(format!("{}.log", process.name)), &output));
        kept.expect("target/ is ours");
        if let Some(line) = output.lines().find(|line| line.contains("panicked")) {
            self.tally.wrong("a panic", line.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_out_or_mixed_up_whatever_goes_wrong() {
    let plan = Plan::asked();
    println!("{plan:?}");
    let redis = if plan.redis { Some(Redis::start().await) } else { None };
    let world = World::start(plan, redis.as_ref()).await;
    let started = now();
    let _ = std::fs::remove_dir_all(repository(LOGS));
    let ((), samples) = tokio::join!(chaos::reign(&world, redis), load(&world));
    ends_in_peace(&world).await;

    let warm = started + (world.plan.length / 4).min(REFRESH_LIFE + world.plan.ramp());
    let memory = |gateway| Memory::of(&samples, gateway, warm, world.ends);
    let memory: Vec<Memory> = (0..world.fleet.len()).map(memory).collect();
    println!("{}", report::table(&world, &memory));
    let told = world.tally.told();
    assert!(told.is_empty(), "seed {}:\n{told}", world.plan.seed);
    assert!(world.tally.count("backend: grants") > 0, "nothing was renewed");
    assert!(memory.iter().all(Memory::is_flat), "memory grew");
}

/// All browsers, and beside them the gateways' memory.
async fn load(world: &Arc<World>) -> Vec<Sample> {
    let mut browsers = JoinSet::new();
    for id in 0..world.plan.sessions {
        browsers.spawn(Browser::new(world.clone(), id).live());
    }
    let samples = samples(world).await;
    while let Some(ended) = browsers.join_next().await {
        ended.expect("a browser does not panic");
    }
    world.finished.send_replace(true);
    samples
}

/// Memory until the end of the run.
async fn samples(world: &World) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut told = now();
    while now() < world.ends {
        sleep(SAMPLED_EVERY).await;
        world.look_for_store().await;
        let sample = world.fleet.sample();
        if now() >= told + TOLD_EVERY {
            told = now();
            println!("{:8.1} {}", told.as_secs_f64(), report::line(world, &sample));
        }
        samples.extend(sample);
    }
    samples
}

/// No gateway has caught a panic, and each ends as it should.
async fn ends_in_peace(world: &World) {
    for index in 0..world.fleet.len() {
        let metrics = world.fleet.metrics(index).await;
        let panics = metrics.lines().find(|line| line.starts_with("evergate_panics_total "));
        if panics != Some("evergate_panics_total 0") {
            world.tally.wrong("a panic", format!("gateway {index}: {panics:?}"));
        }
        world.autopsy(&world.fleet.take(index, false));
    }
}
