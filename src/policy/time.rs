//! Time as data. The only reader of the real clock is [`crate::clock`].

use std::time::Duration;

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
