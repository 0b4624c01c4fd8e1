//! Open streams end with the session that opened them.
//!
//! A request is judged once; a WebSocket lasts for hours. So what lasts is *registered* with its
//! session, and judged again:
//!
//! 1. When the access token that opened it has ended, and a grace more: the stream lives on if the
//!    session was renewed meanwhile, by any tab, at any gateway, until the new token ends. Nobody
//!    renews a session for a stream alone: a forgotten tab would keep it alive for ever.
//! 2. When any session is over: at once, if it was this stream's.
//! 3. When it is as old as its route lets streams become.
//!
//! Who is cut is cut at the connection ([`Switch`]), under this table's lock and only while
//! registered: a kept connection whose response has ended is nobody's stream any more.
//!
//! All deadlines stand in one ordered table that one task looks at, each second: one first entry,
//! however many streams there are. A sleeping task for each stream was rejected: it would hold a
//! timer and a stack of its own for something that happens once in minutes, and would sleep past a
//! wall clock that was set. When a session ends, all streams are asked whether it was theirs; the
//! passes are [`SWEEP_PAUSE`] apart, so that many logouts cost no more than one. An index by session
//! was rejected: a session has many names, and gets new ones while a stream is open.
//!
//! Streams are at most as many as connections. With HTTP/2 towards clients several would share one;
//! each would then need a switch of its own.

mod opened;
mod table;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::table::{Life, StreamId, Table};
use super::request_id::RequestId;
use crate::clock::Clock;
use crate::listen::{Goodbye, Switch};
use crate::metrics::StreamMetrics;
use crate::policy::claims::Verified;
use crate::policy::time::{Now, UnixSeconds};
use crate::refresh::{Edges, Follower, Refresher, Standing};
use crate::session::denials::Denials;

pub use self::opened::{Streaming, note_head, note_piece};

/// A stream outlives its token at most so long: time for another tab to renew the session, and for
/// the app to be told. The second half is jitter.
pub const GRACE: Duration = Duration::from_secs(30);
/// A stream may end this part of `stream_max_age` early, so that not all come back at once.
const AGE_JITTER: f64 = 0.1;
/// How often the next deadline is compared with the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Streams judged side by side; each may ask the store.
const JUDGED_AT_ONCE: usize = 64;
/// A session that cannot be asked about for so long has not been renewed.
const ASKED_AT_MOST: Duration = Duration::from_secs(1);
/// How often a stream that outlives its token asks how its session stands.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Between two passes over all streams.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);
/// Streams looked at in a pass before others may use the thread.
const SWEPT_AT_ONCE: usize = 256;

/// What is to be known of a stream when it is registered.
pub struct Opened {
    pub request_id: RequestId,
    pub route: Arc<str>,
    /// The token that let it pass; `None`: nobody in particular.
    pub person: Option<Arc<Verified>>,
    /// `None`: a bearer's, or one of a session that cannot be renewed.
    pub follower: Option<Follower>,
    pub cut_on_expiry: bool,
    pub age_max: Option<Duration>,
    /// What is left of its session, however often it is renewed.
    pub lasts: Option<Duration>,
    pub switch: Arc<Switch>,
}

/// Why a stream was cut (metric label `reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Expired,
    Ended,
    MaxAge,
}

impl Cut {
    fn word(self) -> &'static str {
        match self {
            Cut::Expired => "expired",
            Cut::Ended => "ended",
            Cut::MaxAge => "max_age",
        }
    }

    /// What a WebSocket is told (RFC 6455 §7.4.1 and IANA's registry). Libraries that open it again by
    /// themselves do so after 1012, "service restart", as after a lost connection: the handshake
    /// renews the token. After 1008, "policy violation", some of them stop, and rightly: the handshake
    /// would be refused. A code of the private range was rejected: it is the app's.
    fn goodbye(self) -> Goodbye {
        match self {
            Cut::Expired => Goodbye { code: 1012, reason: "token expired" },
            Cut::Ended => Goodbye { code: 1008, reason: "session ended" },
            Cut::MaxAge => Goodbye { code: 1012, reason: "open for too long" },
        }
    }
}

