//! What happened: counts, each session's last moments, and everything that must not have happened.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// So much of a session's story is kept.
const STORY_MAX: usize = 40;
/// So many of one kind are told in full.
const TOLD_MAX: usize = 10;

#[derive(Default)]
pub struct Tally(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    counts: BTreeMap<String, u64>,
    wrong: BTreeMap<&'static str, (u64, Vec<String>)>,
    stories: HashMap<String, VecDeque<(Duration, String)>>,
}

/// Since the start of this process.
pub fn now() -> Duration {
    evergate::clock::now().uptime
}

impl Tally {
    pub fn add(&self, row: &str) {
        let mut notes = self.notes();
        match notes.counts.get_mut(row) {
            Some(count) => *count += 1,
            None => _ = notes.counts.insert(row.to_string(), 1),
        }
    }

    /// This must not have happened.
    pub fn wrong(&self, kind: &'static str, story: String) {
        let mut notes = self.notes();
        let (count, told) = notes.wrong.entry(kind).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            told.push(story);
        }
    }

    /// One more line of a session's story.
    pub fn note(&self, subject: &str, line: String) {
        let mut notes = self.notes();
        let story = notes.stories.entry(subject.to_string()).or_default();
        if story.len() >= STORY_MAX {
            story.pop_front();
        }
        story.push_back((now(), line));
    }

    pub fn story(&self, subject: &str) -> String {
        let notes = self.notes();
        let lines = notes.stories.get(subject).into_iter().flatten();
        let lines = lines.map(|(at, line)| format!("    {:9.3} {line}", at.as_secs_f64()));
        format!("{subject}\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    /// The session is over, and nobody will ask.
    pub fn forget(&self, subject: &str) {
        self.notes().stories.remove(subject);
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.notes().counts.clone()
    }

    pub fn count(&self, row: &str) -> u64 {
        self.notes().counts.get(row).copied().unwrap_or_default()
    }

    /// How often each of these happened.
    pub fn wrongs(&self) -> BTreeMap<&'static str, u64> {
        self.notes().wrong.iter().map(|(kind, (count, _))| (*kind, *count)).collect()
    }

    /// What is known of them.
    pub fn told(&self) -> String {
        let notes = self.notes();
        let tell = |(kind, (count, told)): (&&str, &(u64, Vec<String>))| {
            format!("{kind}: {count} times\n  {}\n", told.join("\n  "))
        };
        notes.wrong.iter().map(tell).collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().expect("no panic under the lock")
    }
}
