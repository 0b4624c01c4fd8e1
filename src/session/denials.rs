//! The deny list: tokens that are no longer proof, although nothing is wrong with them.
//!
//! 1. What is denied is one token (`jti`), a session (`sid`), a person (`sub`), or of a person those
//!    tokens that name no session; always of one issuer. All but the first can be limited to tokens
//!    issued before a moment, so that the next login works.
//! 2. An entry lapses when the last token that it is about has expired, or after [`DENIED_FOR`] where
//!    nobody knows when that is; the list has at most [`DENIALS_MAX`]. Over that a new entry is refused
//!    with an error: dropping one that is live would let somebody in. Those that stay for long leave room
//!    for those that soon make room again, the logouts.
//! 3. Names are kept as keyed hashes, here and in a shared store: nobody reads in it who was denied.
//! 4. While nothing is denied a request pays one atomic load: no lock, no hash, no allocation. Else
//!    three short hashes and one look under a lock that only a new entry takes for itself, for the
//!    time of one insertion.
//!
//! A token's own hash denies nothing: an ECDSA signature has a second spelling that also verifies.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::policy::claims::{IssuerId, Verified};
use crate::policy::time::UnixSeconds;

/// Entries that a gateway makes room for, some 15 MB of them.
pub const DENIALS_MAX: usize = 100_000;
/// Where there are so many, one that would stay for longer than [`LONG_S`] finds no room.
const LONG_MAX: usize = 80_000;
/// Longer than access tokens live.
const LONG_S: u64 = 24 * 3600;
/// How long an entry is kept by those who cannot know how long the tokens live that it is about, while a
/// refresh token of the session must not outlive it.
pub const DENIED_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The ends of one entry, told by two gateways, differ by this at most.
const ROUNDING_S: u64 = 2;
/// Bytes of a name's hash; without the key no two names of equal hash can be searched for.
const NAME_BYTES: usize = 16;

/// What is no longer proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub issuer: IssuerId,
    pub what: Denied,
    /// When the last token that this is about has expired.
    pub lapses: UnixSeconds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The token with this `jti`.
    Token(Box<str>),
    /// Tokens of the session with this `sid`.
    Session { id: Box<str>, issued: Issued },
    /// Tokens of the person with this `sub`.
    Person { subject: Box<str>, issued: Issued },
    /// Tokens of the person with this `sub` that have no `sid`: they may belong to a session that has
    /// ended, and nothing tells them apart.
    Unnamed { subject: Box<str>, issued: Issued },
}

/// Which of them, by `iat`. A token that does not say when it was issued counts as old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Issued {
    Before(UnixSeconds),
    AnyTime,
}

/// The list has no room, or the store that gateways share has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deny list is full ({DENIALS_MAX} entries, of which the last fifth is for logouts)")]
pub struct Full;

/// All that is denied, as far as this gateway knows.
pub struct Denials {
    /// Entries; read without the lock.
    live: AtomicUsize,
    list: RwLock<List>,
    namer: Namer,
    changes: watch::Sender<u64>,
    /// Gateways share a store.
    shared: bool,
    /// Entries that the shared store does not have yet.
    unwritten: watch::Sender<usize>,
    /// What the shared store had was read once.
    read: watch::Sender<bool>,
}

/// A hashed name of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(pub [u8; NAME_BYTES]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub issued: Issued,
    pub lapses: UnixSeconds,
}

#[derive(Default)]
struct List {
    rules: HashMap<Name, Rule>,
    /// The order in which they lapse.
    ends: BTreeSet<(UnixSeconds, Name)>,
    /// What the shared store does not have yet.
    unwritten: BTreeSet<Name>,
    /// Counts what was added.
    widened: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    Token = 1,
    Session = 2,
    Person = 3,
    Unnamed = 4,
}

struct Namer {
    key: [u8; 32],
    /// By `IssuerId`: gateways may number their issuers differently.
    issuers: Vec<Arc<str>>,
}

