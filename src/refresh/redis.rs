//! The session store over Redis.
//!
//! One Lua script a step (`redis/*.lua`, each begins with what it does), so that each is atomic on
//! whichever node has the session. What a script cannot do in one step are the aliases, which lie on
//! other nodes: they are written *before* the record, so that no browser shows a token whose alias
//! is missing. An alias without its record leads nowhere, and the token then counts as unknown.
//!
//! It must never: wait longer than the contract says, let a value it cannot open change what a
//! gateway believes, log a token or a key.

mod aliases;
mod memory;
mod reply;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use futures_util::future::join;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, RedisResult};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use self::memory::{Memory, watch_over};
use self::reply::{Found, Record, alias, listed, sealed, stored};
use self::steps::{Steps, alias_key, alias_life, millis, on};
use super::hash::TokenHash;
use super::record::LIFE_UNTOLD;
use super::sessions::SessionId;
use super::store::{
    Claim, ClaimId, Life, Publication, STORE_WAIT, SessionStore, Sighting, StoreAway, Stored,
};
use crate::store::{Connection, NEWS_CHANNEL, Sealer, Store, StoreSettings, WeakKey};

/// How long the start of the process waits for the store, before it goes on without.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The store of one gateway.
pub struct RedisStore {
    inner: Arc<Inner>,
    memory: Arc<Memory>,
    watching: JoinHandle<()>,
}

struct Inner {
    store: Arc<Store>,
    steps: Arc<Steps>,
    sealer: Sealer,
}

impl RedisStore {
    /// Connects, waiting for it a second at most: the gateway starts without the store, too.
    ///
    /// # Errors
    /// The key cannot be used.
    pub async fn open(settings: &StoreSettings) -> Result<RedisStore, WeakKey> {
        RedisStore::open_with(settings, STORE_WAIT).await
    }

    /// As [`RedisStore::open`]. `wait`: what a question takes at most; other than [`STORE_WAIT`] for
    /// tests on a busy machine only.
    ///
    /// # Errors
    /// The key cannot be used.
    pub async fn open_with(
        settings: &StoreSettings,
        wait: Duration,
    ) -> Result<RedisStore, WeakKey> {
        let sealer = Sealer::new(&settings.key)?;
        let mut name = [0; 8];
        rand::fill(&mut name).map_err(|_| WeakKey)?;
        let name = format!("{:016x}", u64::from_be_bytes(name));
        let store = Arc::new(Store::open(settings, &name, wait));
        let steps = Arc::new(Steps::new());
        let memory = Arc::new(Memory::new());
        if !store.connected(FIRST_WAIT).await
            || memory.plant(&store, &steps, FIRST_WAIT).await.is_err()
        {
            tracing::warn!("started without the session store");
        }
        let watching =
            tokio::spawn(watch_over(Arc::clone(&memory), Arc::clone(&store), Arc::clone(&steps)));
        let inner = Arc::new(Inner { store, steps, sealer });
        Ok(RedisStore { inner, memory, watching })
    }

    /// What every gateway that shares this store hashes refresh tokens with.
    pub fn hash_key(&self) -> [u8; 32] {
        self.inner.sealer.hash_key()
    }

    /// The way to the store, for what else gateways share there.
    pub fn connection(&self) -> Arc<Store> {
        Arc::clone(&self.inner.store)
    }

