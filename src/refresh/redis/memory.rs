//! Does the store still know what it knew?
//!
//! A server that was restarted empty, or a replica that was promoted without the last writes, forgets
//! claims: a flight that it no longer knows of may be on its way. Each shard's birth marker tells
//! (see `born.lua`); this task looks at all of them every [`BEAT`], and so prolongs them. A marker
//! that changed means that every gateway publishes its records once more.
//!
//! A gateway that has just started finds no marker both on an unused server and on one that was
//! emptied under a flight of another gateway's. Only that other one knows the difference. So the
//! newcomer's marker counts as unused no sooner than [`NOTICED_AFTER`](super::steps::NOTICED_AFTER),
//! by when every running gateway has looked; each that knew another marker replaces it by one with
//! which all settle. Nothing else is asked, so it holds for a restart, a `FLUSHALL`, a promoted
//! replica that had no marker yet, and one node of a cluster. Rejected: to trust a server that has
//! been up for long (one that is flushed has been, and so has a replica), to trust one to which no
//! other gateway is connected (a cluster's nodes each know their own listeners only), and to let a
//! first start settle like any other (a call's whole deadline, for nothing).
//!
//! What remains: a gateway that stands still, or is cut off from the store, for all that time after it
//! has sent, while the store is emptied and another gateway starts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, RedisResult};
use tokio::sync::watch;
use tokio::time::sleep;

use super::steps::{MARKER_LIFE, SHARDS, Steps, marker_key, millis};
use crate::store::{Connection, STORE_WAIT, Store, StoreAway};

/// Shorter than the time for which a store that lost its memory lets no flight depart (a call's
/// deadline and two seconds), so that records are published again before.
const BEAT: Duration = Duration::from_secs(2);
/// And after a look that failed: a store that is back has been seen soon.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The markers as this gateway saw them last.
pub(super) struct Memory {
    seen: Mutex<Option<Vec<String>>>,
    losses: watch::Sender<u64>,
}

impl Memory {
    pub fn new() -> Memory {
        Memory { seen: Mutex::new(None), losses: watch::Sender::new(0) }
    }

    pub fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// At the start of the process: nobody of this gateway flies.
    pub async fn plant(
        &self,
        store: &Store,
        steps: &Steps,
        wait: Duration,
    ) -> Result<(), StoreAway> {
        let every: Vec<u8> = (0..SHARDS).collect();
        let planted = store.ask_within(wait, |connection| born(steps, connection, &every, true));
        let markers = planted.await?;
        *self.seen.lock() = Some(markers);
        Ok(())
    }

    /// Looks once at all markers.
    pub async fn beat(&self, store: &Store, steps: &Steps) -> Result<(), StoreAway> {
        let found = store.ask(look).await?;
        let Some(mut seen) = self.seen.lock().clone() else {
            // However late, it had no claim that could be forgotten.
            self.plant(store, steps, STORE_WAIT).await?;
            self.lost();
            return Ok(());
        };
        let changed: Vec<u8> = (0..SHARDS)
            .zip(seen.iter().zip(&found))
            .filter_map(|(shard, (seen, found))| (Some(seen) != found.as_ref()).then_some(shard))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        // Shards on other nodes of a cluster have lost nothing, and need not settle.
        let markers = store.ask(|connection| born(steps, connection, &changed, false)).await?;
        for (shard, marker) in changed.into_iter().zip(markers) {
            if let Some(seen) = seen.get_mut(usize::from(shard)) {
                *seen = marker;
            }
        }
        *self.seen.lock() = Some(seen);
        self.lost();
        Ok(())
    }

    fn lost(&self) {
        tracing::warn!("the session store may have lost its memory: records are published again");
        self.losses.send_modify(|losses| *losses += 1);
    }
}

/// Beats until the store is dropped.
pub(super) async fn watch_over(memory: Arc<Memory>, store: Arc<Store>, steps: Arc<Steps>) {
    let mut pause = BEAT;
    loop {
        sleep(pause).await;
        // A store that is away is noticed by whoever asks it.
        let looked = memory.beat(&store, &steps).await;
        pause = if looked.is_ok() { BEAT } else { LOOK_AGAIN };
    }
}

async fn look(connection: Connection) -> RedisResult<Vec<Option<String>>> {
    try_join_all((0..SHARDS).map(|shard| {
        let mut connection = connection.clone();
        async move {
            let mut command = redis::cmd("GETEX");
            command.arg(marker_key(shard)).arg("PX").arg(millis(MARKER_LIFE));
            let answer = connection.req_packed_command(&command).await?;
            Ok(Option::from_redis_value(answer.extract_error()?)?)
        }
    }))
    .await
}

/// Looks at these shards' markers, and sets those that are missing.
async fn born(
    steps: &Steps,
    connection: Connection,
    shards: &[u8],
    newcomer: bool,
) -> RedisResult<Vec<String>> {
    try_join_all(shards.iter().map(|shard| {
        let call = steps.born.with_keys([marker_key(*shard)]);
        let call = call.arg(u8::from(newcomer)).arg(millis(MARKER_LIFE));
        call.on(connection.clone())
    }))
    .await
}
