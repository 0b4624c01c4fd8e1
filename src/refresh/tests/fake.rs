//! The world of the stories.
//!
//! The fake backend is as strict as they come: a refresh token works once, and a second use kills
//! its whole family. Access tokens are readable texts, `SUBJECT at START`, that live [`LIFE_S`].

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::time::Instant;
pub use tokio::time::sleep;

use super::super::*;
use crate::policy::claims::Identity;
use crate::policy::decide::Renewed;
use crate::policy::reason::Reason;
use crate::policy::time::UnixSeconds;
use crate::token::Verdict;

pub const ISSUER: IssuerId = IssuerId(0);
pub const LIFE_S: u64 = 300;
pub const WINDOW_S: u64 = 90;
pub const WAIT: Duration = Duration::from_secs(5);
pub const TIMEOUT: Duration = Duration::from_secs(20);
pub const START: u64 = 1_000_000;

/// What the backend does to one call, in place of answering well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Does it, but takes so long.
    Delay(Duration),
    /// Does it and never answers.
    Hang,
    /// Does it and cuts the connection.
    ResetAfter,
    /// Cuts the connection before it does anything.
    ResetBefore,
    /// Does nothing but answer so.
    Say(Outcome),
    /// Answers with this access token.
    Access(String),
    /// Keeps the refresh token.
    KeepRefresh,
    Panic,
}

#[derive(Default)]
struct Family {
    subject: String,
    current: String,
    rotations: u32,
    dead: bool,
}

#[derive(Default)]
pub struct Backend {
    families: Mutex<Vec<Family>>,
    faults: Mutex<VecDeque<Fault>>,
    /// An old refresh token of a family is as good as its newest.
    pub takes_old_tokens: AtomicBool,
    /// Every refresh token that was shown, in order.
    shown: Mutex<Vec<String>>,
    pub now: Mutex<Option<Arc<dyn Fn() -> Now + Send + Sync>>>,
}

impl Backend {
    /// A person logs in: the family's tokens are `NAME.0`, `NAME.1` and so on.
    pub fn log_in(&self, name: &str) -> Secret {
        let current = format!("{name}.0");
        self.families.lock().unwrap().push(Family {
            subject: name.to_owned(),
            current: current.clone(),
            ..Family::default()
        });
        Secret::new(current)
    }

    pub fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    /// No fault that was ordered and not used yet will happen.
    pub fn mend(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap().clone()
    }

    pub fn calls(&self) -> usize {
        self.shown.lock().unwrap().len()
    }

    pub fn is_dead(&self, name: &str) -> bool {
        self.families.lock().unwrap().iter().any(|family| family.subject == name && family.dead)
    }

    fn grant(&self, token: &str, keep: bool) -> Outcome {
        let mut families = self.families.lock().unwrap();
        let name = token.rsplit_once('.').map_or("", |(name, _)| name);
        let Some(family) = families.iter_mut().find(|family| family.subject == name) else {
            return Outcome::Refused;
        };
        let spent = family.current != token && !self.takes_old_tokens.load(Ordering::Relaxed);
        if family.dead || spent {
            family.dead = true;
            return Outcome::Refused;
        }
        let now = self.now.lock().unwrap().as_ref().map(|now| now().unix.0).unwrap_or_default();
        if !keep {
            family.rotations += 1;
            family.current = format!("{name}.{}", family.rotations);
        }
        Outcome::Renewed(Answer {
            access: Secret::new(format!("{name} at {now}")),
            refresh: (!keep).then(|| Secret::new(family.current.clone())),
            max_age_s: None,
        })
    }
}

