//! The room, a strict backend, and requests that are tasks of the checker.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use shuttle::future::{JoinHandle, spawn, yield_now};
use shuttle::rand::Rng as _;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use tokio::runtime::{Builder, Runtime};

use super::primitives::{fire_next_timer, reset_time, sleep, uptime};
use crate::policy::decide::Session;
use crate::policy::time::UnixSeconds;
use crate::refresh::tests::fake::{
    self, Backend, ISSUER, LIFE_S, START, Verifier, WAIT, WINDOW_S, settings,
};
use crate::refresh::tests::fake_store::FakeStore;
use crate::refresh::*;

/// Orders tried for one claim by each of the two ways to choose; `EVERGATE_RUNS` says another number.
const RUNS: usize = 5_000;
/// Fixed, so that a run can be repeated.
const SEED: u64 = 0x0e7e_29a7_e000;
/// A place where priorities change costs a bug this many turns of luck (PCT's depth).
const DEPTH: usize = 3;
/// More than any run here takes: one that takes more goes round in circles.
const STEPS_MAX: usize = 50_000;
/// Cryptography in debug builds needs more than the checker's 32 KiB.
const STACK_BYTES: usize = 256 * 1024;

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Tries `scenario` in many orders.
pub fn in_every_order<F: Future<Output = ()> + 'static>(scenario: fn() -> F) {
    let told = std::env::var("EVERGATE_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs = told.unwrap_or(RUNS);
    run(RandomScheduler::new_from_seed(SEED, runs), scenario);
    run(PctScheduler::new_from_seed(SEED, DEPTH, runs), scenario);
}

fn run<F: Future<Output = ()> + 'static>(scheduler: impl Scheduler + 'static, scenario: fn() -> F) {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        reset_time();
        shuttle::future::block_on(scenario());
    });
}

/// What the backend does to a call, beside answering well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Good,
    Refuses,
    /// Does it, and answers after so long.
    Takes(Duration),
    /// The task that asks ends in the middle, before or after it was done.
    Panics,
}

/// The strict backend of the stories, with time to be overtaken before and after each call.
struct SlowBackend {
    strict: Arc<Backend>,
    manner: Manner,
    answered: Arc<AtomicBool>,
}

#[async_trait]
impl AuthBackend for SlowBackend {
    async fn renew(&self, ask: &Ask, now: Now) -> Outcome {
        yield_now().await;
        if self.manner == Manner::Refuses {
            return Outcome::Refused;
        }
        let panics = self.manner == Manner::Panics;
        if panics && shuttle::rand::thread_rng().r#gen() {
            // Not `panic!`: that would print a line for each of many thousand runs.
            std::panic::resume_unwind(Box::new("before"));
        }
        let outcome = self.strict.renew(ask, now).await;
        if let Manner::Takes(time) = self.manner {
            sleep(time).await;
        }
        yield_now().await;
        if panics {
            std::panic::resume_unwind(Box::new("after"));
        }
        self.answered.store(true, Ordering::Relaxed);
        outcome
    }
}

/// How a request ended, and when (uptime).
#[derive(Debug)]
pub struct Ended {
    pub told: String,
    pub at: Duration,
}

#[derive(Clone)]
pub struct World {
    pub refresher: Arc<Refresher>,
    pub backend: Arc<Backend>,
    answered: Arc<AtomicBool>,
}

impl World {
    pub fn new(manner: Manner) -> World {
        World::made_of(Arc::default(), None, manner)
    }

    /// Two gateways before one backend, with one store between them.
    pub fn pair(manner: Manner) -> [World; 2] {
        let (backend, store) = (Arc::<Backend>::default(), FakeStore::new());
        ["a", "b"].map(|name| {
            let store: Arc<dyn SessionStore> = store.connect(name);
            World::made_of(backend.clone(), Some((store, OnFailure::Deny)), manner)
        })
    }

    fn made_of(
        backend: Arc<Backend>,
        store: Option<(Arc<dyn SessionStore>, OnFailure)>,
        manner: Manner,
    ) -> World {
        let edges = Edges { now: Arc::new(now), random: Arc::new(|| 1.0) };
        *backend.now.lock().unwrap() = Some(edges.now.clone());
        let answered = Arc::default();
        let slow = SlowBackend { strict: backend.clone(), manner, answered: Arc::clone(&answered) };
        let room: Arc<OnceLock<Weak<Refresher>>> = Arc::default();
        let asked = room.clone();
        let refresher = Arc::new(Refresher::new(Parts {
            issuers: vec![(settings(), Arc::new(slow))],
            limits: RefreshLimits { sessions_max: 100 },
            hash_key: [7; 32],
            store,
            verify: Arc::new(Verifier::default()),
            edges,
            runtime: no_runtime().handle().clone(),
            // An observer may ask the room: told under its lock, this would be a deadlock.
            observer: Arc::new(move |_| {
                asked.get().and_then(Weak::upgrade).map(|room| room.gauges());
            }),
        }));
        let _ = room.set(Arc::downgrade(&refresher));
        World { refresher, backend, answered }
    }

