//! One deny list for all gateways, in the store that they share.
//!
//! 1. An entry is written as soon as it is made, and every gateway looks for new ones each
//!    [`LOOK_EVERY`], with one question: what one gateway denies, all deny within a second.
//! 2. A gateway that starts reads everything that is live before it is ready.
//! 3. A store that is away loses nothing: entries stay unwritten until it answers, and a gateway goes on
//!    with what it knows. A store that forgot (restart, failover, flush) is told again by whoever
//!    still knows.
//! 4. An entry is a keyed hash with a mark that only the gateways can make: nobody reads in the store
//!    who was denied, and nobody but a gateway denies anybody there.
//!
//! Lives travel as what is left of them, so that the clocks of gateways and store need not agree.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::denials::{DENIALS_MAX, Denials, Issued, Name, Rule};
use crate::clock::Clock;
use crate::policy::time::UnixSeconds;
use crate::store::{Script, Sealer, Store, StoreAway};

/// How often a gateway looks for what others have denied.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// No request waits for these questions.
const QUESTION_MAX: Duration = Duration::from_secs(1);
/// Entries read in one question.
const PAGE: usize = 1_000;
/// Entries written in one question.
const WRITTEN_AT_ONCE: usize = 100;
/// Where a mark belongs to: an entry is not taken for anything else of the store's.
const PLACE: &str = "evergate:{denials}";

/// An entry as it travels: itself, its number in the list, how many ms it still lives.
type Listed = (String, u64, i64);

/// One gateway's side of the shared list.
pub struct SharedDenials {
    denials: Arc<Denials>,
    store: Arc<Store>,
    sealer: Sealer,
    clock: Clock,
    add: Script,
    tail: Script,
    /// The list's name and the last number read; empty before the first look.
    seen: (String, u64),
    /// The store said that it has no room; said once.
    full: bool,
}

impl SharedDenials {
    pub fn new(
        denials: Arc<Denials>,
        store: Arc<Store>,
        sealer: Sealer,
        clock: Clock,
    ) -> SharedDenials {
        let script = |text: &str| Script::new(text.to_owned());
        let (add, tail) =
            (script(include_str!("denials/add.lua")), script(include_str!("denials/tail.lua")));
        let seen = (String::new(), 0);
        SharedDenials { denials, store, sealer, clock, add, tail, seen, full: false }
    }

    /// Keeps the two lists alike, for as long as it is polled.
    pub async fn keep(mut self) {
        let mut unwritten = self.denials.unwritten();
        loop {
            self.denials.tidy((self.clock)().unix);
            // Whether a store that is away is back, others find out: each try in vain would keep
            // requests from it for longer. Its room says that it is away.
            if self.store.is_degraded() || self.look().await.is_err() {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let news = timeout(LOOK_EVERY, unwritten.wait_for(|count| *count > 0)).await.is_ok();
            // Written at once; what the store would not take waits for the next look.
            if news && (self.write().await.is_err() || self.full) {
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Reads what is new, then writes what the store lacks.
    ///
    /// # Errors
    /// The store is away; what was not read or written is next time.
    pub async fn look(&mut self) -> Result<(), StoreAway> {
        while self.read().await? >= PAGE {}
        self.denials.note_read();
        self.write().await
    }

    /// One page; how many entries it had.
    async fn read(&mut self) -> Result<usize, StoreAway> {
        let call = self.tail.with_keys(keys()).arg(&self.seen.0).arg(self.seen.1).arg(PAGE);
        let answer = self.store.ask_within(QUESTION_MAX, |connection| call.on(connection));
        let (list, entries): (String, Vec<Listed>) = answer.await?;
        if list != self.seen.0 {
            if !self.seen.0.is_empty() {
                self.denials.write_again();
            }
            self.seen = (list, 0);
        }
        let now = (self.clock)().unix;
        for (entry, number, left_ms) in &entries {
            self.seen.1 = *number;
            let left_s = u64::try_from(*left_ms).unwrap_or(0).div_ceil(1_000);
            match self.read_entry(entry) {
                Some((name, issued)) => {
                    self.denials.learn(name, Rule { issued, lapses: now.plus(left_s) }, now);
                }
                None => tracing::error!("an entry of the shared deny list is not ours"),
            }
        }
        Ok(entries.len())
    }

    async fn write(&mut self) -> Result<(), StoreAway> {
        loop {
            let some = self.denials.some_unwritten(WRITTEN_AT_ONCE);
            if some.is_empty() {
                self.full = false;
                return Ok(());
            }
            let now = (self.clock)().unix;
            let mut call = self.add.with_keys(keys()).arg(DENIALS_MAX);
            for (name, rule) in &some {
                let left_ms = rule.lapses.since(now).saturating_mul(1_000);
                call = call.arg(self.entry(*name, rule.issued)).arg(left_ms);
            }
            let refused: usize =
                self.store.ask_within(QUESTION_MAX, |connection| call.on(connection)).await?;
            if refused > 0 {
                if !self.full {
                    tracing::error!(
                        refused,
                        "the shared deny list is full: other gateways do not learn of new entries"
                    );
                }
                self.full = true;
                return Ok(());
            }
            self.denials.note_written(&some);
        }
    }

    /// The entry's text. What it denies is in its mark, so that a script cannot be fed another's.
    fn entry(&self, name: Name, issued: Issued) -> String {
        let name = u128::from_be_bytes(name.0);
        let value = match issued {
            Issued::AnyTime => format!("{name:032x}:-"),
            Issued::Before(moment) => format!("{name:032x}:{}", moment.0),
        };
        let mark = self.sealer.mark(PLACE, &value);
        format!("{value}:{mark}")
    }

    fn read_entry(&self, entry: &str) -> Option<(Name, Issued)> {
        let (value, mark) = entry.rsplit_once(':')?;
        if !self.sealer.is_marked(PLACE, value, mark) {
            return None;
        }
        let (name, issued) = value.split_once(':')?;
        let name = Name(u128::from_str_radix(name, 16).ok()?.to_be_bytes());
        let issued = match issued {
            "-" => Issued::AnyTime,
            moment => Issued::Before(UnixSeconds(moment.parse().ok()?)),
        };
        Some((name, issued))
    }
}

fn keys() -> [String; 3] {
    ["ends", "order", "state"].map(|key| format!("{PLACE}:{key}"))
}
