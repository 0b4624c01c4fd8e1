//! Flights flown by hand: each stage is a step, and anything may happen between two.

use std::time::Duration;

use super::{Fate, Network, Play, Told, seen, text, text_of};
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::refresh::breaker::Health;
use crate::refresh::ledger::Job;
use crate::refresh::record::{Landing, Work};
use crate::refresh::tests::any_order::reference::{Access, Over, Refresh};
use crate::refresh::tests::fake::{ISSUER, TIMEOUT};
use crate::refresh::verify::judge;
use crate::refresh::{Answer, Detail, Outcome};
use crate::token::Verdict;

/// The longest cool-down after a failure that names no time of its own.
const COOL_DOWN_MAX: Duration = Duration::from_secs(30);
/// Two rotations are so far apart, at the access tokens' life of five minutes.
const ROTATION_GAP: Duration = Duration::from_secs(15);
/// A `Retry-After` counts so far.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// An ambiguous call waits for as long as the access token lives.
const LIFE: Duration = Duration::from_secs(300);

pub(super) struct Flight {
    job: Job,
    pub session: usize,
    stage: Stage,
    /// When the stage ends by itself (uptime).
    pub until: Duration,
}

enum Stage {
    /// Waits for its turn, with what it will do then.
    Queued(Refresh),
    Asking(Refresh),
    /// The backend has done what it does; its answer is on the way.
    Answered {
        asked: Refresh,
        outcome: Outcome,
        new: Option<Refresh>,
        access: Option<Access>,
    },
    Checking {
        access: Access,
        kept: bool,
    },
}

/// The next stage, or how the flight lands.
type Next = Result<Stage, (Landing, Option<Detail>)>;

impl Play<'_, '_> {
    pub(super) fn depart(&mut self, session: usize, job: Job, work: Work) -> Told {
        let known = &mut self.reference.sessions[session];
        if known.flying || known.over.is_some() {
            return Err(format!("1: a second flight of {known:?}"));
        }
        known.flying = true;
        let stage = match (work, known.unchecked) {
            (Work::Ask { refresh, .. }, None) if refresh.expose() == text(known.head) => {
                let not_before = self.rests.get(&session).map_or(Duration::ZERO, |rest| rest.0);
                if self.now.uptime + job.delay < not_before {
                    return Err(format!("6: asked before {not_before:?}"));
                }
                match job.delay.is_zero() {
                    true => Stage::Asking(known.head),
                    false => Stage::Queued(known.head),
                }
            }
            (Work::Check { access, kept: true }, Some(unchecked))
                if access.expose() == text_of(unchecked) =>
            {
                Stage::Checking { access: unchecked, kept: true }
            }
            (work, _) => return Err(format!("1: departed with {work:?} for {known:?}")),
        };
        self.story.push(format!("a flight departs for session {session}"));
        let until = self.now.uptime + job.delay.max(Duration::from_millis(100));
        self.flights.push(Flight { job, session, stage, until });
        Ok(())
    }

    pub(super) fn fly(&mut self) -> Told {
        match self.flights.len() {
            0 => Ok(()),
            flights => {
                let at = self.choices.below(flights);
                self.advance(at)
            }
        }
    }

    /// The next stage of one flight.
    pub(super) fn advance(&mut self, at: usize) -> Told {
        let Flight { mut job, session, stage, until } = self.flights.swap_remove(at);
        let next = match stage {
            Stage::Queued(refresh) => {
                self.at(until);
                match self.ledger.take_off(&job, self.now) {
                    Ok(()) => Ok(Stage::Asking(refresh)),
                    Err(landing) => Err((landing, None)),
                }
            }
            Stage::Asking(refresh) => Ok(self.ask(session, refresh)?),
            Stage::Answered { asked, outcome, new, access } => {
                let in_time = self.now.uptime < until;
                let lost = Outcome::Ambiguous(Detail::new("timeout"));
                let outcome = if in_time { outcome } else { lost };
                self.answered(&mut job, session, until, asked, outcome, new, access)?
            }
            Stage::Checking { access, kept } => self.check(&job, session, access, kept)?,
        };
        match next {
            Ok(stage) => {
                let until = match stage {
                    Stage::Queued(_) | Stage::Asking(_) => Duration::from_millis(100),
                    Stage::Answered { .. } | Stage::Checking { .. } => TIMEOUT,
                };
                let until = self.now.uptime + until;
                self.flights.push(Flight { job, session, stage, until });
                Ok(())
            }
            Err((landing, detail)) => self.land(&job, session, landing, detail),
        }
    }

