//! Aliases: which session a refresh token belongs to.
//!
//! They lie on other nodes than their session, so a script cannot write them along. They are written
//! before the record; the older ones of a long list follow, and those whose life runs out are prolonged
//! beside the request.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::RedisResult;

use super::reply::{alias_value, unlisted};
use super::steps::{alias_key, alias_life, millis, on};
use super::{Inner, RedisStore};
use crate::refresh::hash::TokenHash;
use crate::refresh::sessions::SessionId;
use crate::refresh::store::Publication;
use crate::store::Connection;

/// Aliases written in one question; the rest follows in the background.
const ALIASES_AT_ONCE: usize = 32;

/// A refresh token of a session, and the generation that brought it.
pub(super) type Alias = (TokenHash, u64);

impl RedisStore {
    /// Prolongs aliases beside the request. What fails is due again at the next look.
    pub(super) fn prolong(&self, id: SessionId, due: Vec<String>, session: Duration) {
        if due.is_empty() {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let life = alias_life(session);
            for due in due.chunks(ALIASES_AT_ONCE) {
                let aliases: Vec<_> = due.iter().filter_map(|listed| unlisted(listed)).collect();
                let call = on(&inner.steps.extended, id).arg(millis(life)).arg(due);
                let written = inner.store.ask(|connection| async {
                    inner.write_aliases(connection.clone(), id, &aliases, life).await?;
                    call.on::<i64>(connection).await
                });
                if written.await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Inner {
    /// The aliases to write with the head, its own first, and those that can follow.
    pub(super) fn aliases_of(&self, publication: &Publication) -> (Vec<Alias>, Vec<Alias>) {
        let mut older = publication.aliases.clone();
        older.sort_unstable_by_key(|(_, generation)| std::cmp::Reverse(*generation));
        let mut all = vec![(publication.hash, publication.refresh_generation)];
        all.extend(older.into_iter().filter(|(hash, _)| *hash != publication.hash));
        // The first token names the session itself.
        all.retain(|alias| *alias != (publication.id.0, 0));
        let later = all.split_off(all.len().min(ALIASES_AT_ONCE));
        (all, later)
    }

    pub(super) async fn write_aliases(
        &self,
        connection: Connection,
        id: SessionId,
        aliases: &[Alias],
        life: Duration,
    ) -> RedisResult<()> {
        let writes = aliases.iter().map(|(hash, generation)| {
            self.steps
                .alias
                .with_keys([alias_key(*hash)])
                .arg(id.0.to_hex())
                .arg(*generation)
                .arg(alias_value(&self.sealer, *hash, id, *generation))
                .arg(millis(life))
                .on::<i64>(connection.clone())
        });
        try_join_all(writes).await.map(drop)
    }
}
