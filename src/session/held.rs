//! Tokens that the gateway holds, under a handle that is all a browser has.
//!
//! 1. Without a shared store they lie in this process: bounded, and gone with it. With one they lie
//!    there, sealed, under a name from which nobody learns the handle.
//! 2. A writer puts a pair in the place of the one that it has read, never of another and never where
//!    there is none any more: so a late response neither brings an older pair back nor a session that
//!    was logged out. Who came second writes nothing; the session's record serves its pair to the next.
//! 3. The handle of a pair follows from it, by a key: who shows the same tokens in other cookies again and
//!    again is given the same handle, and pushes nobody out.
//! 4. A store that is away logs nobody out: the last pair that was read or written here is served
//!    meanwhile. It is never written back.
//! 5. A handle that nobody holds costs one bounded look and is not remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::ops::compute::{CompResult, Op};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, RedisResult};

use crate::policy::kept::{Handle, Kept};
use crate::policy::time::Now;
use crate::store::{Connection, Script, Sealer, Store, StoreAway};

/// How long a pair is held after it was written, where the backend tells no life of its refresh token.
pub const LIFE_UNTOLD: Duration = Duration::from_secs(24 * 60 * 60);
/// Of all names in the store; and what a handle's own is made for.
const PLACE: &str = "evergate:held";
/// What a handle is made for.
const HANDLES: &str = "handle";
/// A sealed value begins with its key's id and its nonce, which no two have in common.
const VERSION_BYTES: usize = 17;

/// Which of the pairs that a handle had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version([u8; VERSION_BYTES]);

/// What a request has read, and may put another pair in the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub handle: Handle,
    version: Version,
}

/// All handles of one gateway.
pub struct HeldTokens {
    /// All there is, or copies of what is in the store.
    here: Cache<Handle, Here>,
    sealer: Arc<Sealer>,
    shared: Option<Shared>,
    versions: AtomicU64,
}

/// Tokens under one handle, in this process.
#[derive(Clone)]
struct Here {
    /// `None`: logged out while the store was away, which has to be told yet.
    kept: Option<Arc<Kept>>,
    version: Version,
    /// In uptime.
    lapses: Duration,
}

struct Shared {
    store: Arc<Store>,
    sealer: Arc<Sealer>,
    replace: Script,
    remove: Script,
}

impl HeldTokens {
    /// `handles_max`: how many are held here; the longest unused goes first. `store`: where all gateways
    /// hold them; `sealer` is theirs, then.
    pub fn new(handles_max: usize, sealer: Sealer, store: Option<Arc<Store>>) -> HeldTokens {
        let (sealer, script) = (Arc::new(sealer), |text: &str| Script::new(text.to_owned()));
        let shared = store.map(|store| Shared {
            store,
            sealer: Arc::clone(&sealer),
            replace: script(include_str!("held/replace.lua")),
            remove: script(include_str!("held/remove.lua")),
        });
        let here = Cache::builder()
            .max_capacity(u64::try_from(handles_max).unwrap_or(u64::MAX))
            // By default a newcomer that is asked for less often than the others is not let in.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        HeldTokens { here, sealer, shared, versions: AtomicU64::new(0) }
    }

    /// The tokens under this handle. A handle is looked for in the store each time.
    ///
    /// # Errors
    /// The store is away, and nobody with this handle was here lately.
    pub async fn find(
        &self,
        handle: Handle,
        now: Now,
    ) -> Result<Option<(Arc<Kept>, Place)>, StoreAway> {
        let Some(shared) = &self.shared else { return Ok(self.find_here(handle, now)) };
        match shared.find(handle).await {
            Ok(Some((kept, version))) => {
                if self.copy(handle, &kept, version, LIFE_UNTOLD, now) {
                    return Ok(Some((kept, Place { handle, version })));
                }
                self.remove(Place { handle, version }, now).await;
                Ok(None)
            }
            Ok(None) => {
                self.here.invalidate(&handle);
                Ok(None)
            }
            Err(away) => match self.here.get(&handle) {
                Some(Here { kept: None, .. }) => Ok(None),
                Some(_) => self.find_here(handle, now).map(Some).ok_or(away),
                None => Err(away),
            },
        }
    }

