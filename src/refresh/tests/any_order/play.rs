//! The stage: people with browsers, a strict backend, and time. Flights are in [`flying`].

mod flying;
mod visits;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use self::flying::Flight;
use super::choices::Choices;
use super::reference::{Access, Over, Reference, Refresh, Worth};
use crate::policy::claims::Verified;
use crate::policy::decide::Renewed;
use crate::policy::time::UnixSeconds;
use crate::refresh::hash::Hasher;
use crate::refresh::ledger::{Begin, Ledger, Visitor};
use crate::refresh::record::View;
use crate::refresh::tests::fake::{ISSUER, START, verified};
use crate::refresh::*;

/// When people come back at the end: after every rest and every access token's life.
const LATER: Duration = Duration::from_secs(700);
/// What may add to a session's own rest: an open breaker, a full table, a probe that is out.
const REST_SLACK: Duration = Duration::from_secs(2);
const PEOPLE: usize = 3;
const TIMES_MS: [u64; 13] = [
    1, 500, 2_000, 8_000, 20_000, 29_999, 30_000, 90_000, 215_000, 301_000, 3_600_000, 40_000_000,
    87_000_000,
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Good,
    /// Answers get lost and backends fall over.
    Bad,
}

pub struct Scene {
    pub settings: RefreshSettings,
    pub room: usize,
    pub network: Network,
}

/// `Err`: the promise that was broken, and how.
type Told = Result<(), String>;

/// One login at the backend: its tokens are numbered from 0.
struct Family {
    current: u32,
    dead: bool,
}

/// What became of a refresh token that the backend was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InTheAir,
    /// Answered, and as good as before (or its family is dead anyway).
    Unused,
    /// Nobody knows; no answer comes after this uptime.
    Lost(Duration),
    Spent,
}

struct Browser {
    refresh: Refresh,
    access: Option<Access>,
}

/// A request in the gateway, or (with cookies) its response on the way back.
struct Passing<T> {
    browser: usize,
    shown: Refresh,
    access: Option<Access>,
    cookies: T,
}

struct Play<'a, 'b> {
    scene: &'a Scene,
    choices: &'a mut Choices<'b>,
    story: &'a mut Vec<String>,
    // SEVERAL GATEWAYS: this becomes a list of ledgers, each with flights and a reference of its own,
    // over one fake store. What is new to choose in `step`: which of them a request reaches, and
    // that one reads what another has published, confirmed or ended (`merge`). `fates`, and with it
    // the first claim, stays one for all of them: that is the point.
    ledger: Ledger,
    reference: Reference,
    flights: Vec<Flight>,
    hasher: Hasher,
    now: Now,
    families: Vec<Family>,
    browsers: Vec<Browser>,
    requests: Vec<Passing<()>>,
    responses: Vec<Passing<(Access, Option<Refresh>)>>,
    /// Of each refresh token that a backend was shown, and by which session's flight.
    fates: HashMap<Refresh, (usize, Fate)>,
    /// Session -> not to be asked for before, and not to be kept resting after (uptime).
    rests: HashMap<usize, (Duration, Duration)>,
    /// A session as events name it.
    labels: HashMap<String, usize>,
    accesses: u32,
    clients: u32,
}

impl Scene {
    /// Plays until the choices are over; then trouble is, too, and who should be logged in must be.
    pub fn play(&self, choices: &mut Choices, story: &mut Vec<String>) -> Told {
        let mut play = Play {
            scene: self,
            choices,
            story,
            ledger: Ledger::new(self.room, false, [(ISSUER, Endpoint::new(&self.settings))]),
            reference: Reference::default(),
            flights: Vec::new(),
            hasher: Hasher::new(&[7; 32]),
            now: Now { unix: UnixSeconds(START), uptime: Duration::ZERO },
            families: Vec::new(),
            browsers: Vec::new(),
            requests: Vec::new(),
            responses: Vec::new(),
            fates: HashMap::new(),
            rests: HashMap::new(),
            labels: HashMap::new(),
            accesses: 0,
            clients: 0,
        };
        (0..PEOPLE).for_each(|_| play.log_in());
        // Another device, or another browser's copy of the first person's pair.
        let first = &play.browsers[0];
        let twin = Browser { refresh: first.refresh, access: first.access };
        play.browsers.push(twin);
        // Beyond this number the table lets go of old hashes, which the reference does not follow.
        while play.reference.named < self.room * 8 && play.choices.next_turn() {
            play.step()?;
            play.settle()?;
        }
        while play.choices.next_turn() {}
        play.finale()
    }
}

