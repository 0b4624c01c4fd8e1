//! What the gateway should know, told as simply as possible.
//!
//! Written from the contract of refreshing and not from the code beside it: tokens have numbers
//! instead of hashes, everything is a list, nothing is bounded, nobody is fast. Where the contract
//! leaves a span (how long a session rests), so does this.

use std::collections::HashMap;
use std::time::Duration;

use crate::policy::time::Now;
use crate::refresh::record::{GRACE, LIFE_UNTOLD};
use crate::refresh::tests::fake::{LIFE_S, WINDOW_S};

const REFUSED_FOR: Duration = Duration::from_secs(300);

/// A refresh token: whose, and which one of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refresh {
    pub family: usize,
    pub number: u32,
}

/// An access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub family: usize,
    pub number: u32,
    /// Unix seconds.
    pub start: u64,
}

impl Access {
    pub fn expires(&self) -> u64 {
        self.start + LIFE_S
    }

    pub fn is_valid(&self, now: Now) -> bool {
        now.unix.0 < self.expires()
    }

    pub fn is_fresh(&self, now: Now) -> bool {
        now.unix.0 < self.expires() - WINDOW_S
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The backend said so.
    Dead,
    Ended,
}

/// What a shown refresh token should be worth.
#[derive(Debug, PartialEq, Eq)]
pub enum Worth {
    Unknown {
        refused: bool,
    },
    Over(Over),
    Foreign,
    Spent,
    /// Served from here; nobody is asked.
    Fresh(Access),
    /// Somebody must be asked, and is being asked.
    Running,
    /// Somebody must be asked. `valid`: what serves if nobody can be.
    Due {
        valid: Option<Access>,
    },
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The newest refresh token that the gateway holds.
    pub head: Refresh,
    /// The newest access token that was verified.
    pub access: Option<Access>,
    /// One that came and was not verified yet.
    pub unchecked: Option<Access>,
    /// Which tokens the browser showed while they were the newest, and when.
    confirmed: Vec<(u32, Duration)>,
    pub over: Option<Over>,
    pub flying: bool,
    /// A backend has answered for it.
    pub proven: bool,
    /// The person it is known to be of.
    pub person: Option<usize>,
    last_used: Duration,
    ends: Option<Duration>,
}

impl Session {
    fn new(head: Refresh, now: Now) -> Session {
        Session {
            head,
            access: None,
            unchecked: None,
            confirmed: Vec::new(),
            over: None,
            flying: false,
            proven: false,
            person: None,
            last_used: now.uptime,
            ends: None,
        }
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.iter().any(|(number, _)| *number == self.head.number)
    }

    /// A newer one was shown, and the grace after that is over.
    fn is_spent(&self, shown: Refresh, now: Now) -> bool {
        let newer = self.confirmed.iter().filter(|(number, _)| *number > shown.number);
        newer.into_iter().any(|(_, at)| now.uptime >= *at + GRACE)
    }

    fn is_foreign(&self, access: Option<Access>) -> bool {
        matches!((self.person, access), (Some(person), Some(access)) if person != access.family)
    }

    pub fn is_forgotten(&self, now: Now) -> bool {
        let ends = self.ends.unwrap_or(self.last_used + LIFE_UNTOLD);
        !self.flying && now.uptime >= ends
    }

    /// It holds the only copy of a working pair, or awaits one.
    pub fn must_be_kept(&self) -> bool {
        let newest = self.unchecked.is_some() || !self.is_confirmed();
        self.flying || (self.over.is_none() && self.proven && newest)
    }

    /// The backend's answer is taken in, before it is checked.
    pub fn answered(
        &mut self,
        refresh: Option<Refresh>,
        access: Access,
        life_s: Option<u64>,
        now: Now,
    ) {
        let told = life_s.map(|seconds| now.uptime + Duration::from_secs(seconds));
        self.ends = if refresh.is_some() { told } else { told.or(self.ends) };
        self.head = refresh.unwrap_or(self.head);
        self.unchecked = Some(access);
        self.proven = true;
    }

