//! When sessions are renewed: one event a renewal, in steps of 100 ms.
//!
//! What is the gateway's is repeated here as it is in `src/`: a token's window begins at 70 to 100 %
//! of `window` before its end; a budget is a bucket of one second's worth; an expired request queues
//! for `wait`, at most 512 turns; one that finds the queue full waits for it, and is told to come back
//! if that takes longer than `wait`; at most 8,192 requests wait at a gateway. What is the world's is
//! assumed: see docs/scaling.md.
//!
//! One session in 20 is simulated, and one gateway in 20; what is printed is times 20.

use std::collections::VecDeque;

const SESSIONS: u64 = 10_000_000;
const GATEWAYS: u64 = 200;
const SHARE: u64 = 20;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
/// Simulated time passes in steps of this.
const STEP: u64 = 100;

const WINDOW: u64 = 60 * SECOND;
/// How long the auth backend takes for an answer.
const CALL: u64 = 100;
/// `refresh.wait`.
const WAIT: u64 = 5 * SECOND;
const QUEUE_MAX: u64 = 512;
/// Requests that may wait at one gateway.
const WAITERS_MAX: u64 = 8_192;
/// Renewals a second of one gateway, where there is a budget: 50,000 a second of all.
const BUDGET: u64 = 250;
const BREAKER_REST: u64 = 2 * SECOND;

/// What happens to everybody.
#[derive(Clone, Copy)]
enum Day {
    /// Logins from 8:00 to 9:00, normally distributed around 8:30 (standard deviation 12 minutes).
    LoginHour,
    /// Everybody's token was issued within the same ten seconds.
    SameMoment,
    /// The backend is away for ten minutes, from the tenth to the twentieth.
    Outage,
}

#[derive(Clone, Copy)]
struct Setup {
    day: Day,
    /// Life of an access token.
    life: u64,
    /// Mean time between two requests of a session.
    pause: u64,
    jitter: bool,
    /// Renewals a second that each gateway lets go.
    budget: Option<u64>,
}

/// What the backend saw, and what people felt.
#[derive(Default)]
struct Seen {
    /// Calls in each second.
    calls: Vec<u64>,
    renewals: u64,
    /// Renewals that a request waited for, because its token had expired.
    waited_for: u64,
    /// From somebody's first request with an expired token until one was served.
    longest_wait: u64,
    /// Answers 503, each of which reloads itself.
    unavailable: u64,
}

/// One gateway's share of what is bounded.
#[derive(Clone, Default)]
struct Gateway {
    /// Up to when the turns that were taken are paid for.
    paid_until: u64,
    /// When each waiting request stops waiting, or asks again.
    leaving: VecDeque<u64>,
}

/// One session between two renewals.
#[derive(Clone, Copy, Default)]
struct Session {
    next: u64,
    expires: u64,
    /// Since when its user waits for anything but a 503.
    blocked: Option<u64>,
    /// A request that waits at this gateway, and until when it will.
    waiting: Option<(usize, u64)>,
}

/// Deterministic chance (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// In (0, 1].
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Until the next request of somebody whose requests come independently of each other.
    fn pause(&mut self, mean: u64) -> u64 {
        (-self.share().ln() * mean as f64) as u64
    }

    /// A normally distributed moment within `from..to`.
    fn bell(&mut self, mean: u64, deviation: u64, from: u64, to: u64) -> u64 {
        loop {
            let angle = std::f64::consts::TAU * self.share();
            let normal = (-2.0 * self.share().ln()).sqrt() * angle.cos();
            let moment = mean as f64 + normal * deviation as f64;
            if (from as f64..to as f64).contains(&moment) {
                return moment as u64;
            }
        }
    }
}

