//! A store in memory, with the rules of the real one; several gateways of one test share it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

use super::super::concurrency::{sleep, timeout};
use super::super::record::LIFE_UNTOLD;
use super::super::store::tests::{Subject, store_tests};
use super::super::store::{CLAIMED_FOR, LOST_AFTER, SENT_SLACK};
use super::super::*;
use crate::store::STORE_REST;

/// How long a token is known that a backend has refused, and that never was anybody's.
const REFUSED_FOR: Duration = Duration::from_secs(300);
/// As many as a ledger's record keeps.
const CONFIRMATIONS_MAX: usize = 16;
const GRACE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Claimed,
    Sent,
    Orphaned,
}

#[derive(Clone)]
struct Record {
    life: Life,
    generation: u64,
    refresh_generation: u64,
    head: Option<StoredHead>,
    confirmations: BTreeMap<u64, Instant>,
    cooling: Option<Instant>,
    failures: u32,
    rotated: Option<Instant>,
    life_end: Option<Instant>,
    claim: Option<(String, Phase, Instant)>,
    /// The newest generation that the claim's gateway knew.
    about: u64,
    expires: Instant,
}

#[derive(Default)]
struct Memory {
    records: HashMap<SessionId, Record>,
    aliases: HashMap<TokenHash, (SessionId, u64)>,
    /// When the store lost its memory, if it did.
    born: Option<Instant>,
    /// How far its clock is ahead of the test's.
    ahead: Duration,
    calls: HashMap<&'static str, usize>,
}

/// What all gateways share.
pub struct FakeStore {
    memory: Mutex<Memory>,
    changed: Notify,
    losses: watch::Sender<u64>,
    closed: broadcast::Sender<Arc<str>>,
    names_only: AtomicBool,
}

/// One gateway's way to it.
pub struct Connection {
    store: Arc<FakeStore>,
    gateway: String,
    /// The store does not answer this gateway.
    pub away: AtomicBool,
    /// And then rests, as it does unless one value alone is the trouble.
    pub rests: AtomicBool,
    /// It would answer, but has not been asked since it failed.
    pub left_alone: AtomicBool,
    /// What is published here arrives 50 ms later.
    pub slow: AtomicBool,
}

impl FakeStore {
    pub fn new() -> Arc<FakeStore> {
        let losses = watch::Sender::new(0);
        Arc::new(FakeStore {
            memory: Mutex::default(),
            changed: Notify::new(),
            losses,
            closed: broadcast::Sender::new(64),
            names_only: AtomicBool::new(false),
        })
    }

    pub fn connect(self: &Arc<Self>, gateway: &str) -> Arc<Connection> {
        let store = self.clone();
        let (away, rests) = (AtomicBool::new(false), AtomicBool::new(true));
        let (left_alone, slow) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Connection { store, gateway: gateway.to_owned(), away, rests, left_alone, slow })
    }

    /// Restarts empty.
    pub fn forget_all(&self) {
        let mut memory = self.memory.lock().unwrap();
        let ahead = memory.ahead;
        *memory = Memory { born: Some(Instant::now() + ahead), ahead, ..Memory::default() };
        drop(memory);
        self.losses.send_modify(|losses| *losses += 1);
    }

    /// Publishing gets no further than the aliases.
    pub fn name_only(&self, names_only: bool) {
        self.names_only.store(names_only, Ordering::Relaxed);
    }

    pub fn calls(&self, name: &str) -> usize {
        self.memory.lock().unwrap().calls.get(name).copied().unwrap_or_default()
    }
}

impl Record {
    fn new(generation: u64, now: Instant) -> Record {
        Record {
            life: Life::Live,
            generation,
            refresh_generation: generation,
            head: None,
            confirmations: BTreeMap::new(),
            cooling: None,
            failures: 0,
            rotated: None,
            life_end: None,
            claim: None,
            about: 0,
            expires: now + LIFE_UNTOLD,
        }
    }

    fn confirm(&mut self, generation: u64, at: Instant, now: Instant) {
        let known = self.confirmations.entry(generation).or_insert(at);
        *known = at.min(*known);
        while self.confirmations.len() > CONFIRMATIONS_MAX {
            let mut oldest = self.confirmations.iter();
            let (first, second) = (oldest.next().unwrap(), oldest.next().unwrap());
            let goes = if *second.1 + GRACE <= now { *first.0 } else { *second.0 };
            self.confirmations.remove(&goes);
        }
    }

    fn prolong(&mut self, now: Instant) {
        let stranger = self.life != Life::Live && self.generation == 0;
        let untold = now + if stranger { REFUSED_FOR } else { LIFE_UNTOLD };
        self.expires = self.life_end.unwrap_or(untold);
    }