    /// The task that flies ends in the middle.
    pub(super) fn abandon(&mut self) -> Told {
        if self.flights.is_empty() {
            return Ok(());
        }
        let at = self.choices.below(self.flights.len());
        let Flight { job, session, stage, .. } = self.flights.swap_remove(at);
        let settled_at = self.now.uptime + TIMEOUT;
        self.ledger.learned(ISSUER, Health::Unclear, self.now);
        if let Stage::Answered { asked, .. } = stage {
            self.fates.insert(asked, (session, Fate::Lost(settled_at)));
        }
        self.story.push(format!("the flight of session {session} is abandoned"));
        self.land(&job, session, Landing::Ambiguous { settled_at }, Some(Detail::new("abandoned")))
    }

    /// The backend is shown a refresh token: the first claim.
    fn ask(&mut self, session: usize, asked: Refresh) -> Result<Stage, String> {
        if let Some((by, fate)) = self.fates.get(&asked)
            && self.reference.is_remembered(*by, self.now)
        {
            match fate {
                Fate::Unused => {}
                Fate::Lost(settled_at) if self.now.uptime >= *settled_at => {}
                Fate::Lost(_) | Fate::InTheAir | Fate::Spent => {
                    return Err(format!("1: {asked:?} is shown again: {fate:?}"));
                }
            }
        }
        self.fates.insert(asked, (session, Fate::InTheAir));
        let say = |outcome| Stage::Answered { asked, outcome, new: None, access: None };
        let family = &mut self.families[asked.family];
        if family.dead || family.current != asked.number {
            family.dead = true;
            self.story.push(format!("the backend ends the family of {asked:?}"));
            return Ok(say(Outcome::Refused));
        }
        let kinds = if self.scene.network == Network::Bad { 10 } else { 3 };
        let kind = self.choices.below(kinds);
        self.story.push(format!("the backend is shown {asked:?} and does {kind}"));
        let detail = Detail::new("as chosen");
        Ok(match kind {
            0..3 => self.grant(asked, kind),
            3 => self.grant(asked, 3),
            4 => {
                self.families[asked.family].current += 1;
                say(Outcome::Ambiguous(detail))
            }
            5 => say(Outcome::Ambiguous(detail)),
            6 | 7 => {
                let retry_after = self.choices.of(&[None, Some(Duration::from_secs(400))]);
                say(Outcome::Transient { detail, retry_after, unsent: false })
            }
            8 => say(Outcome::Misconfigured(detail)),
            _ => {
                self.families[asked.family].dead = true;
                say(Outcome::Refused)
            }
        })
    }

    /// `kind` 0 and 1: a new pair; 2: a new access token; 3: a pair of which half is another's.
    fn grant(&mut self, asked: Refresh, kind: usize) -> Stage {
        let whose = if kind == 3 { (asked.family + 1) % self.families.len() } else { asked.family };
        let access = self.issue(whose);
        let new = (kind != 2).then(|| {
            self.families[asked.family].current += 1;
            Refresh { number: asked.number + 1, ..asked }
        });
        let answer = Answer {
            access: Secret::new(text_of(access)),
            refresh: new.map(|new| Secret::new(text(new))),
            max_age_s: (kind == 1).then_some(3_600),
        };
        Stage::Answered { asked, outcome: Outcome::Renewed(answer), new, access: Some(access) }
    }

    #[allow(clippy::too_many_arguments, reason = "what a stage holds")]
    fn answered(
        &mut self,
        job: &mut Job,
        session: usize,
        settled_at: Duration,
        asked: Refresh,
        outcome: Outcome,
        new: Option<Refresh>,
        access: Option<Access>,
    ) -> Result<Next, String> {
        let (health, fate) = match &outcome {
            Outcome::Renewed(_) if new.is_some() => (Health::Answered, Fate::Spent),
            Outcome::Renewed(_) | Outcome::Refused | Outcome::Misconfigured(_) => {
                (Health::Answered, Fate::Unused)
            }
            Outcome::Transient { .. } => (Health::Down, Fate::Unused),
            Outcome::Ambiguous(_) => (Health::Unclear, Fate::Lost(settled_at)),
        };
        self.fates.insert(asked, (session, fate));
        self.ledger.learned(ISSUER, health, self.now);
        self.story.push(format!("its answer about {asked:?} is there: {fate:?}"));
        Ok(match (outcome, access) {
            (Outcome::Renewed(answer), Some(access)) => {
                let wanted = self.reference.sessions[session].over.is_none();
                let (life_s, hash) = (answer.max_age_s, new.map(|new| self.hash(new)));
                let work = self.ledger.harvest(job, answer, hash, self.now);
                if work.is_some() != wanted {
                    return Err(format!("2: wanted {wanted}, but found {work:?}"));
                }
                if !wanted {
                    return Ok(Err((Landing::Unwanted, None)));
                }
                self.reference.sessions[session].answered(new, access, life_s, self.now);
                new.into_iter().for_each(|new| self.reference.name(new, session));
                Ok(Stage::Checking { access, kept: false })
            }
            (Outcome::Refused, _) => Err((Landing::Refused, None)),
            (Outcome::Misconfigured(detail), _) => Err((Landing::Misconfigured, Some(detail))),
            (Outcome::Transient { detail, retry_after, .. }, _) => {
                Err((Landing::Transient { retry_after }, Some(detail)))
            }
            (Outcome::Ambiguous(detail), _) => {
                Err((Landing::Ambiguous { settled_at }, Some(detail)))
            }
            (Outcome::Renewed(_), None) => return Err("the play is wrong".to_owned()),
        })
    }