/// All open streams.
pub struct Streams {
    table: Mutex<Table>,
    /// A stream was registered.
    arrived: Notify,
    refresher: Arc<Refresher>,
    denials: Arc<Denials>,
    clock: Clock,
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
    metrics: StreamMetrics,
}

/// A stream's place in the table, given back on drop.
pub struct Registered {
    streams: Arc<Streams>,
    id: StreamId,
}

impl Streams {
    pub fn new(
        refresher: Arc<Refresher>,
        denials: Arc<Denials>,
        edges: &Edges,
        metrics: StreamMetrics,
    ) -> Arc<Streams> {
        Arc::new(Streams {
            table: Mutex::default(),
            arrived: Notify::new(),
            refresher,
            denials,
            clock: edges.now.clone(),
            random: edges.random.clone(),
            metrics,
        })
    }

    /// Watches over a stream until the returned place is dropped.
    pub fn register(self: &Arc<Self>, opened: Opened) -> Registered {
        let now = (self.clock)();
        let early = AGE_JITTER * (self.random)();
        let patience = GRACE / 2 + (GRACE / 2).mul_f64((self.random)());
        let age = opened.age_max.map(|age| age.mul_f64(1.0 - early));
        let life = Life {
            token_ends: opened.person.as_ref().map(|person| person.expires_at),
            patience,
            age_ends: age.into_iter().chain(opened.lasts).min().map(|left| now.uptime + left),
            follows: opened.follower.is_some(),
            judged: false,
        };
        // Judged for the first time at once: its session may have ended while the app made its head.
        let id = self.table.lock().add(Arc::new(opened), life);
        self.metrics.open.inc();
        self.arrived.notify_one();
        Registered { streams: self.clone(), id }
    }

    /// Cuts streams whose time is over; for the gateway's whole life.
    pub async fn watch_deadlines(self: Arc<Self>) {
        loop {
            let now = (self.clock)();
            let due = self.table.lock().take_due(now.uptime, JUDGED_AT_ONCE);
            if due.is_empty() {
                let waits = self.table.lock().waits();
                let arrived = self.arrived.notified();
                match waits {
                    true => _ = timeout(LOOK_EVERY, arrived).await,
                    false => arrived.await,
                }
            }
            join_all(due.into_iter().map(|(id, stream, life)| self.judge(id, stream, life))).await;
        }
    }

    /// Cuts streams whose session is over; for the gateway's whole life.
    pub async fn watch_ends(self: Arc<Self>) {
        let (mut ends, mut denials) = (self.refresher.ends(), self.denials.changes());
        loop {
            let alive = tokio::select! {
                ended = ends.changed() => ended,
                denied = denials.changed() => denied,
            };
            if alive.is_err() {
                return;
            }
            let all = self.table.lock().all();
            for some in all.chunks(SWEPT_AT_ONCE) {
                let now = (self.clock)();
                for (id, stream) in some {
                    if self.is_over(stream, now) {
                        self.cut(*id, Cut::Ended);
                    }
                }
                tokio::task::yield_now().await;
            }
            sleep(SWEEP_PAUSE).await;
        }
    }

    fn is_over(&self, stream: &Opened, now: Now) -> bool {
        stream.person.as_ref().is_some_and(|person| self.denials.is_denied(person))
            || stream.follower.as_ref().is_some_and(|follower| follower.is_over(now))
    }