    /// Holds these tokens under their own handle. One that was held before still leads to these, or to
    /// what came after them.
    ///
    /// # Errors
    /// The store is away.
    pub async fn hold(&self, kept: Kept, life: Duration, now: Now) -> Result<Handle, StoreAway> {
        let bytes = kept.to_bytes().ok_or(StoreAway)?;
        let (handle, kept) = (Handle::new(self.sealer.tag(HANDLES, &bytes)), Arc::new(kept));
        if let Some(shared) = &self.shared {
            if let Some(version) = shared.hold(handle, &kept, life).await? {
                self.copy(handle, &kept, version, life, now);
            }
            return Ok(handle);
        }
        let new = self.new_here(kept, life, now);
        self.here.entry(handle).and_compute_with(|held| match held {
            Some(held) if now.uptime < held.value().lapses => Op::Nop,
            Some(_) | None => Op::Put(new),
        });
        Ok(handle)
    }

    /// Puts these tokens in the place of those that were read. False: others are there by now, or none.
    ///
    /// # Errors
    /// The store is away.
    pub async fn replace(
        &self,
        place: Place,
        kept: Kept,
        life: Duration,
        now: Now,
    ) -> Result<bool, StoreAway> {
        let kept = Arc::new(kept);
        if let Some(shared) = &self.shared {
            let written = shared.replace(place, &kept, life).await?;
            if let Some(version) = written {
                self.copy(place.handle, &kept, version, life, now);
            }
            return Ok(written.is_some());
        }
        let new = self.new_here(kept, life, now);
        let replaced = self.here.entry(place.handle).and_compute_with(|held| match held {
            Some(held) if held.value().version == place.version => Op::Put(new),
            Some(_) | None => Op::Nop,
        });
        Ok(matches!(replaced, CompResult::ReplacedWith(_)))
    }

    /// Forgets a handle, whatever it holds by now. A store that is away is told when the handle is
    /// shown again.
    pub async fn remove(&self, place: Place, now: Now) {
        self.remove_if(place.handle, None, now).await;
    }

    /// Forgets a handle if it still holds what was read.
    pub async fn remove_unchanged(&self, place: Place, now: Now) {
        self.remove_if(place.handle, Some(place.version), now).await;
    }

    async fn remove_if(&self, handle: Handle, version: Option<Version>, now: Now) {
        let told = match &self.shared {
            Some(shared) => shared.remove(handle, version).await.is_ok(),
            None => true,
        };
        let gone = Here {
            kept: None,
            version: self.next_version(),
            lapses: now.uptime.saturating_add(LIFE_UNTOLD),
        };
        self.here.entry(handle).and_compute_with(|held| match (held, version) {
            (Some(held), Some(version)) if held.value().version != version => Op::Nop,
            (_, None) if !told => Op::Put(gone),
            (Some(_), _) => Op::Remove,
            (None, _) => Op::Nop,
        });
    }

    fn find_here(&self, handle: Handle, now: Now) -> Option<(Arc<Kept>, Place)> {
        let Here { kept, version, lapses } = self.here.get(&handle)?;
        if now.uptime >= lapses {
            self.here.invalidate(&handle);
            return None;
        }
        Some((kept?, Place { handle, version }))
    }

    /// Remembers what a handle holds. False: it was logged out here.
    fn copy(
        &self,
        handle: Handle,
        kept: &Arc<Kept>,
        version: Version,
        life: Duration,
        now: Now,
    ) -> bool {
        let is_known = |held: Here| held.kept.is_some() && held.version == version;
        if self.here.get(&handle).is_some_and(is_known) {
            return true;
        }
        let lapses = now.uptime.saturating_add(life);
        let new = Here { kept: Some(Arc::clone(kept)), version, lapses };
        let copied = self.here.entry(handle).and_compute_with(|held| match held {
            Some(held) if held.value().kept.is_none() => Op::Nop,
            Some(_) | None => Op::Put(new),
        });
        !matches!(copied, CompResult::Unchanged(_))
    }