    fn check(
        &mut self,
        job: &Job,
        session: usize,
        access: Access,
        kept: bool,
    ) -> Result<Next, String> {
        let verified = seen(&access);
        let kinds = if self.scene.network == Network::Bad { 8 } else { 1 };
        let verdict = match self.choices.below(kinds) {
            0..5 if access.is_valid(self.now) => Verdict::Good(verified),
            0..5 => Verdict::Expired(verified),
            5 => Verdict::KeysUnavailable { retry_after_s: 7 },
            6 => Verdict::Bad(Reason::UnknownKey),
            _ => Verdict::Bad(self.choices.of(&[Reason::BadSignature, Reason::WrongAudience])),
        };
        if let (Verdict::Expired(verified), true) = (&verdict, kept) {
            let work = self.ledger.outlived(&mut job.clone(), verified.clone());
            let known = &mut self.reference.sessions[session];
            // One that is another's is judged as it would be without waiting.
            if known.over.is_none() && known.person.is_none_or(|person| person == access.family) {
                known.accept(access);
                let head = known.head;
                return match work {
                    Some(Work::Ask { refresh, .. }) if refresh.expose() == text(head) => {
                        Ok(Ok(Stage::Asking(head)))
                    }
                    other => Err(format!("8: an outlived token should be renewed, not {other:?}")),
                };
            }
        }
        Ok(Err(judge(verdict, kept)))
    }

    fn land(
        &mut self,
        job: &Job,
        session: usize,
        landing: Landing,
        detail: Option<Detail>,
    ) -> Told {
        self.story.push(format!("session {session} lands: {landing:?}").replace("Verified", ""));
        let jitter = self.choices.of(&[1.0, 0.0]);
        let now = self.now.uptime;
        let known = &mut self.reference.sessions[session];
        known.flying = false;
        let (not_before, until) = match (&landing, known.over) {
            (_, Some(_)) => (now, now),
            (Landing::Good(_) | Landing::ExpiredOnArrival(_), None) => {
                let arrived = known.unchecked.ok_or("a landing without an access token")?;
                let gap = known.accept(arrived) && matches!(landing, Landing::Good(_));
                let gap = if gap { ROTATION_GAP } else { Duration::ZERO };
                (now + gap, now + COOL_DOWN_MAX)
            }
            (Landing::Wrong(_), None) => {
                known.over = Some(Over::Ended);
                (now, now)
            }
            (Landing::Refused, None) if known.proven => {
                known.over = Some(Over::Dead);
                (now, now)
            }
            (Landing::Refused, None) => {
                known.over = Some(Over::Dead);
                let first = known.head;
                self.reference.forget(session);
                self.reference.refuse(first, self.now);
                (now, now)
            }
            (Landing::Unusable, None) => {
                known.unchecked = None;
                (now, now + COOL_DOWN_MAX)
            }
            (Landing::Ambiguous { settled_at }, None) => {
                // Where only the check was abandoned there is nothing to wait for.
                let not_before = if known.unchecked.is_some() { now } else { *settled_at };
                (not_before, (*settled_at).max(now + LIFE))
            }
            (Landing::KeysAway { .. } | Landing::Transient { .. }, None) => {
                (now, now + RETRY_AFTER_MAX)
            }
            (Landing::Misconfigured | Landing::Unwanted, None) => (now, now + COOL_DOWN_MAX),
            (Landing::Lost | Landing::StoreAway | Landing::Renamed, None) => {
                return Err("the play is wrong: one gateway has no store".to_owned());
            }
        };
        let before = self.rests.get(&session).copied().unwrap_or_default();
        self.rests.insert(session, (before.0.max(not_before), before.1.max(until)));
        self.ledger.land(job, landing, detail, 0, self.now, jitter);
        Ok(())
    }
}
