//! The table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use super::fleet::Sample;

/// Memory is flat if the last third of a run needs no more than the first third by so much. A heap
/// with a changing load is never level: a fifth is its breathing, and 10 MiB is what an allocator
/// holds back for each of its threads. A record kept for each request of a run would be far over it.
const GROWTH_PERCENT: u64 = 20;
const GROWTH_KIB: u64 = 10 * 1024;

/// What must be zero, in the order of the table.
const NEVER: [&str; 14] = [
    "unexplained logout",
    "double presentation",
    "unknown refresh token",
    "another identity at the app",
    "another identity for the browser",
    "another's token for the browser",
    "a gateway cookie at the app",
    "cookies cleared",
    "cookies after a logout",
    "a token that outlived its logout",
    "connection lost",
    "cut by a graceful restart",
    "no answer",
    "a panic",
];

/// The highest memory of one gateway in the first and the last third of a run.
pub struct Memory {
    gateway: usize,
    first_kib: u64,
    last_kib: u64,
}

impl Memory {
    /// Thirds of the time after the browsers have come in and every table has filled.
    pub fn of(samples: &[Sample], gateway: usize, from: Duration, until: Duration) -> Memory {
        let third = until.saturating_sub(from) / 3;
        let highest = |from: Duration, until: Duration| {
            let own = samples.iter().filter(|sample| sample.gateway == gateway);
            let within = own.filter(|sample| sample.at >= from && sample.at < until);
            within.map(|sample| sample.resident_kib).max().unwrap_or_default()
        };
        let (first_kib, last_kib) = (highest(from, from + third), highest(until - third, until));
        Memory { gateway, first_kib, last_kib }
    }

    pub fn is_flat(&self) -> bool {
        self.last_kib <= self.first_kib * (100 + GROWTH_PERCENT) / 100 + GROWTH_KIB
    }

    fn row(&self) -> (String, String) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let (first, last) = (mib(self.first_kib), mib(self.last_kib));
        let row = format!("memory of gateway {}, first and last third", self.gateway);
        (row, format!("{first:.1} MiB, {last:.1} MiB"))
    }
}

/// How far it is.
pub fn line(world: &World, sample: &[Sample]) -> String {
    let tally = &world.tally;
    let (requests, grants) = (tally.count("app: requests"), tally.count("backend: grants"));
    let wrong: u64 = tally.wrongs().values().sum();
    let mib: Vec<u64> = sample.iter().map(|sample| sample.resident_kib / 1024).collect();
    format!("{requests} requests at the app, {grants} grants, {wrong} wrong, MiB {mib:?}")
}

/// Markdown, as docs/soak.md keeps it.
pub fn table(world: &World, memory: &[Memory]) -> String {
    let plan = &world.plan;
    let store = if plan.redis { "Redis" } else { "memory" };
    let mut rows = vec![
        ("run: length".to_string(), format!("{} s", plan.length.as_secs())),
        ("run: sessions".to_string(), plan.sessions.to_string()),
        ("run: gateways".to_string(), plan.gateways.to_string()),
        ("run: store".to_string(), store.to_string()),
        ("run: seed".to_string(), plan.seed.to_string()),
    ];
    rows.extend(world.tally.counts().into_iter().map(|(row, count)| (row, count.to_string())));
    rows.extend(memory.iter().map(Memory::row));
    let mut wrongs: BTreeMap<_, _> = NEVER.iter().map(|kind| (*kind, 0)).collect();
    wrongs.extend(world.tally.wrongs());
    rows.extend(
        wrongs.into_iter().map(|(kind, count)| (format!("never: {kind}"), count.to_string())),
    );
    let lines = rows.iter().map(|(row, value)| format!("| {row} | {value} |\n"));
    format!("| what | how much |\n| --- | ---: |\n{}", lines.collect::<String>())
}
