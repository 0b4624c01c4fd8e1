//! A Redis that several gateways share, and what makes it safe to lean on.
//!
//! 1. No request waits for it: everything asked takes at most [`STORE_WAIT`], connecting included; twice
//!    that where this process was itself held up.
//! 2. What fails is left alone for [`STORE_REST`] ([`health`]); then one question probes it. Only what
//!    presses does not wait for that.
//! 3. Connections are made in the background only ([`link`]): the gateway starts without the store,
//!    and follows it through restarts, failovers and reshardings.
//! 4. The store is not trusted with secrets: what it keeps is sealed and bound to its place
//!    ([`seal`]). A value that cannot be opened counts as absent.
//! 5. Messages are hints ([`inbox`]): who waits for one also looks for himself.
//!
//! This room knows no sessions; it must never: log a value, or let a failure become a panic.

mod settings;
mod link;
mod health;
mod script;
mod seal;
mod inbox;

use std::fmt::Write;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use self::health::{Health, Pass};
use self::inbox::Inbox;
use crate::clock;

pub use self::link::Connection;
pub use self::script::{Call, Script};
pub use self::seal::{Sealer, WeakKey};
pub use self::settings::{
    AddressError, STORE_KEY_BYTES_MIN, StoreAddress, StoreSettings, Topology,
};

/// What any question to the store takes at most, so that no request waits longer for a dead one.
pub const STORE_WAIT: Duration = Duration::from_millis(50);
/// Who wakes up so much later than the clock was set for was held up.
const HELD_UP: Duration = Duration::from_millis(10);
/// Where all gateways hear what each of them has to know.
pub const NEWS_CHANNEL: &str = "evergate:news";
/// How long a store that failed is left alone.
pub const STORE_REST: Duration = Duration::from_secs(2);

/// The store cannot be asked now: it does not answer, or rests after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session store does not answer")]
pub struct StoreAway;

/// One gateway's way to the shared store.
pub struct Store {
    connection: watch::Receiver<Option<Connection>>,
    broken: Arc<Notify>,
    health: Health,
    inbox: Arc<Inbox>,
    name: Arc<str>,
    wait: Duration,
}

impl Store {
    /// Starts connecting in the background, for as long as the returned store lives.
    ///
    /// `name` is this gateway's among all that share the store; it hears on [`Store::channel`].
    /// `wait`: what any question takes at most, [`STORE_WAIT`].
    pub fn open(settings: &StoreSettings, name: &str, wait: Duration) -> Store {
        let inbox = Arc::new(Inbox::default());
        let broken = Arc::new(Notify::new());
        let channel = channel(name);
        let connection = link::keep(settings.clone(), channel, &inbox, &broken);
        Store { connection, broken, health: Health::default(), inbox, name: Arc::from(name), wait }
    }

    /// Waits until it is connected, at most `at_most`; for the start of the process only.
    pub async fn connected(&self, at_most: Duration) -> bool {
        let mut connection = self.connection.clone();
        timeout(at_most, connection.wait_for(Option::is_some))
            .await
            .is_ok_and(|found| found.is_ok())
    }

    /// This gateway's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where this gateway hears messages: a word published there wakes who waits for that word.
    pub fn channel(&self) -> String {
        channel(&self.name)
    }

    /// Asks the store. All `steps` together take at most its wait.
    ///
    /// # Errors
    /// It rests, did not answer in time, or answered with an error.
    pub async fn ask<T, F>(&self, steps: impl FnOnce(Connection) -> F) -> Result<T, StoreAway>
    where
        F: Future<Output = RedisResult<T>>,
    {
        self.ask_within(self.wait, steps).await
    }

    /// As [`Store::ask`], where no request waits for the answer.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn ask_within<T, F>(
        &self,
        wait: Duration,
        steps: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreAway>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let pass = self.health.admit(clock::now().uptime).ok_or(StoreAway)?;
        self.ask_with(pass, wait, steps).await
    }

    /// As [`Store::ask`], even while it rests: for what others must know and only this process does.
    /// A few at once; with more, it counts as away.
    ///
    /// # Errors
    /// As [`Store::ask`].
    pub async fn press<T, F>(&self, steps: impl FnOnce(Connection) -> F) -> Result<T, StoreAway>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let pass = self.health.press().ok_or(StoreAway)?;
        self.ask_with(pass, self.wait, steps).await
    }

    async fn ask_with<T, F>(
        &self,
        pass: Pass<'_>,
        wait: Duration,
        steps: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreAway>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut connection = self.connection.clone();
        let work = async {
            let found = connection.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
            match found {
                Some(connection) => steps(connection).await,
                None => Err(RedisError::from((ErrorKind::Io, "not connected"))),
            }
        };
        let failure = match patiently(wait, work).await {
            Ok(Ok(answer)) => {
                if pass.well() {
                    tracing::info!("the session store answers again");
                }
                return Ok(answer);
            }
            Ok(Err(error)) if is_about_one_value(&error) => {
                tracing::error!(error = %words(&error), "the session store holds a value that is not ours");
                pass.well();
                return Err(StoreAway);
            }
            Ok(Err(error)) => words(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.broken.notify_one();
        if pass.failed(clock::now().uptime) {
            tracing::warn!(error = %failure, "the session store does not answer");
        }
        Err(StoreAway)
    }

    /// How long it will not be asked, because it just failed; `None`: it will.
    pub fn rest(&self) -> Option<Duration> {
        self.health.rest(clock::now().uptime)
    }

    /// Whether the last question failed.
    pub fn is_degraded(&self) -> bool {
        self.health.is_degraded()
    }

    /// From now on a message about `word` is kept for [`Store::told`].
    pub fn expect(&self, word: &str) {
        self.inbox.expect(word);
    }

    /// No message about `word` is awaited any more.
    pub fn forget(&self, word: &str) {
        self.inbox.forget(word);
    }

    /// Words published to [`NEWS_CHANNEL`] from now on. Hints, as all messages.
    pub fn news(&self) -> broadcast::Receiver<Arc<str>> {
        self.inbox.news()
    }

    /// Waits for a message about `word`, at most `at_most`.
    pub async fn told(&self, word: &str, at_most: Duration) {
        self.inbox.told(word, at_most).await;
    }
}

/// As [`timeout`]. But where this process itself was held up meanwhile, by a machine that had no time for
/// it, the answer may have come long ago: that says nothing about the store, and is no failure yet.
async fn patiently<T>(wait: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    let began = clock::now().uptime;
    match timeout(wait, &mut work).await {
        Err(_) if clock::now().uptime > began + wait + HELD_UP => timeout(wait, work).await,
        answer => answer,
    }
}

fn channel(name: &str) -> String {
    format!("evergate:inbox:{name}")
}

/// The server is well; what it holds under one key is not what we put there. One such key must not
/// make the gateway leave the whole store alone.
fn is_about_one_value(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || error.kind() == ErrorKind::UnexpectedReturnType
}

/// What the server or the system said. Its category and code only: a detail may quote a value.
fn words(error: &RedisError) -> String {
    let mut words = error.category().to_owned();
    if let Some(code) = error.code() {
        let _ = write!(words, " ({code})");
    }
    words
}