    fn stored(&self, now: Instant) -> Stored {
        let ago = |at: &Instant| now.saturating_duration_since(*at);
        let left = |at: Instant| at.saturating_duration_since(now);
        let confirmations =
            self.confirmations.iter().map(|(generation, at)| (*generation, ago(at))).collect();
        Stored {
            life: self.life,
            generation: self.generation,
            refresh_generation: self.refresh_generation,
            head: self.head.clone(),
            confirmations,
            cooling: self.cooling.map(left).filter(|left| !left.is_zero()),
            failures: self.failures,
            rotated: self.rotated.as_ref().map(ago),
            life_left: self.life_end.map(left),
        }
    }
}

impl Connection {
    fn step<T>(
        &self,
        name: &'static str,
        step: impl FnOnce(&mut Memory, Instant) -> T,
    ) -> Result<T, StoreAway> {
        let mut memory = self.store.memory.lock().unwrap();
        let now = Instant::now() + memory.ahead;
        memory.records.retain(|_, record| now < record.expires);
        *memory.calls.entry(name).or_default() += 1;
        let presses = name == "publish at once";
        let left_alone = self.left_alone.load(Ordering::Relaxed) && !presses;
        if self.away.load(Ordering::Relaxed) || left_alone {
            return Err(StoreAway);
        }
        self.left_alone.store(false, Ordering::Relaxed);
        let done = step(&mut memory, now);
        drop(memory);
        if matches!(name, "publish" | "publish at once" | "release" | "close") {
            self.store.changed.notify_waiters();
        }
        Ok(done)
    }

    fn published(
        &self,
        name: &'static str,
        publication: &Publication,
    ) -> Result<Option<Stored>, StoreAway> {
        let Publication { id, generation, .. } = *publication;
        let names_only = self.store.names_only.load(Ordering::Relaxed);
        let published = self.step(name, |memory, now| {
            for (hash, generation) in publication
                .aliases
                .iter()
                .chain([&(publication.hash, publication.refresh_generation)])
            {
                let alias = memory.aliases.entry(*hash).or_insert((id, *generation));
                if alias.0 == id {
                    alias.1 = alias.1.max(*generation);
                }
            }
            if names_only {
                return None;
            }
            let again = memory.records.get(&id).is_some_and(|known| known.generation == generation);
            let record = memory.records.entry(id).or_insert_with(|| Record::new(generation, now));
            let dead = record.life == Life::Dead && again;
            if record.life == Life::Ended || record.generation > generation || dead {
                return Some(record.stored(now));
            }
            if !again {
                (record.claim, record.cooling, record.failures) = (None, None, 0);
                record.rotated = Some(now);
            }
            record.life = Life::Live;
            record.generation = generation;
            record.refresh_generation = publication.refresh_generation;
            record.head = Some(publication.head.clone());
            for (generation, ago) in &publication.confirmations {
                record.confirm(*generation, now.checked_sub(*ago).unwrap_or(now), now);
            }
            record.life_end = publication.life_left.map(|left| now + left);
            record.prolong(now);
            None
        })?;
        if names_only { Err(StoreAway) } else { Ok(published) }
    }

    fn owner(&self, claim: ClaimId) -> String {
        format!("{}:{}", self.gateway, claim.0)
    }
}

#[async_trait]
impl SessionStore for Connection {
    async fn find(&self, hash: TokenHash) -> Result<Option<Sighting>, StoreAway> {
        self.step("find", |memory, now| {
            let named = (SessionId(hash), 0);
            let alias = memory.aliases.get(&hash).copied();
            let alias =
                alias.filter(|(id, _)| *id == named.0 || !memory.records.contains_key(&named.0));
            let (id, generation) = alias.unwrap_or(named);
            let record = memory.records.get_mut(&id)?;
            record.prolong(now);
            let stored = record.stored(now);
            Some(Sighting { id, generation, stored })
        })
    }

    async fn claim(
        &self,
        id: SessionId,
        generation: u64,
        claim: ClaimId,
        lost_too: bool,
        settle: Duration,
    ) -> Result<Claim, StoreAway> {
        let owner = self.owner(claim);
        self.step("claim", |memory, now| {
            let settled = memory.born.map(|born| born + settle + SENT_SLACK);
            if let Some(record) = memory.records.get_mut(&id) {
                let cools = record.cooling.is_some_and(|until| now < until);
                let dead = record.life == Life::Dead && record.generation == generation;
                if record.life == Life::Ended || record.generation > generation || dead || cools {
                    return Claim::Moved(record.stored(now));
                }
                match &mut record.claim {
                    Some((_, _, until)) if now < *until => return Claim::Taken(*until - now),
                    // Whatever became of that flight, it asked with an older refresh token.
                    Some(_) if generation > record.about => {}
                    Some((_, phase @ Phase::Sent, until)) => {
                        (*phase, *until) = (Phase::Orphaned, now + LOST_AFTER);
                        return Claim::Taken(LOST_AFTER);
                    }
                    Some((_, Phase::Orphaned, _)) if !lost_too => return Claim::Lost,
                    Some((_, Phase::Claimed | Phase::Orphaned, _)) | None => {}
                }
            }
            if let Some(settled) = settled.filter(|settled| now < *settled) {
                return Claim::Settling(settled - now);
            }
            let record = memory.records.entry(id).or_insert_with(|| {
                let mut made = Record::new(0, now);
                made.confirm(0, now, now);
                made
            });
            record.claim = Some((owner, Phase::Claimed, now + CLAIMED_FOR));
            record.about = generation;
            Claim::Ours
        })
    }