impl Denials {
    /// An empty list. `key`: random, one a process; with a shared store the same for all gateways.
    /// `issuers`: their names, by `IssuerId`. `shared`: a [`super::shared::SharedDenials`] keeps it.
    pub fn new(key: &[u8; 32], issuers: Vec<Arc<str>>, shared: bool) -> Denials {
        let key = blake3::derive_key("evergate denials v1", key);
        Denials {
            live: AtomicUsize::new(0),
            list: RwLock::default(),
            namer: Namer { key, issuers },
            changes: watch::Sender::new(0),
            shared,
            unwritten: watch::Sender::new(0),
            read: watch::Sender::new(!shared),
        }
    }

    /// Is this token no longer proof? For every request, however its token was verified.
    pub fn is_denied(&self, verified: &Verified) -> bool {
        if self.is_empty() {
            return false;
        }
        let name = |kind, text: &str| self.namer.name(verified.issuer, kind, text);
        let names = [
            verified.token_id.as_deref().map(|id| name(Kind::Token, id)),
            Some(match verified.session_id.as_deref() {
                Some(id) => name(Kind::Session, id),
                None => name(Kind::Unnamed, &verified.subject),
            }),
            Some(name(Kind::Person, &verified.subject)),
        ];
        let list = self.list.read();
        names.iter().flatten().any(|name| {
            list.rules.get(name).is_some_and(|rule| match rule.issued {
                Issued::AnyTime => true,
                Issued::Before(moment) => verified.issued_at.is_none_or(|at| at < moment),
            })
        })
    }

    /// As [`Denials::is_denied`], for a token that a refresh brought to a request which did not show
    /// by another token whose session it is. The new token's time of issue says nothing then: its
    /// session may have begun before the person was denied.
    pub fn is_denied_unvouched(&self, verified: &Verified) -> bool {
        if self.is_empty() {
            return false;
        }
        let name = |kind| self.namer.name(verified.issuer, kind, &verified.subject);
        let unnamed = verified.session_id.is_none().then(|| name(Kind::Unnamed));
        let person = name(Kind::Person);
        // Read and let go: a second look under the same lock could wait for a writer that waits for us.
        let named = {
            let rules = &self.list.read().rules;
            rules.contains_key(&person) || unnamed.is_some_and(|name| rules.contains_key(&name))
        };
        named || self.is_denied(verified)
    }

    /// From now on tokens like these are no proof. An entry that is already there is widened.
    ///
    /// # Errors
    /// There is no room; nothing has changed.
    pub fn deny(&self, denial: &Denial, now: UnixSeconds) -> Result<(), Full> {
        if denial.lapses <= now {
            return Ok(());
        }
        let (kind, text, issued) = match &denial.what {
            Denied::Token(id) => (Kind::Token, id, Issued::AnyTime),
            Denied::Session { id, issued } => (Kind::Session, id, *issued),
            Denied::Person { subject, issued } => (Kind::Person, subject, *issued),
            Denied::Unnamed { subject, issued } => (Kind::Unnamed, subject, *issued),
        };
        let name = self.namer.name(denial.issuer, kind, text);
        let rule = Rule { issued, lapses: denial.lapses };
        let shared = self.shared;
        let most = if denial.lapses.since(now) > LONG_S { LONG_MAX } else { DENIALS_MAX };
        self.change(|list| {
            list.forget_lapsed(now);
            if list.rules.len() >= most && !list.rules.contains_key(&name) {
                return Err(Full);
            }
            if list.widen(name, rule) && shared {
                list.unwritten.insert(name);
            }
            Ok(())
        })
    }

    /// Counts what was added, here or by another gateway. Who holds something open for a session
    /// looks again after each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.live.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets entries whose tokens have all expired.
    pub fn tidy(&self, now: UnixSeconds) {
        if !self.is_empty() {
            self.change(|list| list.forget_lapsed(now));
        }
    }

    /// Waits until all gateways can know what this one denied, at most `at_most`. True at once where
    /// it is alone.
    pub async fn written_within(&self, at_most: Duration) -> bool {
        let mut unwritten = self.unwritten.subscribe();
        timeout(at_most, unwritten.wait_for(|count| *count == 0)).await.is_ok()
    }

    /// Waits until what other gateways denied was read once, at most `at_most`.
    pub async fn read_within(&self, at_most: Duration) -> bool {
        let mut read = self.read.subscribe();
        timeout(at_most, read.wait_for(|read| *read)).await.is_ok()
    }

