//! Token families: one a login, with every refresh token's story.
//!
//! Here it is judged whether a refresh token that came twice has an excuse: only if the answer to its
//! first use was lost by a fault of this run. Everything else is the gateway's mistake.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::faults::Fault;
use super::tally::{Tally, now};

/// A gateway that is killed this soon after it got an answer may not have told anybody: a store that
/// once did not answer in 50 ms is left alone for two seconds, then asked again every half second.
const TOLD_AFTER: Duration = Duration::from_secs(3);

const KILLED: &str = "its gateway was killed";

/// Why a family is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    LoggedOut,
    /// The backend wanted it so.
    Revoked,
    /// A refresh token came twice; `None`: without an excuse.
    Reused(Option<&'static str>),
}

/// What becomes of a refresh token that was shown to the token endpoint.
pub enum Presented {
    /// The new token's number.
    Granted {
        subject: String,
        number: usize,
    },
    /// Nothing happened.
    Failed,
    Refused,
}

#[derive(Default)]
struct Family {
    /// How its refresh tokens were spent, by number; the newest is not spent.
    spent: Vec<Spending>,
    calls: u64,
    /// When each gateway last had a request of it.
    visits: BTreeMap<usize, Duration>,
    /// A gateway was killed that had a request of it, and no grant has come since.
    caught: bool,
    death: Option<Death>,
}

struct Spending {
    /// Which process showed the token.
    by: String,
    at: Duration,
    /// When the answer was sent; `None`: not yet.
    answered: Option<Duration>,
    excuse: Option<&'static str>,
}

/// A time during which the shared store was away.
pub struct Outage {
    pub from: Duration,
    pub until: Option<Duration>,
    /// It came back empty.
    pub emptied: bool,
}

pub struct Families {
    families: HashMap<String, Family>,
    /// Processes that are no more; those that were killed with `true`.
    gone: BTreeMap<String, bool>,
    pub outages: Vec<Outage>,
    shared_store: bool,
    tally: Arc<Tally>,
}

impl Families {
    pub fn new(shared_store: bool, tally: Arc<Tally>) -> Families {
        let (families, gone, outages) = (HashMap::new(), BTreeMap::new(), Vec::new());
        Families { families, gone, outages, shared_store, tally }
    }

    pub fn log_in(&mut self, subject: &str) {
        self.families.insert(subject.to_string(), Family::default());
    }

    /// How often this token's session was asked for, this time not counted.
    pub fn calls(&self, refresh: &str) -> u64 {
        parse(refresh).and_then(|(subject, _)| self.families.get(subject)).map_or(0, |f| f.calls)
    }

    /// `by` shows a refresh token, and the endpoint is about to do `fault`.
    pub fn present(&mut self, refresh: &str, by: &str, fault: Option<Fault>) -> Presented {
        let Some((subject, number)) = parse(refresh) else {
            self.tally.wrong("unknown refresh token", format!("{refresh} from {by}"));
            return Presented::Refused;
        };
        self.tally.note(subject, format!("{by} shows {refresh}, {fault:?}"));
        let reuse = self.excuse(subject, number);
        let killed = self.gone.get(by).is_some_and(|killed| *killed);
        let Some(family) = self.families.get_mut(subject) else { return Presented::Refused };
        family.calls += 1;
        if family.death.is_some() {
            self.tally.add("backend: tokens of ended sessions shown");
            return Presented::Refused;
        }
        if number < family.spent.len() {
            family.death = Some(Death::Reused(reuse));
            match reuse {
                Some(_) => self.tally.add("backend: double presentations, explained"),
                None => self.tally.wrong("double presentation", self.tally.story(subject)),
            }
            return Presented::Refused;
        }
        match fault {
            Some(Fault::TooMany | Fault::Broken) => return Presented::Failed,
            Some(Fault::Revoke) => {
                family.death = Some(Death::Revoked);
                return Presented::Refused;
            }
            Some(Fault::Delay(_) | Fault::Hang | Fault::Reset | Fault::Html) | None => {}
        }
        let excuse = fault.and_then(Fault::excuse).or(killed.then_some(KILLED));
        let spending = Spending { by: by.to_string(), at: now(), answered: None, excuse };
        family.spent.push(spending);
        family.caught = false;
        self.tally.add("backend: grants");
        Presented::Granted { subject: subject.to_string(), number: family.spent.len() }
    }

    /// The answer with token `number` has been sent.
    pub fn answered(&mut self, subject: &str, number: usize) {
        let family = self.families.get_mut(subject);
        if let Some(spending) = family.and_then(|family| family.spent.get_mut(number - 1)) {
            spending.answered = Some(now());
        }
    }

    pub fn end(&mut self, refresh: &str, death: Death) {
        let family = parse(refresh).and_then(|(subject, _)| self.families.get_mut(subject));
        if let Some(family) = family {
            family.death.get_or_insert(death);
        }
    }

    /// A request goes to this gateway.
    pub fn visits(&mut self, subject: &str, gateway: usize) {
        if let Some(family) = self.families.get_mut(subject) {
            family.visits.insert(gateway, now());
        }
    }

    /// A request was cut by a gateway that was killed.
    pub fn caught(&mut self, subject: &str) {
        if let Some(family) = self.families.get_mut(subject) {
            family.caught = true;
        }
    }