    /// What was not checked is good; false if it is another person's, which ends the session.
    pub fn accept(&mut self, access: Access) -> bool {
        if self.is_foreign(Some(access)) {
            self.over = Some(Over::Ended);
            return false;
        }
        self.person = Some(access.family);
        self.access = self.unchecked.take();
        true
    }
}

/// All that is known.
#[derive(Default)]
pub struct Reference {
    pub sessions: Vec<Session>,
    /// To which session a refresh token belongs.
    names: HashMap<Refresh, usize>,
    /// How many names were ever given.
    pub named: usize,
    refused: HashMap<Refresh, Duration>,
}

impl Reference {
    pub fn find(&mut self, shown: Refresh, now: Now) -> Option<usize> {
        let at = *self.names.get(&shown)?;
        if self.sessions[at].is_forgotten(now) {
            self.forget(at);
            return None;
        }
        Some(at)
    }

    pub fn forget(&mut self, at: usize) {
        self.names.retain(|_, session| *session != at);
    }

    /// Is anything left by which this session is found?
    pub fn is_remembered(&self, at: usize, now: Now) -> bool {
        !self.sessions[at].is_forgotten(now) && self.names.values().any(|session| *session == at)
    }

    pub fn found(&mut self, first: Refresh, now: Now) -> usize {
        self.sessions.push(Session::new(first, now));
        self.name(first, self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    pub fn name(&mut self, refresh: Refresh, at: usize) {
        self.named += 1;
        self.names.insert(refresh, at);
    }

    /// How many sessions are.
    pub fn remembered(&self, now: Now) -> usize {
        (0..self.sessions.len()).filter(|at| self.is_remembered(*at, now)).count()
    }

    pub fn refuse(&mut self, refresh: Refresh, now: Now) {
        self.refused.insert(refresh, now.uptime + REFUSED_FOR);
    }

    /// A request shows this pair.
    pub fn shown(&mut self, refresh: Refresh, access: Option<Access>, now: Now) {
        let Some(at) = self.find(refresh, now) else { return };
        let session = &mut self.sessions[at];
        let unwelcome = session.is_spent(refresh, now) || session.is_foreign(access);
        if session.over.is_some() || unwelcome {
            return;
        }
        session.last_used = now.uptime;
        session.person = session.person.or(access.map(|access| access.family));
        if refresh == session.head && !session.is_confirmed() {
            session.confirmed.push((refresh.number, now.uptime));
        }
    }

    pub fn worth(&mut self, refresh: Refresh, access: Option<Access>, now: Now) -> Worth {
        let refused = self.refused.get(&refresh).is_some_and(|until| now.uptime < *until);
        let Some(at) = self.find(refresh, now) else { return Worth::Unknown { refused } };
        let session = &self.sessions[at];
        let fresh = session.access.filter(|access| access.is_fresh(now));
        match (session.over, fresh) {
            (Some(over), _) => Worth::Over(over),
            (None, _) if session.is_foreign(access) => Worth::Foreign,
            (None, _) if session.is_spent(refresh, now) => Worth::Spent,
            (None, Some(fresh)) => Worth::Fresh(fresh),
            (None, None) if session.flying => Worth::Running,
            (None, None) if refused && !session.proven => Worth::Unknown { refused },
            (None, None) => {
                Worth::Due { valid: session.access.filter(|access| access.is_valid(now)) }
            }
        }
    }

    /// The cookies that a response to a request with this pair carries.
    pub fn cookies(
        &mut self,
        refresh: Refresh,
        access: Option<Access>,
        now: Now,
    ) -> Option<(Access, Option<Refresh>)> {
        let at = self.find(refresh, now)?;
        let session = &self.sessions[at];
        let welcome = !session.is_spent(refresh, now) && !session.is_foreign(access);
        let usable = session.over.is_none() && session.unchecked.is_none() && welcome;
        let newest = session.access.filter(|_| usable)?;
        if refresh != session.head {
            return (!session.is_confirmed()).then_some((newest, Some(session.head)));
        }
        // It holds the refresh token, and lacks the access token.
        let lacks = access.is_none_or(|access| access.expires() < newest.expires());
        lacks.then_some((newest, None))
    }

    /// The refresh token that the auth backend may see of a request that showed this one.
    pub fn for_backend(&mut self, refresh: Refresh, now: Now) -> Option<Refresh> {
        let Some(at) = self.find(refresh, now) else { return Some(refresh) };
        let session = &self.sessions[at];
        let usable = session.over.is_none() && !session.is_spent(refresh, now);
        let newest = session.access.is_some() || refresh == session.head;
        (usable && newest).then_some(session.head)
    }
}
