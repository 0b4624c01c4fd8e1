//! The table of open streams, by name and by the time at which each is judged next. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Opened;
use crate::policy::time::UnixSeconds;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// What decides how long a stream lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    /// Of the newest access token that is known; `None`: no token opened it.
    pub token_ends: Option<UnixSeconds>,
    /// How long it outlives that token.
    pub patience: Duration,
    /// Uptime at which it is too old.
    pub age_ends: Option<Duration>,
    /// The session's renewals are its own, too.
    pub follows: bool,
    pub judged: bool,
}

struct Entry<S> {
    stream: Arc<S>,
    life: Life,
    /// Uptime; `None`: being judged, judged for ever, or cut.
    due: Option<Duration>,
    cut: bool,
}

/// `S` is [`Opened`]; tests bring something smaller.
pub(super) struct Table<S = Opened> {
    entries: HashMap<StreamId, Entry<S>>,
    due: BTreeSet<(Duration, StreamId)>,
    next: u64,
}

impl<S> Default for Table<S> {
    fn default() -> Table<S> {
        Table { entries: HashMap::new(), due: BTreeSet::new(), next: 0 }
    }
}

impl<S> Table<S> {
    /// Adds a stream, due at once.
    pub fn add(&mut self, stream: Arc<S>, life: Life) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        let due = Some(Duration::ZERO);
        self.entries.insert(id, Entry { stream, life, due, cut: false });
        self.due.insert((Duration::ZERO, id));
        id
    }

    pub fn remove(&mut self, id: StreamId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(due) = entry.due {
            self.due.remove(&(due, id));
        }
    }

    /// The streams whose time has come, the earliest first, to be judged and put back.
    pub fn take_due(&mut self, now: Duration, max: usize) -> Vec<(StreamId, Arc<S>, Life)> {
        let mut taken = Vec::new();
        while let Some(&(due, id)) = self.due.first()
            && due <= now
            && taken.len() < max
        {
            self.due.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.due = None;
                taken.push((id, entry.stream.clone(), entry.life));
            }
        }
        taken
    }

    /// Puts a judged stream back, if it is still there. `None`: only the end of its session ends it.
    pub fn put_back(&mut self, id: StreamId, life: Life, due: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.cut) else { return };
        (entry.life, entry.due) = (life, due);
        self.due.extend(due.map(|due| (due, id)));
    }

    /// A stream that is to be cut: once only, and only while it is there.
    pub fn retire(&mut self, id: StreamId) -> Option<Arc<S>> {
        let entry = self.entries.get_mut(&id).filter(|entry| !entry.cut)?;
        entry.cut = true;
        if let Some(due) = entry.due.take() {
            self.due.remove(&(due, id));
        }
        Some(entry.stream.clone())
    }

    pub fn all(&self) -> Vec<(StreamId, Arc<S>)> {
        let whole = self.entries.iter().filter(|(_, entry)| !entry.cut);
        whole.map(|(id, entry)| (*id, entry.stream.clone())).collect()
    }

    /// Does any stream wait for its time?
    pub fn waits(&self) -> bool {
        !self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const LIFE: Life = Life {
        token_ends: None,
        patience: Duration::ZERO,
        age_ends: None,
        follows: true,
        judged: true,
    };

    /// Three streams, due after 30, 10 and 20 seconds.
    fn three() -> (Table<u64>, [StreamId; 3]) {
        let mut table = Table::default();
        let ids = [30, 10, 20].map(|due| table.add(Arc::new(due), LIFE));
        for (id, stream, life) in table.take_due(S(0), 9) {
            table.put_back(id, life, Some(S(*stream)));
        }
        (table, ids)
    }

    fn due(table: &mut Table<u64>, now: u64, max: usize) -> Vec<u64> {
        table.take_due(S(now), max).into_iter().map(|(_, stream, _)| *stream).collect()
    }

    #[test]
    fn streams_are_judged_in_the_order_of_their_time_a_few_at_once() {
        let (mut table, _) = three();
        assert_eq!(due(&mut table, 9, 9), [0; 0]);
        assert_eq!(due(&mut table, 30, 2), [10, 20]);
        assert_eq!(due(&mut table, 30, 2), [30]);
        assert!(!table.waits());
    }

    #[test]
    fn a_stream_is_cut_once_and_never_after_it_has_gone() {
        let (mut table, [first, second, third]) = three();
        assert_eq!(table.retire(first).as_deref(), Some(&30));
        assert_eq!(table.retire(first), None);
        table.put_back(first, LIFE, Some(S(1)));
        table.remove(second);
        assert_eq!(table.retire(second), None);
        assert_eq!(due(&mut table, 99, 9), [20]);
        assert_eq!(table.all(), [(third, Arc::new(20))]);
    }

    #[test]
    fn nothing_is_left_of_streams_that_have_gone() {
        let (mut table, ids) = three();
        table.retire(ids[0]);
        due(&mut table, 10, 1);
        ids.into_iter().for_each(|id| table.remove(id));
        assert_eq!((table.entries.len(), table.due.len()), (0, 0));
    }
}