pub fn print() {
    println!("\n{SESSIONS} sessions, {GATEWAYS} gateways, window {} s\n", WINDOW / SECOND);
    println!(
        "| | token | a request every | | peak second | mean of the peak minute | renewals waited for | longest wait | 503s |"
    );
    println!("| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |");
    // A life in minutes, a pause between requests in seconds.
    for (day, life, pause) in [
        (Day::LoginHour, 5, 20),
        (Day::LoginHour, 15, 20),
        (Day::SameMoment, 5, 20),
        (Day::SameMoment, 5, 2),
        (Day::Outage, 5, 20),
        (Day::Outage, 15, 20),
    ] {
        let setup =
            Setup { day, life: life * MINUTE, pause: pause * SECOND, jitter: true, budget: None };
        let budgeted = Setup { budget: Some(BUDGET), ..setup };
        let shown = match day {
            // Nothing to see: a budget above what is needed changes nothing.
            Day::LoginHour => [Setup { jitter: false, ..setup }, setup].to_vec(),
            Day::SameMoment => [Setup { jitter: false, ..setup }, setup, budgeted].to_vec(),
            // What an outage leaves is expired, and no window's beginning matters to it.
            Day::Outage => [setup, budgeted].to_vec(),
        };
        shown.iter().for_each(|setup| row(setup, &simulate(setup)));
    }
}

fn row(setup: &Setup, seen: &Seen) {
    let day = match setup.day {
        Day::LoginHour => "login hour",
        Day::SameMoment => "same moment",
        Day::Outage => "outage",
    };
    let how = match (setup.jitter, setup.budget) {
        (false, _) => "no jitter".to_owned(),
        (true, None) => "jitter".to_owned(),
        (true, Some(budget)) => format!("jitter, budget {budget}"),
    };
    let peak_second = seen.calls.iter().max().copied().unwrap_or(0);
    let minutes = seen.calls.windows(60).map(|minute| minute.iter().sum::<u64>() / 60);
    let percent = 100.0 * seen.waited_for as f64 / seen.renewals.max(1) as f64;
    println!(
        "| {day} | {} min | {} s | {how} | {} | {} | {percent:.1} % | {:.1} s | {} |",
        setup.life / MINUTE,
        setup.pause / SECOND,
        peak_second * SHARE,
        minutes.max().unwrap_or(0) * SHARE,
        seen.longest_wait as f64 / SECOND as f64,
        seen.unavailable * SHARE,
    );
}

/// When the simulation ends.
fn horizon(setup: &Setup) -> u64 {
    match setup.day {
        Day::LoginHour => 90 * MINUTE,
        Day::SameMoment => setup.life + 5 * MINUTE,
        Day::Outage => 35 * MINUTE,
    }
}

fn simulate(setup: &Setup) -> Seen {
    let mut dice = Dice(8);
    let end = horizon(setup);
    let mut seen = Seen { calls: vec![0; (end / SECOND) as usize + 1], ..Seen::default() };
    let mut gateways = vec![Gateway::default(); (GATEWAYS / SHARE) as usize];
    let mut sessions: Vec<Session> =
        (0..SESSIONS / SHARE).map(|_| begin(setup, &mut dice)).collect();
    let mut calendar: Vec<Vec<u32>> = vec![Vec::new(); (end / STEP) as usize + 1];
    for (number, session) in (0_u32..).zip(&sessions) {
        enter(&mut calendar, session.next, number);
    }
    for step in 0..calendar.len() {
        for number in std::mem::take(&mut calendar[step]) {
            let session = &mut sessions[number as usize];
            attempt(setup, session, &mut gateways, &mut seen, &mut dice);
            enter(&mut calendar, session.next, number);
        }
    }
    seen
}

fn enter(calendar: &mut [Vec<u32>], moment: u64, number: u32) {
    if let Some(step) = calendar.get_mut((moment / STEP) as usize) {
        step.push(number);
    }
}

/// A session with its first token.
fn begin(setup: &Setup, dice: &mut Dice) -> Session {
    let issued = match setup.day {
        Day::LoginHour => dice.bell(30 * MINUTE, 12 * MINUTE, 0, 60 * MINUTE),
        Day::SameMoment => dice.below(10 * SECOND),
        // As if it had gone on for long: somewhere in a token's life.
        Day::Outage => {
            let expires = dice.below(setup.life - WINDOW) + WINDOW;
            return in_window(setup, expires, dice);
        }
    };
    in_window(setup, issued + setup.life, dice)
}