    async fn keep(&self, id: SessionId, claim: ClaimId) -> Result<bool, StoreAway> {
        let owner = self.owner(claim);
        self.step("keep", |memory, now| {
            let claim = memory.records.get_mut(&id).and_then(|record| record.claim.as_mut());
            let Some((holder, phase, until)) = claim else { return false };
            if *holder == owner && *phase == Phase::Claimed {
                *until = now + CLAIMED_FOR;
            }
            *holder == owner
        })
    }

    async fn sent(
        &self,
        id: SessionId,
        claim: ClaimId,
        settle: Duration,
    ) -> Result<bool, StoreAway> {
        let owner = self.owner(claim);
        self.step("sent", |memory, now| {
            let claim = memory.records.get_mut(&id).and_then(|record| record.claim.as_mut());
            let Some((holder, phase @ Phase::Claimed, until)) = claim else { return false };
            if *holder != owner || now >= *until {
                return false;
            }
            (*phase, *until) = (Phase::Sent, now + settle + SENT_SLACK);
            true
        })
    }

    async fn release(
        &self,
        id: SessionId,
        claim: ClaimId,
        cooling: Option<Duration>,
        failures: u32,
    ) -> Result<(), StoreAway> {
        let owner = self.owner(claim);
        self.step("release", |memory, now| {
            let Some(record) = memory.records.get_mut(&id) else { return };
            if record.claim.take_if(|(holder, _, _)| *holder == owner).is_some() {
                record.cooling = cooling.map(|rest| now + rest);
                record.failures = failures;
            }
        })
    }

    async fn withdraw(&self, id: SessionId, claim: ClaimId) -> Result<(), StoreAway> {
        let owner = self.owner(claim);
        self.step("release", |memory, _| {
            let Some(record) = memory.records.get_mut(&id) else { return };
            if record.claim.take_if(|(holder, _, _)| *holder == owner).is_some()
                && (record.generation, record.life) == (0, Life::Live)
            {
                memory.records.remove(&id);
            }
        })
    }

    async fn elsewhere(&self, id: SessionId) -> Result<Option<SessionId>, StoreAway> {
        self.step("find", |memory, _| {
            memory.aliases.get(&id.0).map(|(other, _)| *other).filter(|other| *other != id)
        })
    }

    async fn publish(&self, publication: &Publication) -> Result<Option<Stored>, StoreAway> {
        if self.slow.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
        self.published("publish", publication)
    }

    async fn publish_at_once(
        &self,
        publication: &Publication,
    ) -> Result<Option<Stored>, StoreAway> {
        self.published("publish at once", publication)
    }

    async fn close(
        &self,
        id: SessionId,
        generation: u64,
        life: Life,
    ) -> Result<Option<Stored>, StoreAway> {
        self.step("close", |memory, now| {
            let record = memory.records.entry(id).or_insert_with(|| Record::new(generation, now));
            if record.life == Life::Ended {
                return None;
            }
            if life == Life::Dead && record.generation > generation {
                return Some(record.stored(now));
            }
            (record.life, record.head, record.claim, record.cooling) = (life, None, None, None);
            record.prolong(now);
            let _ = self.store.closed.send(id.0.to_hex().into());
            None
        })
    }

    async fn confirm(&self, id: SessionId, generation: u64) -> Result<(), StoreAway> {
        self.step("confirm", |memory, now| {
            let record = memory.records.get_mut(&id).filter(|record| record.life == Life::Live);
            if let Some(record) = record {
                record.confirm(generation, now, now);
            }
        })
    }

    async fn told(&self, _id: SessionId, at_most: Duration) {
        let _ = timeout(at_most, self.store.changed.notified()).await;
    }

    fn closed(&self) -> broadcast::Receiver<Arc<str>> {
        self.store.closed.subscribe()
    }

    fn rest(&self) -> Option<Duration> {
        let fails = [&self.away, &self.left_alone].iter().any(|it| it.load(Ordering::Relaxed));
        let rests = fails && self.rests.load(Ordering::Relaxed);
        rests.then_some(STORE_REST)
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.store.losses.subscribe()
    }
}

/// The fake under the contract's own tests.
struct Fake(Arc<Connection>, Arc<Connection>);

#[async_trait]
impl Subject for Fake {
    fn one(&self) -> &dyn SessionStore {
        &*self.0
    }

    fn other(&self) -> &dyn SessionStore {
        &*self.1
    }

    async fn pass(&self, time: Duration) {
        self.0.store.memory.lock().unwrap().ahead += time;
    }

    async fn lose_memory(&self) {
        self.0.store.forget_all();
    }
}

store_tests! { async {
    let store = FakeStore::new();
    Fake(store.connect("one"), store.connect("other"))
} }
