//! The table at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::World;
use super::fleet::Sample;

/// Memory is flat if a gateway usually (in the median) needs no more in the last third of a run than in
/// the first by so much. Not at its highest: requests that wait, because the store settles or the
/// backend is down, hold memory until they are answered, and the dice put most of them anywhere. A heap
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

/// The memory of one gateway in the first and the last third of a run.
pub struct Memory {
    gateway: usize,
    first: Third,
    last: Third,
}

/// In KiB.
struct Third {
    usual: u64,
    highest: u64,
}

impl Memory {
    /// Thirds of the time after the browsers have come in and every table has filled.
    pub fn of(samples: &[Sample], gateway: usize, from: Duration, until: Duration) -> Memory {
        let third = until.saturating_sub(from) / 3;
        let look = |from: Duration, until: Duration| {
            let own = samples.iter().filter(|sample| sample.gateway == gateway);
            let within = own.filter(|sample| sample.at >= from && sample.at < until);
            let mut sizes: Vec<u64> = within.map(|sample| sample.resident_kib).collect();
            sizes.sort_unstable();
            let usual = sizes.get(sizes.len() / 2).copied().unwrap_or_default();
            Third { usual, highest: sizes.last().copied().unwrap_or_default() }
        };
        let (first, last) = (look(from, from + third), look(until - third, until));
        Memory { gateway, first, last }
    }

    pub fn is_flat(&self) -> bool {
        self.last.usual <= self.first.usual * (100 + GROWTH_PERCENT) / 100 + GROWTH_KIB
    }

    fn row(&self) -> (String, String) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let third = |third: &Third| {
            format!("{:.1} MiB (highest {:.1})", mib(third.usual), mib(third.highest))
        };
        let row = format!("memory of gateway {}, first and last third", self.gateway);
        (row, format!("{}, {}", third(&self.first), third(&self.last)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(resident_kib: impl Fn(u64) -> u64) -> Memory {
        let at = Duration::from_secs;
        let sample = |s| Sample { at: at(s), gateway: 0, resident_kib: resident_kib(s) };
        Memory::of(&(0..600).map(sample).collect::<Vec<_>>(), 0, at(120), at(600))
    }

    #[test]
    fn a_gateway_that_keeps_something_of_each_request_is_not_flat() {
        // 400 requests a second at three gateways, a KiB each.
        assert!(!memory(|s| 50_000 + s * 133).is_flat());
    }

    #[test]
    fn what_falls_again_is_flat() {
        assert!(memory(|s| if (520..580).contains(&s) { 100_000 } else { 50_000 }).is_flat());
        assert!(!memory(|s| if s >= 500 { 100_000 } else { 50_000 }).is_flat());
    }
}