/// The first request that finds this token in its window, or expired.
fn in_window(setup: &Setup, expires: u64, dice: &mut Dice) -> Session {
    let share = if setup.jitter { 700 + dice.below(301) } else { 1_000 };
    let window = WINDOW.min(setup.life / 2) * share / 1_000;
    let next = expires - window + dice.pause(setup.pause);
    Session { next, expires, ..Session::default() }
}

/// A request of this session wants it renewed now; says when the next one does.
fn attempt(
    setup: &Setup,
    session: &mut Session,
    gateways: &mut [Gateway],
    seen: &mut Seen,
    dice: &mut Dice,
) {
    let now = session.next;
    let expired = now >= session.expires;
    if expired {
        session.blocked.get_or_insert(now);
    }
    let back = 20 * MINUTE;
    if matches!(setup.day, Day::Outage) && (10 * MINUTE..back).contains(&now) {
        // Breakers are open. A page that got a 503 reloads itself: it waits `wait`, pauses as long as
        // the breaker rests, and so on, so that all of these are there within one such round.
        session.next = match expired {
            true => back + dice.below(WAIT + BREAKER_REST),
            false => now + dice.pause(setup.pause),
        };
        return;
    }
    let (number, until) = match session.waiting.take() {
        Some(waiting) => waiting,
        None => (dice.below(GATEWAYS / SHARE) as usize, now + WAIT),
    };
    let delay = match gateways[number].turn(setup, now, until, expired) {
        Turn::Now(delay) => delay,
        Turn::Later => {
            session.next = now + dice.pause(setup.pause);
            return;
        }
        Turn::Wait(rest) => {
            session.waiting = Some((number, until));
            session.next = now + rest;
            return;
        }
        Turn::Unavailable(rest) => {
            seen.unavailable += 1;
            // `Retry-After` is in whole seconds; a browser takes a moment, too.
            session.next = now + rest.div_ceil(SECOND) * SECOND + dice.below(SECOND);
            return;
        }
    };
    let answered = now + delay + CALL;
    if let Some(calls) = seen.calls.get_mut(((now + delay) / SECOND) as usize) {
        *calls += 1;
    }
    seen.renewals += 1;
    if let Some(since) = session.blocked {
        seen.waited_for += 1;
        seen.longest_wait = seen.longest_wait.max(answered - since);
    }
    *session = in_window(setup, answered + setup.life, dice);
}

/// What a request that wants a renewal is told.
enum Turn {
    /// It departs after so long.
    Now(u64),
    /// In the window: another request will.
    Later,
    /// It waits for the queue, and then asks again.
    Wait(u64),
    /// 503, with so long to wait.
    Unavailable(u64),
}

impl Gateway {
    /// `until`: how long this request will wait.
    fn turn(&mut self, setup: &Setup, now: u64, until: u64, expired: bool) -> Turn {
        let Some(budget) = setup.budget else { return Turn::Now(0) };
        let interval = SECOND / budget;
        let delay = (self.paid_until.saturating_sub(now) + interval).saturating_sub(SECOND);
        if !expired {
            if delay > 0 {
                return Turn::Later;
            }
            self.paid_until = self.paid_until.max(now) + interval;
            return Turn::Now(0);
        }
        while self.leaving.front().is_some_and(|leaves| *leaves <= now) {
            self.leaving.pop_front();
        }
        // A request that waits already has its place.
        let waits = now + WAIT > until;
        if !waits && self.leaving.len() as u64 >= WAITERS_MAX {
            return Turn::Unavailable(SECOND);
        }
        if delay <= WAIT.min(interval * QUEUE_MAX) {
            self.paid_until = self.paid_until.max(now) + interval;
            self.leaving.push_back(now + delay + CALL);
            return Turn::Now(delay);
        }
        if now + delay > until {
            return Turn::Unavailable(delay);
        }
        self.leaving.push_back(now + delay);
        Turn::Wait(delay)
    }
}