    /// Whether the last question failed.
    pub fn is_degraded(&self) -> bool {
        self.inner.store.is_degraded()
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn find(&self, hash: TokenHash) -> Result<Option<Sighting>, StoreAway> {
        let inner = &self.inner;
        let found = inner.store.ask(|connection| inner.found(connection, hash)).await?;
        let Some((id, generation, (record, life, due))) = found else { return Ok(None) };
        self.prolong(id, due, Duration::from_millis(life));
        // What cannot be opened counts as absent.
        let stored = inner.opened(id, record).ok();
        Ok(stored.map(|stored| Sighting { id, generation, stored }))
    }

    async fn claim(
        &self,
        id: SessionId,
        generation: u64,
        claim: ClaimId,
        lost_too: bool,
        settle: Duration,
    ) -> Result<Claim, StoreAway> {
        let (inner, word) = (&self.inner, id.0.to_hex());
        let call = on(&inner.steps.claim, id)
            .arg(generation)
            .arg(inner.owner(claim))
            .arg(u8::from(lost_too))
            .arg(millis(settle))
            .arg(inner.store.channel());
        // Before it is asked, so that news that come while the answer travels are not missed.
        inner.store.expect(&word);
        let answer = inner.store.ask(|connection| call.on(connection)).await;
        let (kind, rest, record): (String, u64, Option<Record>) = match answer {
            Ok(answer) => answer,
            Err(away) => {
                inner.store.forget(&word);
                return Err(away);
            }
        };
        let rest = Duration::from_millis(rest);
        let claim = match (kind.as_str(), record) {
            ("taken", _) => return Ok(Claim::Taken(rest)),
            ("settling", _) => return Ok(Claim::Settling(rest)),
            ("ours", _) => Ok(Claim::Ours),
            ("lost", _) => Ok(Claim::Lost),
            ("moved", Some(record)) => inner.opened(id, record).map(Claim::Moved),
            _ => Err(StoreAway),
        };
        inner.store.forget(&word);
        claim
    }

    async fn keep(&self, id: SessionId, claim: ClaimId) -> Result<bool, StoreAway> {
        let call = on(&self.inner.steps.keep, id).arg(self.inner.owner(claim));
        self.inner.store.ask(|connection| call.on(connection)).await
    }

    async fn sent(
        &self,
        id: SessionId,
        claim: ClaimId,
        settle: Duration,
    ) -> Result<bool, StoreAway> {
        let call = on(&self.inner.steps.sent, id).arg(self.inner.owner(claim)).arg(millis(settle));
        self.inner.store.ask(|connection| call.on(connection)).await
    }

    async fn release(
        &self,
        id: SessionId,
        claim: ClaimId,
        cooling: Option<Duration>,
        failures: u32,
    ) -> Result<(), StoreAway> {
        let call = on(&self.inner.steps.release, id)
            .arg(self.inner.owner(claim))
            .arg(ms_or_none(cooling))
            .arg(failures);
        self.inner.store.ask(|connection| call.on::<i64>(connection)).await.map(drop)
    }

    async fn withdraw(&self, id: SessionId, claim: ClaimId) -> Result<(), StoreAway> {
        let call = on(&self.inner.steps.withdraw, id).arg(self.inner.owner(claim));
        self.inner.store.ask(|connection| call.on::<i64>(connection)).await.map(drop)
    }

    async fn elsewhere(&self, id: SessionId) -> Result<Option<SessionId>, StoreAway> {
        let held = self.inner.store.ask(|connection| get(connection, alias_key(id.0))).await?;
        let alias = held.and_then(|held| alias(&self.inner.sealer, id.0, &held));
        Ok(alias.map(|(other, _)| other).filter(|other| *other != id))
    }

    async fn publish(&self, publication: &Publication) -> Result<Option<Stored>, StoreAway> {
        self.tell(publication, false).await
    }

    async fn publish_at_once(
        &self,
        publication: &Publication,
    ) -> Result<Option<Stored>, StoreAway> {
        self.tell(publication, true).await
    }

    async fn close(
        &self,
        id: SessionId,
        generation: u64,
        life: Life,
    ) -> Result<Option<Stored>, StoreAway> {
        let word = match life {
            Life::Dead => "dead",
            Life::Ended => "ended",
            // Nothing to close.
            Life::Live => return Ok(None),
        };
        let call = on(&self.inner.steps.close, id).arg(generation).arg(word).arg(NEWS_CHANNEL);
        let goes_on: Option<Record> =
            self.inner.store.ask(|connection| call.on(connection)).await?;
        goes_on.map(|record| self.inner.opened(id, record)).transpose()
    }

    async fn confirm(&self, id: SessionId, generation: u64) -> Result<(), StoreAway> {
        let call = on(&self.inner.steps.confirm, id).arg(generation);
        self.inner.store.ask(|connection| call.on::<i64>(connection)).await.map(drop)
    }

    async fn told(&self, id: SessionId, at_most: Duration) {
        self.inner.store.told(&id.0.to_hex(), at_most).await;
    }

    fn closed(&self) -> broadcast::Receiver<Arc<str>> {
        self.inner.store.news()
    }

    fn rest(&self) -> Option<Duration> {
        self.inner.store.rest()
    }

    fn losses(&self) -> watch::Receiver<u64> {
        self.memory.losses()
    }
}

impl RedisStore {
    async fn tell(
        &self,
        publication: &Publication,
        presses: bool,
    ) -> Result<Option<Stored>, StoreAway> {
        let (inner, id) = (&self.inner, publication.id);
        let life = alias_life(publication.life_left.unwrap_or(LIFE_UNTOLD));
        let (now, later) = inner.aliases_of(publication);
        let generations = (publication.generation, publication.refresh_generation);
        let head = sealed(&inner.sealer, id, generations, &publication.head).ok_or(StoreAway)?;
        let mut call = on(&inner.steps.publish, id)
            .arg(publication.generation)
            .arg(publication.refresh_generation)
            .arg(head)
            .arg(ms_or_none(publication.life_left))
            .arg(publication.confirmations.len());
        for (generation, age) in &publication.confirmations {
            call = call.arg(*generation).arg(millis(*age));
        }
        for (hash, generation) in now.iter().chain(&later) {
            call = call.arg(listed(*hash, *generation));
        }
        let steps = async |connection: Connection| {
            inner.write_aliases(connection.clone(), id, &now, life).await?;
            call.on(connection).await
        };
        let (newer, life_ms, due): (Option<Record>, u64, Vec<String>) =
            if presses { inner.store.press(steps).await? } else { inner.store.ask(steps).await? };
        match newer {
            Some(record) => inner.opened(id, record).map(Some),
            None => {
                let later = later.iter().map(|(hash, generation)| listed(*hash, *generation));
                let due = later.chain(due).collect();
                self.prolong(id, due, Duration::from_millis(life_ms));
                Ok(None)
            }
        }
    }
}

impl Inner {
    /// A claim's name among all gateways'.
    fn owner(&self, claim: ClaimId) -> String {
        format!("{}:{:x}", self.store.name(), claim.0)
    }