impl Play<'_, '_> {
    fn step(&mut self) -> Told {
        match self.choices.below(24) {
            0..6 => {
                let browser = self.choices.below(self.browsers.len());
                let Browser { refresh, access } = self.browsers[browser];
                let access = access.filter(|_| !self.choices.once_in(4));
                self.request(browser, refresh, access)
            }
            6..8 => {
                let browser = self.choices.below(self.browsers.len());
                let (refresh, access) = self.stale_pair(browser);
                self.request(browser, refresh, access)
            }
            8..13 => self.fly(),
            13..16 => self.respond(),
            16..18 => self.arrive(),
            18..21 => {
                let by = self.choices.of(&TIMES_MS);
                self.pass(Duration::from_millis(by))
            }
            21 => self.log_out(),
            22 => self.visit(),
            _ => self.mishap(),
        }
    }

    fn log_in(&mut self) {
        let family = self.families.len();
        self.families.push(Family { current: 0, dead: false });
        let access = Some(self.issue(family));
        self.browsers.push(Browser { refresh: Refresh { family, number: 0 }, access });
    }

    fn issue(&mut self, family: usize) -> Access {
        self.accesses += 1;
        Access { family, number: self.accesses, start: self.now.unix.0 }
    }

    /// A forgotten tab, or a cookie of somebody else beside one's own.
    fn stale_pair(&mut self, browser: usize) -> (Refresh, Option<Access>) {
        let Browser { refresh: Refresh { family, number }, access } = self.browsers[browser];
        let older = number - self.choices.below(number as usize + 1) as u32;
        let other = self.choices.below(self.browsers.len());
        let access = match self.choices.below(4) {
            0 | 1 => None,
            2 => access,
            _ => self.browsers[other].access,
        };
        (Refresh { family, number: older }, access)
    }

    fn request(&mut self, browser: usize, refresh: Refresh, access: Option<Access>) -> Told {
        self.story.push(format!("{browser} shows {refresh:?} {access:?}"));
        let visitor = self.visitor(refresh, access);
        self.requests.push(Passing { browser, shown: refresh, access, cookies: () });
        self.reference.shown(refresh, access, self.now);
        let worth = self.reference.worth(refresh, access, self.now);
        let reused = worth == Worth::Spent;
        if access.is_some_and(|access| access.is_fresh(self.now)) {
            self.ledger.note_shown(&visitor, self.now);
            return self.reused(refresh, reused);
        }
        let (view, _) = self.ledger.look_up(&visitor, false, self.now);
        self.expect(refresh, &worth, &view)?;
        self.reused(refresh, reused)?;
        match view {
            View::Live | View::Running | View::Resting(_) => {
                self.board(refresh, access, &visitor, &worth)
            }
            View::Fresh(_) | View::Dead | View::Spent | View::Ended | View::Foreign => Ok(()),
        }
    }

    fn reused(&mut self, refresh: Refresh, reused: bool) -> Told {
        if reused && self.scene.settings.on_reuse == OnReuse::Revoke {
            let session = self.reference.find(refresh, self.now).ok_or("spent, but not known")?;
            self.reference.sessions[session].over = Some(Over::Ended);
        }
        Ok(())
    }

    fn board(
        &mut self,
        refresh: Refresh,
        access: Option<Access>,
        visitor: &Visitor,
        worth: &Worth,
    ) -> Told {
        let trigger = match access.is_some_and(|access| access.is_valid(self.now)) {
            true => Trigger::Window,
            false => Trigger::Expired,
        };
        let secret = Secret::new(text(refresh));
        let (begin, _) = self.ledger.begin(visitor, &secret, trigger, self.now);
        match begin {
            Begin::Depart(job, work) => {
                let known = self.reference.find(refresh, self.now);
                let session = known.unwrap_or_else(|| self.reference.found(refresh, self.now));
                self.reference.shown(refresh, access, self.now);
                self.labels.insert(job.id.0.to_string(), session);
                self.depart(session, job, work)
            }
            Begin::Join(_) if *worth == Worth::Running => Ok(()),
            Begin::Join(_) => Err(format!("6: joined what does not fly: {worth:?}")),
            Begin::Grounded(view) => self.expect(refresh, worth, &view),
        }
    }