    fn new_here(&self, kept: Arc<Kept>, life: Duration, now: Now) -> Here {
        let lapses = now.uptime.saturating_add(life);
        Here { kept: Some(kept), version: self.next_version(), lapses }
    }

    fn next_version(&self) -> Version {
        let mut version = [0; VERSION_BYTES];
        let number = self.versions.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        version.iter_mut().zip(number).for_each(|(slot, byte)| *slot = byte);
        Version(version)
    }
}

impl Shared {
    async fn find(&self, handle: Handle) -> Result<Option<(Arc<Kept>, Version)>, StoreAway> {
        let name = self.name(handle);
        let Some(sealed) = self.store.ask(|connection| get(connection, &name)).await? else {
            return Ok(None);
        };
        let kept = self.sealer.open(&name, &sealed).and_then(|bytes| Kept::from_bytes(&bytes));
        if kept.is_none() {
            // Counts as absent.
            tracing::error!("a value in the session store cannot be opened");
        }
        Ok(kept.zip(version(&sealed)).map(|(kept, version)| (Arc::new(kept), version)))
    }

    /// `None`: there is something already.
    async fn hold(
        &self,
        handle: Handle,
        kept: &Kept,
        life: Duration,
    ) -> Result<Option<Version>, StoreAway> {
        let name = self.name(handle);
        let (sealed, version) = self.sealed(&name, kept)?;
        let mut set = redis::cmd("SET");
        set.arg(&name).arg(sealed).arg("NX").arg("PX").arg(millis(life));
        let answer: Option<String> = self.store.ask(|connection| ask(connection, &set)).await?;
        Ok(answer.map(|_| version))
    }

    async fn replace(
        &self,
        place: Place,
        kept: &Kept,
        life: Duration,
    ) -> Result<Option<Version>, StoreAway> {
        let name = self.name(place.handle);
        let (sealed, version) = self.sealed(&name, kept)?;
        let call = self.replace.with_keys([name]);
        let call = call.arg(&place.version.0[..]).arg(sealed).arg(millis(life));
        let replaced: bool = self.store.ask(|connection| call.on(connection)).await?;
        Ok(replaced.then_some(version))
    }

    async fn remove(&self, handle: Handle, version: Option<Version>) -> Result<(), StoreAway> {
        let call = self.remove.with_keys([self.name(handle)]);
        let call = call.arg(version.as_ref().map_or(&[][..], |version| &version.0[..]));
        self.store.ask(|connection| call.on::<i64>(connection)).await.map(drop)
    }

    fn sealed(&self, name: &str, kept: &Kept) -> Result<(Vec<u8>, Version), StoreAway> {
        let sealed = kept.to_bytes().and_then(|bytes| self.sealer.seal(name, &bytes));
        let sealed = sealed.ok_or(StoreAway)?;
        let version = version(&sealed).ok_or(StoreAway)?;
        Ok((sealed, version))
    }

    /// From the name nobody learns the handle.
    fn name(&self, handle: Handle) -> String {
        format!("{PLACE}:{}", self.sealer.mark(PLACE, &handle.expose()))
    }
}

fn version(sealed: &[u8]) -> Option<Version> {
    sealed.first_chunk().copied().map(Version)
}

async fn get(connection: Connection, name: &str) -> RedisResult<Option<Vec<u8>>> {
    ask(connection, redis::cmd("GET").arg(name)).await
}

async fn ask<T: FromRedisValue>(
    mut connection: Connection,
    command: &redis::Cmd,
) -> RedisResult<T> {
    let answer = connection.req_packed_command(command).await?;
    Ok(T::from_redis_value(answer.extract_error()?)?)
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests;
