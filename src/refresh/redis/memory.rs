//! Does the store still know what it knew?
//!
//! A server that was restarted empty, or a replica that was promoted without the last writes, forgets
//! claims: a flight that it no longer knows of may be on its way. Each shard's birth marker tells
//! (see `born.lua`); this task looks at all of them every [`BEAT`], and so prolongs them. A marker
//! that changed means that every gateway publishes its records once more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{FromRedisValue, RedisResult};
use tokio::sync::watch;
use tokio::time::sleep;

use super::steps::{MARKER_LIFE, SHARDS, Steps, marker_key, millis};
use crate::store::{Connection, Store, StoreAway};

/// Shorter than the time for which a store that lost its memory lets no flight depart (a call's
/// deadline and two seconds), so that records are published again before.
const BEAT: Duration = Duration::from_secs(2);

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

    /// At the start of the process: nobody of this gateway flies, so a marker that is missing means
    /// an unused store.
    pub async fn plant(
        &self,
        store: &Store,
        steps: &Steps,
        wait: Duration,
    ) -> Result<(), StoreAway> {
        let planted = store.ask_within(wait, |connection| born(steps, connection, true));
        let markers = planted.await?;
        *self.seen.lock() = Some(markers);
        Ok(())
    }

    /// Looks once at all markers.
    pub async fn beat(&self, store: &Store, steps: &Steps) -> Result<(), StoreAway> {
        let found = store.ask(look).await?;
        let seen = self.seen.lock().clone();
        let unchanged =
            |seen: &Vec<String>| seen.iter().map(Some).eq(found.iter().map(Option::as_ref));
        if seen.as_ref().is_some_and(unchanged) {
            return Ok(());
        }
        let markers = store.ask(|connection| born(steps, connection, false)).await?;
        *self.seen.lock() = Some(markers);
        tracing::warn!("the session store may have lost its memory: records are published again");
        self.losses.send_modify(|losses| *losses += 1);
        Ok(())
    }
}

/// Beats until the store is dropped.
pub(super) async fn watch_over(memory: Arc<Memory>, store: Arc<Store>, steps: Arc<Steps>) {
    loop {
        sleep(BEAT).await;
        // A store that is away is noticed by whoever asks it.
        let _ = memory.beat(&store, &steps).await;
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

async fn born(steps: &Steps, connection: Connection, first: bool) -> RedisResult<Vec<String>> {
    try_join_all((0..SHARDS).map(|shard| {
        let call = steps.born.with_keys([marker_key(shard)]);
        let call = call.arg(u8::from(first)).arg(millis(MARKER_LIFE));
        call.on(connection.clone())
    }))
    .await
}