#[async_trait]
impl AuthBackend for Backend {
    async fn renew(&self, ask: &Ask, _now: Now) -> Outcome {
        let token = ask.refresh.expose().to_owned();
        self.shown.lock().unwrap().push(token.clone());
        let fault = self.faults.lock().unwrap().pop_front();
        let reset = Outcome::Ambiguous(Detail::new("reset"));
        match fault {
            None => self.grant(&token, false),
            Some(Fault::KeepRefresh) => self.grant(&token, true),
            Some(Fault::Delay(delay)) => {
                let outcome = self.grant(&token, false);
                sleep(delay).await;
                outcome
            }
            Some(Fault::Hang) => {
                self.grant(&token, false);
                std::future::pending().await
            }
            Some(Fault::ResetAfter) => {
                self.grant(&token, false);
                reset
            }
            Some(Fault::ResetBefore) => reset,
            Some(Fault::Say(outcome)) => outcome,
            Some(Fault::Access(access)) => match self.grant(&token, false) {
                Outcome::Renewed(answer) => {
                    Outcome::Renewed(Answer { access: Secret::new(access), ..answer })
                }
                refused => refused,
            },
            Some(Fault::Panic) => panic!("as ordered"),
        }
    }
}

/// Reads `SUBJECT at START`; anything else is a reason by its word.
#[derive(Default)]
pub struct Verifier {
    pub keys_away: AtomicBool,
    pub hangs: AtomicBool,
}

#[async_trait]
impl Verify for Verifier {
    async fn verify(&self, access: &Secret, _issuer: IssuerId, now: Now) -> Verdict {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.keys_away.load(Ordering::Relaxed) {
            return Verdict::KeysUnavailable { retry_after_s: 3 };
        }
        let Some((subject, start)) = access.expose().split_once(" at ") else {
            let mut reasons = Reason::ALL.iter();
            let reason = reasons.find(|reason| reason.word() == access.expose());
            return Verdict::Bad(*reason.unwrap_or(&Reason::MalformedToken));
        };
        let verified = verified(subject, start.parse().unwrap());
        let expired = now.unix >= verified.expires_at;
        if expired { Verdict::Expired(verified) } else { Verdict::Good(verified) }
    }
}

pub fn verified(subject: &str, start: u64) -> Arc<Verified> {
    Arc::new(Verified {
        issuer: ISSUER,
        subject: subject.into(),
        session_id: None,
        token_id: None,
        issued_at: None,
        expires_at: UnixSeconds(start + LIFE_S),
        life_s: LIFE_S,
        refresh_at: UnixSeconds(start + LIFE_S - WINDOW_S),
        identity: Identity::default(),
        claims: serde_json::Map::new(),
    })
}

/// A room, its backend, and everything that happened.
pub struct World {
    pub refresher: Arc<Refresher>,
    pub backend: Arc<Backend>,
    pub verifier: Arc<Verifier>,
    events: Arc<Mutex<Vec<RefreshEvent>>>,
    edges: Edges,
}

impl World {
    pub fn new() -> World {
        World::with_room_for(1_000)
    }

    pub fn with_room_for(sessions_max: usize) -> World {
        World::made_of(settings(), sessions_max)
    }

    pub fn with(settings: RefreshSettings) -> World {
        World::made_of(settings, 1_000)
    }

    fn made_of(settings: RefreshSettings, sessions_max: usize) -> World {
        let begin = Instant::now();
        World::over(settings, sessions_max, Arc::default(), begin, None)
    }

    /// One of several gateways: they share a backend, a store and the time since `begin`.
    pub fn over(
        settings: RefreshSettings,
        sessions_max: usize,
        backend: Arc<Backend>,
        begin: Instant,
        store: Option<(Arc<dyn SessionStore>, OnFailure)>,
    ) -> World {
        let start = Now { unix: UnixSeconds(START), uptime: Duration::ZERO };
        let edges =
            Edges { now: Arc::new(move || start.later(begin.elapsed())), random: Arc::new(|| 1.0) };
        *backend.now.lock().unwrap() = Some(edges.now.clone());
        let verifier = Arc::new(Verifier::default());
        let events = Arc::new(Mutex::new(Vec::new()));
        let notes = events.clone();
        let refresher = Refresher::new(Parts {
            issuers: vec![(settings, backend.clone())],
            limits: RefreshLimits { sessions_max },
            hash_key: [7; 32],
            verify: verifier.clone(),
            edges: edges.clone(),
            runtime: Handle::current(),
            observer: Arc::new(move |event| notes.lock().unwrap().push(event.clone())),
            store,
        });
        World { refresher: Arc::new(refresher), backend, verifier, events, edges }
    }