    /// A process was killed: what it had just asked for is lost, and what it had just been told. If
    /// the store was away it could tell nobody all the while.
    pub fn killed(&mut self, gateway: usize, name: &str) {
        self.gone.insert(name.to_string(), true);
        // It may have told the store that it asks, and never asked.
        let just_now = now().saturating_sub(TOLD_AFTER);
        for family in self.families.values_mut() {
            family.caught |= family.visits.get(&gateway).is_some_and(|at| *at >= just_now);
        }
        let mut since = now().saturating_sub(TOLD_AFTER);
        if let Some(outage) = self.outages.last() {
            let over = outage.until.unwrap_or(Duration::MAX);
            if over > since {
                since = since.min(outage.from);
            }
        }
        let all = self.families.values_mut().flat_map(|family| family.spent.iter_mut());
        for spending in all.filter(|spending| spending.by == name) {
            if spending.answered.is_none_or(|at| at >= since) {
                spending.excuse.get_or_insert(KILLED);
            }
        }
    }

    /// A process ended in peace.
    pub fn ended(&mut self, name: &str) {
        self.gone.insert(name.to_string(), false);
    }

    /// Why the session is over, in words; `Err`: nothing that was done on purpose explains it.
    pub fn explain(&self, subject: &str) -> Result<&'static str, &'static str> {
        let family = self.families.get(subject).ok_or("the backend never knew it")?;
        match family.death {
            Some(Death::Revoked) => Ok("revoked by the backend"),
            Some(Death::Reused(Some(why))) => Ok(why),
            Some(Death::Reused(None)) => Err("the gateway showed a refresh token twice"),
            Some(Death::LoggedOut) => Err("the backend was told to log out"),
            // A gateway that knows its answer to be lost need not ask with the spent token.
            None => {
                let lost = family.spent.last().and_then(|spending| spending.excuse);
                let caught = family.caught.then_some("its gateway was killed on its way to ask");
                lost.or(caught).ok_or("the backend knows of no end")
            }
        }
    }

    /// Did the store come back empty after this?
    pub fn emptied_since(&self, then: Duration) -> bool {
        let since = |outage: &Outage| outage.until.is_none_or(|until| until >= then);
        self.outages.iter().any(|outage| outage.emptied && since(outage))
    }

    /// Why token `number` may be shown again. What a process knew is lost with it where there is no
    /// shared store, and where the store has lost its memory too.
    fn excuse(&self, subject: &str, number: usize) -> Option<&'static str> {
        let spending = self.families.get(subject)?.spent.get(number)?;
        let gone = self.gone.contains_key(&spending.by);
        let forgotten = match (gone, self.shared_store) {
            (true, false) => Some("its gateway was restarted, without a store"),
            (true, true) if self.emptied_since(spending.at) => {
                Some("its gateway was restarted and the store came back empty")
            }
            (_, _) => None,
        };
        spending.excuse.or(forgotten)
    }
}

/// Subject and number.
pub fn parse(refresh: &str) -> Option<(&str, usize)> {
    let (subject, number) = refresh.strip_prefix("rt.")?.rsplit_once('.')?;
    Some((subject, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = "its answer was reset";

    /// A session whose first refresh token `g0.1` has shown, with this fault.
    fn shown_once(shared_store: bool, fault: Option<Fault>) -> (Families, Arc<Tally>) {
        let tally = Arc::new(Tally::default());
        let mut families = Families::new(shared_store, tally.clone());
        families.log_in("a");
        families.present("rt.a.0", "g0.1", fault);
        (families, tally)
    }

    #[test]
    fn a_token_that_comes_twice_is_the_gateways_mistake() {
        let (mut families, tally) = shown_once(true, None);
        families.answered("a", 1);

        families.present("rt.a.0", "g0.1", None);

        assert_eq!(tally.wrongs(), BTreeMap::from([("double presentation", 1)]));
        assert!(families.explain("a").is_err());
    }

    #[test]
    fn a_token_whose_answer_was_lost_may_come_twice() {
        let (mut families, tally) = shown_once(true, Some(Fault::Reset));

        families.present("rt.a.0", "g0.1", None);

        assert_eq!((tally.wrongs(), families.explain("a")), (BTreeMap::new(), Ok(LOST)));
    }

    #[test]
    fn a_session_whose_answer_was_lost_may_be_given_up_without_asking() {
        let (lost, _) = shown_once(true, Some(Fault::Reset));
        let (kept, _) = shown_once(true, None);

        assert_eq!(lost.explain("a"), Ok(LOST));
        assert!(kept.explain("a").is_err());
    }

    #[test]
    fn a_token_that_was_not_spent_may_come_again() {
        let (mut families, tally) = shown_once(true, Some(Fault::Broken));

        families.present("rt.a.0", "g0.1", None);

        assert_eq!((tally.wrongs(), tally.count("backend: grants")), (BTreeMap::new(), 1));
    }

    #[test]
    fn a_restart_excuses_only_where_there_is_no_store() {
        for (shared_store, wrong) in [(false, 0), (true, 1)] {
            let (mut families, tally) = shown_once(shared_store, None);
            families.answered("a", 1);
            families.ended("g0.1");

            families.present("rt.a.0", "g0.2", None);

            assert_eq!(tally.wrongs().len(), wrong, "shared store: {shared_store}");
        }
    }

    #[test]
    fn a_kill_excuses_what_was_in_flight() {
        let (mut families, tally) = shown_once(true, None);
        families.killed(0, "g0.1");

        families.present("rt.a.0", "g1.1", None);

        assert_eq!((tally.wrongs(), families.explain("a")), (BTreeMap::new(), Ok(KILLED)));
    }
}