    /// The session that had this refresh token, and the generation that brought it.
    async fn found(
        &self,
        connection: Connection,
        hash: TokenHash,
    ) -> RedisResult<Option<(SessionId, u64, Found)>> {
        let named = SessionId(hash);
        let held = get(connection.clone(), alias_key(hash));
        let (held, found) = join(held, self.look(connection.clone(), named)).await;
        let alias = held?.and_then(|held| {
            let alias = alias(&self.sealer, hash, &held);
            if alias.is_none() {
                tracing::error!("a value in the session store cannot be opened");
            }
            alias
        });
        Ok(match (alias, found?) {
            // A token that came back to the session it names.
            (Some((id, generation)), Some(found)) if id == named => Some((id, generation, found)),
            // A session that is named after this token stays its owner, whatever another got later.
            (_, Some(found)) => Some((named, 0, found)),
            (Some((id, generation)), None) => {
                self.look(connection, id).await?.map(|found| (id, generation, found))
            }
            (None, None) => None,
        })
    }

    async fn look(&self, connection: Connection, id: SessionId) -> RedisResult<Option<Found>> {
        on(&self.steps.find, id).on(connection).await
    }

    fn opened(&self, id: SessionId, record: Record) -> Result<Stored, StoreAway> {
        stored(&self.sealer, id, record).map_err(|_| {
            tracing::error!(session = %id.0, "a value in the session store cannot be opened");
            StoreAway
        })
    }
}

async fn get(mut connection: Connection, key: String) -> RedisResult<Option<String>> {
    let answer = connection.req_packed_command(redis::cmd("GET").arg(key)).await?;
    Ok(Option::from_redis_value(answer.extract_error()?)?)
}

fn ms_or_none(duration: Option<Duration>) -> i64 {
    duration.map_or(-1, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