    pub fn now(&self) -> Now {
        (self.edges.now)()
    }

    /// A request with this refresh token and no usable access token.
    pub fn shows(&self, token: &Secret) -> Presented {
        Presented {
            issuer: ISSUER,
            refresh_token: token.clone(),
            access: None,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The same with an access token of `subject` that was issued so long ago.
    pub fn shows_both(&self, token: &Secret, subject: &str, age_s: u64) -> Presented {
        let access = Some(verified(subject, self.now().unix.0 - age_s));
        Presented { access, ..self.shows(token) }
    }

    /// Renews and waits, as an expired request does: the access token it is served with, or what it
    /// is told.
    pub async fn renew(&self, token: &Secret) -> String {
        let (session, _) = self.refresher.renew(&self.shows(token), WAIT, self.now()).await;
        told(&session)
    }

    /// Looks up, as every request does first.
    pub async fn look_up(&self, token: &Secret) -> String {
        told(&self.refresher.look_up(&self.shows(token), self.now()).await.0)
    }

    /// The cookies that a response to a request with this token may carry.
    pub async fn cookies(&self, token: &Secret) -> Option<(String, Option<String>)> {
        let (_, handle) = self.refresher.look_up(&self.shows(token), self.now()).await;
        let cookies = handle?.deliverable(self.now()).await?;
        let refresh = cookies.refresh.map(|refresh| refresh.expose().to_owned());
        Some((cookies.access.expose().to_owned(), refresh))
    }

    pub fn events(&self) -> Vec<RefreshEvent> {
        self.events.lock().unwrap().clone()
    }

    /// How often each result was counted, under the metric's labels.
    pub fn counts(&self) -> HashMap<&'static str, usize> {
        let mut counts = HashMap::new();
        for event in self.events() {
            let label = match event {
                RefreshEvent::Finished { result: FlightResult::Ok, .. } => "ok",
                RefreshEvent::Finished { result: FlightResult::Shared, .. } => "shared",
                RefreshEvent::Finished { result: FlightResult::Refused, .. } => "refused",
                RefreshEvent::Finished { result: FlightResult::Transient, .. } => "transient",
                RefreshEvent::Finished { result: FlightResult::Ambiguous, .. } => "ambiguous",
                RefreshEvent::Finished { result: FlightResult::Misconfigured, .. } => {
                    "misconfigured"
                }
                RefreshEvent::Shared { .. } => "shared",
                RefreshEvent::Delivered { .. } => "delivered",
                _ => continue,
            };
            *counts.entry(label).or_default() += 1;
        }
        counts
    }
}

pub fn settings() -> RefreshSettings {
    RefreshSettings {
        issuer: ISSUER,
        issuer_name: Arc::from("default"),
        url: "http://127.0.0.1:9/token".to_owned(),
        protocol: Protocol::OAuth2 { client_id: None, client_auth: ClientAuth::None },
        rotation: Rotation::Strict,
        dead_when: Vec::new(),
        on_reuse: OnReuse::Login,
        budget: None,
        revoke_at: crate::refresh::RevokeAt::Nowhere,
        hold: Duration::from_millis(250),
        wait: WAIT,
        timeout: TIMEOUT,
    }
}

/// A session in a word; served ones by their access token.
pub fn told(session: &Session) -> String {
    match session {
        Session::Fresh(Renewed { access, .. }) | Session::Renewed(Renewed { access, .. }) => {
            access.expose().to_owned()
        }
        Session::Cooling { retry_after_s } => format!("cooling {retry_after_s}"),
        Session::Unavailable { retry_after_s } => format!("unavailable {retry_after_s}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The access token issued so many seconds after the start.
pub fn token(subject: &str, seconds: u64) -> String {
    format!("{subject} at {}", START + seconds)
}

pub fn transient() -> Fault {
    Fault::Say(Outcome::Transient {
        detail: Detail::new("server_error"),
        retry_after: None,
        unsent: false,
    })
}

pub async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}