    /// Is this what the reference says?
    fn expect(&mut self, refresh: Refresh, worth: &Worth, view: &View) -> Told {
        let rest_max = {
            let session = self.reference.find(refresh, self.now);
            let until =
                session.and_then(|session| self.rests.get(&session)).map(|(_, until)| *until);
            let queue = if self.scene.settings.budget.is_some() {
                self.scene.settings.wait
            } else {
                Duration::ZERO
            };
            until.unwrap_or_default().saturating_sub(self.now.uptime).max(REST_SLACK + queue)
        };
        let right = match (worth, view) {
            (Worth::Unknown { refused }, View::Dead) => *refused,
            (Worth::Unknown { refused }, View::Live) => !refused,
            (Worth::Unknown { .. }, View::Resting(rest)) => *rest <= rest_max,
            (Worth::Over(Over::Dead), View::Dead)
            | (Worth::Over(Over::Ended), View::Ended)
            | (Worth::Foreign, View::Foreign)
            | (Worth::Spent, View::Spent)
            | (Worth::Running, View::Running)
            | (Worth::Due { .. }, View::Live) => true,
            (Worth::Fresh(access), View::Fresh(head))
            | (Worth::Due { valid: Some(access) }, View::Fresh(head)) => {
                head.access.expose() == text_of(*access)
                    && *head.verified.subject == name(access.family)
            }
            (Worth::Due { valid: None }, View::Resting(rest)) => *rest <= rest_max,
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("expected {worth:?}, found {}", brief(view))) }
    }

    /// A response's header leaves.
    fn respond(&mut self) -> Told {
        if self.requests.is_empty() {
            return Ok(());
        }
        let at = self.choices.below(self.requests.len());
        let Passing { browser, shown, access, .. } = self.requests.swap_remove(at);
        let visitor = self.visitor(shown, access);
        let cookies = self.ledger.deliver(&visitor, self.now);
        let expected = self.reference.cookies(shown, access, self.now);
        let found = cookies.as_ref().map(pair);
        let wanted = expected.map(|(access, refresh)| (text_of(access), refresh.map(text)));
        self.story.push(format!("a response to {shown:?} carries {found:?}"));
        if found != wanted {
            return Err(format!("2, 3: {wanted:?} should have been delivered, not {found:?}"));
        }
        if let Some(cookies) = expected {
            self.responses.push(Passing { browser, shown, access, cookies });
        }
        Ok(())
    }

    /// A response reaches its browser; or does not.
    fn arrive(&mut self) -> Told {
        if self.responses.is_empty() {
            return Ok(());
        }
        let at = self.choices.below(self.responses.len());
        let Passing { browser, cookies: (access, refresh), .. } = self.responses.swap_remove(at);
        if self.choices.once_in(3) {
            self.story.push(format!("a response to {browser} is lost"));
            return Ok(());
        }
        let jar = &mut self.browsers[browser];
        // A new login's cookies are not this session's.
        if jar.refresh.family == access.family || refresh.is_some() {
            jar.access = Some(access);
            jar.refresh = refresh.unwrap_or(jar.refresh);
        }
        self.story.push(format!("{browser} now has {:?} {:?}", jar.refresh, jar.access));
        Ok(())
    }

    fn pass(&mut self, by: Duration) -> Told {
        let target = self.now.uptime + by;
        loop {
            // What happens by itself until then happens first.
            let next = (0..self.flights.len()).min_by_key(|at| self.flights[*at].until);
            match next.filter(|at| self.flights[*at].until <= target) {
                Some(at) => {
                    let until = self.flights[at].until;
                    self.at(until);
                    self.advance(at)?;
                }
                None => break,
            }
        }
        self.at(target);
        self.story.push(format!("it is {:?} later: {:?}", by, self.now.uptime));
        Ok(())
    }

    fn at(&mut self, uptime: Duration) {
        let uptime = uptime.max(self.now.uptime);
        self.now = Now { unix: UnixSeconds(START + uptime.as_secs()), uptime };
    }

    fn mishap(&mut self) -> Told {
        match self.choices.below(3) {
            0 => self.log_in(),
            1 => {
                let family = self.choices.below(self.families.len());
                self.story.push(format!("the backend ends family {family}"));
                self.families[family].dead = true;
            }
            _ => return self.abandon(),
        }
        Ok(())
    }

    /// After each step: events name what the reference knows, and counts are what they count.
    fn settle(&mut self) -> Told {
        for event in self.ledger.take_events() {
            let RefreshEvent::Ended { session, reason, .. } = event else { continue };
            let Some(session) = self.labels.get(&session).copied() else { continue };
            let known = &self.reference.sessions[session];
            match reason {
                EndReason::Evicted if known.must_be_kept() => {
                    return Err(format!("7: forgotten, but its only copy: {known:?}"));
                }
                EndReason::Evicted => self.reference.forget(session),
                _ if known.over.is_none() => return Err(format!("5: ended by {reason:?}")),
                _ => {}
            }
        }
        let counts = self.ledger.session_counts();
        let total = counts.idle + counts.running + counts.cooling + counts.dead + counts.ended;
        let running = self
            .flights
            .iter()
            .filter(|flight| self.reference.sessions[flight.session].over.is_none());
        let (running, flying) = (running.count(), self.flights.len());
        let remembered = self.reference.remembered(self.now);
        if (counts.running, self.ledger.in_flight()) != (running, flying) {
            return Err(format!("7: {running} run and {flying} fly, but {counts:?}"));
        }
        if total > self.scene.room || total < remembered {
            return Err(format!("7: {remembered} are remembered, but {counts:?}"));
        }
        Ok(())
    }

    /// Trouble is over: whoever should be logged in is, and has the newest pair.
    fn finale(&mut self) -> Told {
        self.story.push("trouble is over".to_owned());
        while !self.flights.is_empty() {
            self.advance(0)?;
        }
        self.pass(LATER)?;
        for browser in 0..self.browsers.len() {
            let refresh = self.browsers[browser].refresh;
            if !self.should_live(refresh) {
                continue;
            }
            self.request(browser, refresh, None)?;
            while let Some(at) = self.flights.len().checked_sub(1) {
                self.advance(at)?;
            }
            let known = self.reference.find(refresh, self.now);
            if known.is_some_and(|session| self.reference.sessions[session].over.is_some()) {
                // The reference knows why: somebody else's token came.
                continue;
            }
            let visitor = self.visitor(refresh, None);
            let (view, _) = self.ledger.look_up(&visitor, false, self.now);
            if !matches!(view, View::Fresh(_)) {
                return Err(format!("8: {refresh:?} should be renewed, but is {}", brief(&view)));
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Has a live family, whose newest token the gateway or the browser holds.
    fn should_live(&mut self, refresh: Refresh) -> bool {
        let Family { current, dead } = self.families[refresh.family];
        let newest = match self.reference.worth(refresh, None, self.now) {
            Worth::Unknown { refused } => (!refused).then_some(refresh),
            Worth::Over(_) | Worth::Foreign | Worth::Spent => None,
            Worth::Fresh(_) | Worth::Running | Worth::Due { .. } => {
                let session = self.reference.find(refresh, self.now);
                session.map(|session| self.reference.sessions[session].head)
            }
        };
        // In a small table a session may be kept out by those that must be kept.
        let roomy = self.scene.room > self.browsers.len();
        roomy && !dead && newest.is_some_and(|newest| newest.number == current)
    }

    fn visitor(&mut self, refresh: Refresh, access: Option<Access>) -> Visitor {
        // Each from an address of its own: how many strangers one may send is another test's.
        self.clients += 1;
        let client = IpAddr::V4(Ipv4Addr::from_bits(self.clients));
        let access = access.map(|access| seen(&access));
        Visitor { issuer: ISSUER, client, hash: self.hash(refresh), access }
    }

    fn hash(&self, refresh: Refresh) -> TokenHash {
        self.hasher.hash("default", &Secret::new(text(refresh)))
    }
}

fn name(family: usize) -> String {
    format!("person {family}")
}

fn text(refresh: Refresh) -> String {
    format!("{}.{}", refresh.family, refresh.number)
}

fn text_of(access: Access) -> String {
    format!("access {}", access.number)
}

fn seen(access: &Access) -> Arc<Verified> {
    verified(&name(access.family), access.start)
}

fn pair(cookies: &NewCookies) -> (String, Option<String>) {
    let refresh = cookies.refresh.as_ref().map(|refresh| refresh.expose().to_owned());
    (cookies.access.expose().to_owned(), refresh)
}

fn brief(view: &View) -> String {
    match view {
        View::Fresh(Renewed { access, .. }) => format!("Fresh({})", access.expose()),
        other => format!("{other:?}"),
    }
}
