//! The only place that reads the clock.

use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::policy::time::{Now, UnixSeconds};

/// Where a running gateway gets its time from: [`now`], or a test's.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

static STARTED: OnceLock<Instant> = OnceLock::new();

/// Reads both clocks.
#[allow(clippy::disallowed_methods, reason = "this is the room the ban points to")]
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let uptime = STARTED.get_or_init(Instant::now).elapsed();
    Now { unix: UnixSeconds(unix), uptime }
}
