//! Requests to the auth backend's own route, and logouts.

use super::{Browser, Family, Fate, Play, Told, pair, text};
use crate::refresh::ForBackend;
use crate::refresh::tests::any_order::reference::{Over, Refresh};
use crate::refresh::tests::fake::ISSUER;

impl Play<'_, '_> {
    /// The app asks the auth backend itself, which may rotate the token it sees.
    pub(super) fn visit(&mut self) -> Told {
        let browser = self.choices.below(self.browsers.len());
        let shown = self.browsers[browser].refresh;
        let told = self.ledger.for_backend(self.hash(shown), self.now);
        let expected = self.reference.for_backend(shown, self.now);
        let seen = match &told {
            ForBackend::AsItCame => Some(text(shown)),
            ForBackend::Newest(cookies) => pair(cookies).1,
            ForBackend::Withhold => None,
        };
        self.story
            .push(format!("{browser} visits the backend with {shown:?}, which sees {seen:?}"));
        if seen != expected.map(text) {
            return Err(format!("1: the backend should see {expected:?}"));
        }
        let Some(seen) = expected else { return Ok(()) };
        if self.is_spent(seen) {
            return Err(format!("1: the backend sees {seen:?} again"));
        }
        // A token that is in the air, or whose answer was lost, is let through: the gateway cannot
        // know whether this request is about it. A backend that uses it ends the family.
        let Family { current, dead } = self.families[seen.family];
        if self.choices.once_in(2) && !dead && seen.number == current && self.is_at_rest(seen) {
            self.adopt(browser, shown, seen)?;
        }
        Ok(())
    }

    /// The backend's answer carries a new pair: the old session is over for the gateway.
    fn adopt(&mut self, browser: usize, shown: Refresh, used: Refresh) -> Told {
        let number = used.number + 1;
        self.families[used.family].current = number;
        let refresh = Refresh { family: used.family, number };
        let access = Some(self.issue(used.family));
        self.browsers[browser] = Browser { refresh, access };
        self.story.push(format!("the backend gives {refresh:?}"));
        self.end(shown)
    }

    pub(super) fn log_out(&mut self) -> Told {
        let browser = self.choices.below(self.browsers.len());
        let shown = self.browsers[browser].refresh;
        self.story.push(format!("{browser} logs out with {shown:?}"));
        self.families[shown.family].dead = true;
        self.end(shown)
    }

    fn end(&mut self, shown: Refresh) -> Told {
        self.ledger.end(ISSUER, self.hash(shown), self.now);
        match self.reference.find(shown, self.now) {
            Some(session) => {
                self.reference.sessions[session].over = Some(Over::Ended);
            }
            None => self.reference.refuse(shown, self.now),
        }
        Ok(())
    }

    fn is_spent(&self, refresh: Refresh) -> bool {
        self.fates.get(&refresh).is_some_and(|(session, fate)| {
            *fate == Fate::Spent && self.reference.is_remembered(*session, self.now)
        })
    }

    fn is_at_rest(&self, refresh: Refresh) -> bool {
        !matches!(self.fates.get(&refresh), Some((_, Fate::InTheAir | Fate::Lost(_))))
    }
}
