//! Time as data. The only reader of the real clock is [`crate::clock`].

use std::time::Duration;

use serde_json::Value;

/// 9999-12-31T23:59:59Z.
pub const TIME_MAX: UnixSeconds = UnixSeconds(253_402_300_799);

/// Seconds since 1970-01-01 UTC (`NumericDate`, RFC 7519 §2, whole seconds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Whole seconds from `earlier` to `self`; zero if `self` is not later.
    pub fn since(self, earlier: UnixSeconds) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time and `seconds` more; saturates, so that no claim can overflow it.
    pub fn plus(self, seconds: u64) -> UnixSeconds {
        UnixSeconds(self.0.saturating_add(seconds))
    }
}

/// One reading of both clocks.
///
/// Token times are compared with `unix`. Cool-downs, graces and rates use `uptime`, which never
/// jumps when an operator sets the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub unix: UnixSeconds,
    /// Monotonic time since the process started.
    pub uptime: Duration,
}

impl Now {
    /// The reading that would be taken `by` later.
    pub fn later(self, by: Duration) -> Now {
        Now { unix: self.unix.plus(by.as_secs()), uptime: self.uptime + by }
    }
}

/// A `NumericDate` (RFC 7519 §2): seconds, perhaps with a fraction.
pub fn numeric_date(value: &Value) -> Option<UnixSeconds> {
    let number = value.as_number()?;
    let seconds = match number.as_u64() {
        Some(seconds) => seconds,
        // `as` from a float saturates: what lies before 1970 becomes 1970, what is huge is capped.
        None => number.as_f64()? as u64,
    };
    Some(UnixSeconds(seconds).min(TIME_MAX))
}