    pub fn shows(&self, token: &Secret) -> Presented {
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Presented { issuer: ISSUER, refresh_token: token.clone(), access: None, client }
    }

    /// What the request with this token is told now.
    pub async fn look_up(&self, token: &Secret) -> String {
        fake::told(&self.refresher.look_up(&self.shows(token), now()).await.0)
    }

    /// The refresh token that a response to a request with this token carries.
    pub async fn delivered(&self, token: &Secret) -> Option<String> {
        let (_, handle) = self.refresher.look_up(&self.shows(token), now()).await;
        let refresh = handle?.deliverable(now()).await?.refresh?;
        Some(refresh.expose().to_owned())
    }

    /// A request that can be served by nothing but a renewed token.
    pub fn renews(&self, token: &Secret) -> JoinHandle<Ended> {
        let (world, shows) = (self.clone(), self.shows(token));
        spawn(async move {
            let (session, _) = world.refresher.renew(&shows, WAIT, now()).await;
            Ended { told: fake::told(&session), at: uptime() }
        })
    }

    /// The same as the edge does it: looks first, and renews only if nothing newer is there.
    pub fn looks_then_renews(&self, token: &Secret) -> JoinHandle<String> {
        let (world, shows) = (self.clone(), self.shows(token));
        spawn(async move {
            match world.refresher.look_up(&shows, now()).await.0 {
                Session::Live => fake::told(&world.refresher.renew(&shows, WAIT, now()).await.0),
                other => fake::told(&other),
            }
        })
    }

    /// A request whose client hangs up at some moment, if it is not served before.
    pub fn renews_and_hangs_up(&self, token: &Secret) -> JoinHandle<()> {
        let renewal = self.renews(token);
        spawn(async move {
            yield_now().await;
            renewal.abort();
            // Gone is gone only when the task was dropped.
            let _ = renewal.await;
        })
    }

    /// Waits for every flight, however often time runs away meanwhile.
    pub async fn lands(&self) {
        while !self.refresher.drain(Duration::from_secs(1)).await {}
    }

    /// The backend's answer, if it came while somebody listened, is what a response carries.
    pub async fn assert_answer_is_kept(&self, token: &Secret, renewed: &str) {
        let answered = self.answered.load(Ordering::Relaxed);
        // Time may have run so far that what was kept is due again.
        if answered && uptime() < Duration::from_secs(LIFE_S - WINDOW_S) {
            assert_eq!(self.delivered(token).await.as_deref(), Some(renewed));
        }
    }

    /// Nobody waits, nobody flies, and nothing is kept of either.
    pub fn assert_at_rest(&self) {
        let gauges = self.refresher.gauges();
        assert_eq!((gauges.in_flight, gauges.waiters), (0, 0));
        assert_eq!(gauges.sessions.running, 0);
        assert_eq!(self.refresher.shared.step(|board| board.flights.len()), 0);
    }

    /// No refresh token was shown to the backend twice.
    pub fn assert_no_double_spend(&self) {
        let shown = self.backend.shown();
        let different: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(different.len(), shown.len(), "shown: {shown:?}");
    }
}

/// While this lives, timers fire at any moment, the earliest first.
pub struct RunningTime(Arc<Mutex<bool>>);

impl RunningTime {
    pub fn start() -> RunningTime {
        let over = Arc::new(Mutex::new(false));
        let ended = over.clone();
        drop(spawn(async move {
            while !*ended.lock().unwrap() {
                // Seldom, else no flight would ever be back in time.
                if shuttle::rand::thread_rng().gen_ratio(1, 8) {
                    fire_next_timer();
                }
                yield_now().await;
            }
        }));
        RunningTime(over)
    }
}

impl Drop for RunningTime {
    fn drop(&mut self) {
        *self.0.lock().unwrap() = true;
    }
}

pub fn now() -> Now {
    let uptime = uptime();
    Now { unix: UnixSeconds(START + uptime.as_secs()), uptime }
}

/// Only to fill the place: flights are started by the checker.
fn no_runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().build().unwrap())
}
