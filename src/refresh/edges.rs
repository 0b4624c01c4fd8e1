//! Where time and chance come in.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use crate::clock::{self, Clock};

/// The clock and the dice; tests bring their own.
#[derive(Clone)]
pub struct Edges {
    pub now: Clock,
    /// A number from 0 to 1, for jitter only.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Edges {
    /// The real ones.
    pub fn real() -> Edges {
        Edges { now: Arc::new(clock::now), random: Arc::new(random) }
    }
}

fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without chance there is no jitter, and that is all that is lost.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}