    /// False while a gateway that just started may not know what others denied.
    pub fn is_read(&self) -> bool {
        *self.read.borrow()
    }

    pub(super) fn note_read(&self) {
        self.read.send_if_modified(|read| !std::mem::replace(read, true));
    }

    /// How many entries the shared store does not have yet.
    pub(super) fn unwritten(&self) -> watch::Receiver<usize> {
        self.unwritten.subscribe()
    }

    pub(super) fn some_unwritten(&self, at_most: usize) -> Vec<(Name, Rule)> {
        let list = self.list.read();
        let some = list.unwritten.iter().take(at_most);
        some.filter_map(|name| Some((*name, *list.rules.get(name)?))).collect()
    }

    /// The shared store has these now; one that was widened since is written again.
    pub(super) fn note_written(&self, written: &[(Name, Rule)]) {
        self.change(|list| {
            for (name, rule) in written {
                if list.rules.get(name) == Some(rule) {
                    list.unwritten.remove(name);
                }
            }
        });
    }

    /// The shared store may have forgotten everything.
    pub(super) fn write_again(&self) {
        self.change(|list| list.unwritten = list.rules.keys().copied().collect());
    }

    /// What the shared store has. It has its own bound, so this list may grow to twice its own.
    pub(super) fn learn(&self, name: Name, rule: Rule, now: UnixSeconds) {
        if rule.lapses <= now {
            return;
        }
        self.change(|list| {
            let known = list.rules.get(&name).copied();
            let says_nothing_new = known.is_some_and(|known| {
                known.issued >= rule.issued && known.lapses.plus(ROUNDING_S) >= rule.lapses
            });
            if !says_nothing_new {
                list.widen(name, rule);
            }
            let says_all = list.rules.get(&name).is_some_and(|held| {
                held.issued == rule.issued && held.lapses <= rule.lapses.plus(ROUNDING_S)
            });
            if says_all {
                list.unwritten.remove(&name);
            }
        });
    }

    /// Changes the list, then brings to date what is read without its lock.
    fn change<T>(&self, change: impl FnOnce(&mut List) -> T) -> T {
        let mut list = self.list.write();
        let widened = list.widened;
        let result = change(&mut list);
        self.live.store(list.rules.len(), Ordering::Release);
        let (news, unwritten) = (list.widened - widened, list.unwritten.len());
        drop(list);
        if news > 0 {
            self.changes.send_modify(|changes| *changes += news);
        }
        self.unwritten.send_if_modified(|held| std::mem::replace(held, unwritten) != unwritten);
        result
    }
}

impl List {
    /// True if something is denied now that was not.
    fn widen(&mut self, name: Name, rule: Rule) -> bool {
        let held = self.rules.get(&name).copied();
        let wider = held.map_or(rule, |held| Rule {
            issued: held.issued.max(rule.issued),
            lapses: held.lapses.max(rule.lapses),
        });
        if held == Some(wider) {
            return false;
        }
        if let Some(held) = held {
            self.ends.remove(&(held.lapses, name));
        }
        self.ends.insert((wider.lapses, name));
        self.rules.insert(name, wider);
        self.widened += 1;
        true
    }

    fn forget_lapsed(&mut self, now: UnixSeconds) {
        while let Some((_, name)) = self.ends.first().copied().filter(|(lapses, _)| *lapses <= now)
        {
            self.ends.pop_first();
            self.rules.remove(&name);
            self.unwritten.remove(&name);
        }
    }
}

impl Namer {
    fn name(&self, issuer: IssuerId, kind: Kind, text: &str) -> Name {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&[kind as u8]);
        let issuer = self.issuers.get(usize::from(issuer.0)).map_or("", |name| name);
        hasher.update(issuer.as_bytes());
        // An issuer's name contains no NUL, so it and the text cannot be shifted against each other.
        hasher.update(&[0]);
        hasher.update(text.as_bytes());
        let mut name = [0; NAME_BYTES];
        hasher.finalize_xof().fill(&mut name);
        Name(name)
    }
}

#[cfg(test)]
mod tests;
