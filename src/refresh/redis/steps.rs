//! The scripts, their keys and their times.
//!
//! All keys of a session carry one hash tag, so that a cluster keeps them on one node and a script
//! may touch them all. Tags are [`SHARDS`] in number and not one a session, so that each shard can
//! hold one *birth marker* on the same node: it tells since when that node knows everything.

use std::time::Duration;

use super::super::hash::TokenHash;
use super::super::record::{CONFIRMATIONS_MAX, GRACE, LIFE_UNTOLD};
use super::super::sessions::{ALIASES_MAX, SessionId};
use super::super::store::{CLAIMED_FOR, LOST_AFTER, SENT_SLACK};
use crate::store::{Call, Script};

/// Hash tags; a cluster of more nodes than this would leave some idle.
pub(super) const SHARDS: u8 = 64;
/// A birth marker's life without a gateway that prolongs it.
pub(super) const MARKER_LIFE: Duration = Duration::from_secs(3600);
/// How soon a running gateway has noticed that a server lost its memory, wherever it stood: a
/// connection is made again within a second, a store that failed rests for two, then it is looked at.
/// Shorter than the default `refresh.wait`, so that nobody who comes first to an unused store is sent
/// away.
pub(super) const NOTICED_AFTER: Duration = Duration::from_secs(4);
/// A record's life that no backend has confirmed: strangers must not fill the store.
const UNPROVEN: Duration = Duration::from_secs(600);
/// How long a token is remembered that was refused, or logged out, and never brought a session.
const OVER_UNPROVEN: Duration = Duration::from_secs(300);
/// No key expires sooner, whatever a backend says of its token: flights are still on their way.
const SHORTEST: Duration = Duration::from_secs(60);
/// Gateways told of one session's news; more of them only poll.
const WAITERS_MAX: usize = 32;

/// Every step, ready to be called.
pub(super) struct Steps {
    pub find: Script,
    pub claim: Script,
    pub keep: Script,
    pub sent: Script,
    pub release: Script,
    pub withdraw: Script,
    pub publish: Script,
    pub close: Script,
    pub confirm: Script,
    pub extended: Script,
    pub alias: Script,
    pub born: Script,
}

impl Steps {
    pub fn new() -> Steps {
        let head = format!("{}\n{}", times(), include_str!("record.lua"));
        let step = |text: &str| Script::new(format!("{head}\n{text}"));
        Steps {
            find: step(include_str!("find.lua")),
            claim: step(include_str!("claim.lua")),
            keep: step(include_str!("keep.lua")),
            sent: step(include_str!("sent.lua")),
            release: step(include_str!("release.lua")),
            withdraw: step(include_str!("withdraw.lua")),
            publish: step(include_str!("publish.lua")),
            close: step(include_str!("close.lua")),
            confirm: step(include_str!("confirm.lua")),
            extended: step(include_str!("extended.lua")),
            alias: Script::new(include_str!("alias.lua").to_owned()),
            born: Script::new(include_str!("born.lua").to_owned()),
        }
    }
}

/// A step on one session's record, with its keys and its id in place.
pub(super) fn on(script: &Script, id: SessionId) -> Call<'_> {
    let tag = tag(shard(id));
    let hex = id.0.to_hex();
    let keys =
        [record_key(id), format!("{tag}:t:{hex}"), format!("{tag}:w:{hex}"), marker_key(shard(id))];
    script.with_keys(keys).arg(hex)
}

pub(super) fn record_key(id: SessionId) -> String {
    format!("{}:s:{}", tag(shard(id)), id.0.to_hex())
}

pub(super) fn marker_key(shard: u8) -> String {
    format!("{}:born", tag(shard))
}

pub(super) fn alias_key(hash: TokenHash) -> String {
    format!("evergate:a:{}", hash.to_hex())
}

/// How long an alias lives: a day longer than its session, so that it is prolonged once a day and
/// not at every look.
pub(super) fn alias_life(session: Duration) -> Duration {
    session.max(SHORTEST) + LIFE_UNTOLD
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tag(shard: u8) -> String {
    format!("evergate:{{{shard:02x}}}")
}

fn shard(id: SessionId) -> u8 {
    id.0.first_byte() % SHARDS
}

/// Times and bounds by name, in ms.
fn times() -> String {
    let times = [
        ("UNTOLD", LIFE_UNTOLD),
        ("UNPROVEN", UNPROVEN),
        ("OVER_UNPROVEN", OVER_UNPROVEN),
        ("SHORTEST", SHORTEST),
        ("MARKER_LIFE", MARKER_LIFE),
        ("NOTICED_AFTER", NOTICED_AFTER),
        ("CLAIMED_FOR", CLAIMED_FOR),
        ("SENT_SLACK", SENT_SLACK),
        ("LOST_AFTER", LOST_AFTER),
        ("GRACE", GRACE),
    ];
    let bounds = [
        ("CONFIRMATIONS_MAX", CONFIRMATIONS_MAX),
        ("ALIASES_MAX", ALIASES_MAX),
        ("WAITERS_MAX", WAITERS_MAX),
    ];
    let times = times.map(|(name, time)| format!("local {name} = {}", millis(time)));
    let bounds = bounds.map(|(name, bound)| format!("local {name} = {bound}"));
    format!("{}\n{}", times.join("\n"), bounds.join("\n"))
}