    async fn judge(&self, id: StreamId, stream: Arc<Opened>, mut life: Life) {
        let now = (self.clock)();
        if life.age_ends.is_some_and(|end| now.uptime >= end) {
            return self.cut(id, Cut::MaxAge);
        }
        if self.is_over(&stream, now) {
            return self.cut(id, Cut::Ended);
        }
        if let Some(follower) = &stream.follower {
            let asked = timeout(ASKED_AT_MOST, follower.standing(now)).await;
            match asked.unwrap_or(Standing::AsItWas) {
                Standing::Over => return self.cut(id, Cut::Ended),
                Standing::Renewed { until, spent } => life.renewed(until, spent),
                Standing::AsItWas => {}
            }
        }
        life.judged = true;
        let now = (self.clock)();
        let lapses = life.lapses(now);
        let asks = match (stream.cut_on_expiry, &stream.follower) {
            (true, _) if lapses.is_some_and(|lapses| now.uptime >= lapses) => {
                return self.cut(id, Cut::Expired);
            }
            (true, _) => lapses,
            // News of its end may have been missed.
            (false, Some(_)) => lapses.max(Some(now.uptime + ASK_AGAIN)),
            (false, None) => None,
        };
        let due = [asks, life.age_ends].into_iter().flatten().min();
        self.table.lock().put_back(id, life, due);
    }

    /// Cuts a stream, if it is still there.
    fn cut(&self, id: StreamId, why: Cut) {
        let mut table = self.table.lock();
        let Some(stream) = table.retire(id) else { return };
        // Under the lock: once its place is given back, the connection may be another request's.
        stream.switch.throw(why.goodbye());
        drop(table);
        self.metrics.cut.with_label_values(&[why.word()]).inc();
        tracing::info!(
            target: "audit",
            request_id = stream.request_id.as_str(),
            route = %stream.route,
            reason = why.word(),
            "stream cut"
        );
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.streams.table.lock().remove(self.id);
        self.streams.metrics.open.dec();
    }
}

impl Life {
    fn renewed(&mut self, until: UnixSeconds, spent: bool) {
        // A refresh token that was spent when the stream was opened is not the browser's: its
        // session's renewals are for others. Spent later, it is only old.
        if !self.judged && spent {
            self.follows = false;
        }
        if self.follows {
            self.token_ends = self.token_ends.max(Some(until));
        }
    }

    /// The uptime at which the grace after the token's end is over.
    fn lapses(&self, now: Now) -> Option<Duration> {
        let ends = self.token_ends?;
        let left = Duration::from_secs(ends.since(now.unix));
        let ago = Duration::from_secs(now.unix.since(ends));
        Some((now.uptime + left + self.patience).saturating_sub(ago))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn life(token_ends: u64) -> Life {
        Life {
            token_ends: Some(UnixSeconds(token_ends)),
            patience: S(20),
            age_ends: None,
            follows: true,
            judged: false,
        }
    }

    fn at(unix: u64, uptime: u64) -> Now {
        Now { unix: UnixSeconds(unix), uptime: S(uptime) }
    }

    #[test]
    fn a_stream_lapses_a_grace_after_its_token() {
        assert_eq!(life(1_000).lapses(at(900, 50)), Some(S(170)));
        assert_eq!(life(1_000).lapses(at(1_015, 165)), Some(S(170)));
        assert_eq!(life(1_000).lapses(at(9_000, 60)), Some(S(0)));
        assert_eq!(Life { token_ends: None, ..life(0) }.lapses(at(9_000, 60)), None);
    }

    #[test]
    fn a_renewal_prolongs_and_never_shortens() {
        let mut stream = life(1_000);
        stream.renewed(UnixSeconds(1_300), false);
        stream.renewed(UnixSeconds(1_200), false);
        assert_eq!(stream.token_ends, Some(UnixSeconds(1_300)));
    }

    #[test]
    fn only_who_opens_a_stream_with_a_spent_token_does_not_follow_the_session() {
        let (mut thief, mut old) = (life(1_000), life(1_000));
        old.judged = true;
        for stream in [&mut thief, &mut old] {
            stream.renewed(UnixSeconds(1_300), true);
        }
        thief.judged = true;
        thief.renewed(UnixSeconds(1_300), true);
        assert_eq!(thief.token_ends, Some(UnixSeconds(1_000)));
        assert_eq!(old.token_ends, Some(UnixSeconds(1_300)));
    }
}
