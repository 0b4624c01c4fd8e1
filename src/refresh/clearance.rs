//! Clearance: a flight's leave to show the refresh token to the backend.
//!
//! Without a shared store the flight's turn is all it waits for. With one, no other gateway may be
//! asking for the same session:
//!
//! 1. The session is claimed, and the claim renewed while the flight waits for its turn.
//! 2. Right before sending, the store is told; if the claim is somebody else's by then, it all begins
//!    again. A store that does not answer here has not agreed.
//! 3. Whoever else has the claim is waited for: told by a hint, or looked for every now and then.
//! 4. A gateway that sent and was never heard of again may have spent the refresh token. Where a
//!    second use would be one too many, the session is over.
//! 5. A store that is away is the operator's choice ([`OnFailure`]).

use std::time::Duration;

use tokio::time::interval_at;

use super::board::{Issuer, Store};
use super::concurrency::sleep;
use super::flight::{GRACE_SURE, Pilot};
use super::record::{Landing, Work};
use super::settings::{OnFailure, Rotation};
use super::store::{
    CLAIM_RENEWED_EVERY, CLAIMED_FOR, Claim, LOST_AFTER, Life, SENT_SLACK, StoreAway, Stored,
};
use super::sync::{Told, tell_again};

/// How often a session that another gateway has claimed is looked at, where no hint comes.
const POLL: Duration = Duration::from_millis(200);

/// What a flight that wants to ask may do.
pub(super) enum Clearance {
    Ask,
    /// Something else, as another gateway was quicker.
    Instead(Work),
    Land(Landing),
}

/// Waits for leave to ask.
pub(super) async fn clear(pilot: &mut Pilot, issuer: &Issuer) -> Clearance {
    let shared = pilot.shared.clone();
    let Some(store) = &shared.store else {
        sleep(pilot.job.delay).await;
        return if pilot.job.delay.is_zero() { Clearance::Ask } else { take_off(pilot) };
    };
    // A lost answer may be asked for a second time, soon after the first.
    let settle = match issuer.settings.rotation {
        Rotation::Grace => issuer.settings.timeout + GRACE_SURE,
        Rotation::Strict | Rotation::ReuseOk | Rotation::None => issuer.settings.timeout,
    };
    let patience = settle + SENT_SLACK + LOST_AFTER + CLAIMED_FOR;
    let deadline = shared.now().uptime + patience;
    let mut lost_too = false;
    while shared.now().uptime < deadline {
        let (id, generation, claim) = (pilot.job.id, pilot.job.generation, pilot.job.claim);
        if let Some(overtaken) = tell_head(pilot).await {
            return overtaken;
        }
        match store.sessions.claim(id, generation, claim, lost_too, settle).await {
            Ok(Claim::Ours) => {
                pilot.claimed = true;
                if generation == 0 && is_anothers(pilot, store).await {
                    return Clearance::Land(Landing::Renamed);
                }
                wait_for_turn(pilot, store).await;
                match store.sessions.sent(id, claim, settle).await {
                    Ok(true) => return take_off(pilot),
                    Ok(false) => pilot.claimed = false,
                    Err(StoreAway) => return away(pilot, store),
                }
            }
            Ok(Claim::Moved(stored)) => return instead(pilot, &stored),
            Ok(Claim::Taken(left) | Claim::Settling(left)) => {
                store.sessions.told(id, left.min(POLL)).await
            }
            Ok(Claim::Lost) => match issuer.settings.rotation {
                Rotation::Strict => return give_up(pilot, store).await,
                Rotation::Grace | Rotation::ReuseOk | Rotation::None => lost_too = true,
            },
            Err(StoreAway) => return away(pilot, store),
        }
    }
    Clearance::Land(Landing::Transient { retry_after: None })
}

/// The store must know this head before it can keep others from asking with it.
async fn tell_head(pilot: &mut Pilot) -> Option<Clearance> {
    match tell_again(&pilot.shared.clone(), pilot.job.id).await {
        // A store that is away shows at the claim.
        Ok(Told::Known) | Err(StoreAway) => None,
        Ok(Told::Newer(stored)) => Some(instead(pilot, &stored)),
        Ok(Told::Renamed) => Some(Clearance::Land(Landing::Renamed)),
    }
}

/// What looked like a new session may be an older one, told by the gateway that knew it at the moment
/// at which this one claimed it. Then it is left to its older name.
async fn is_anothers(pilot: &mut Pilot, store: &Store) -> bool {
    let (id, claim) = (pilot.job.id, pilot.job.claim);
    if !matches!(store.sessions.elsewhere(id).await, Ok(Some(_))) {
        return false;
    }
    // If the store does not take it back, the landing does.
    pilot.claimed = store.sessions.withdraw(id, claim).await.is_err();
    true
}

async fn wait_for_turn(pilot: &Pilot, store: &Store) {
    if pilot.job.delay.is_zero() {
        return;
    }
    let mut turn = std::pin::pin!(sleep(pilot.job.delay));
    let start = tokio::time::Instant::now() + CLAIM_RENEWED_EVERY;
    let mut renewal = interval_at(start, CLAIM_RENEWED_EVERY);
    loop {
        tokio::select! {
            () = &mut turn => return,
            // Whether it is still ours shows when it is sent.
            _ = renewal.tick() => {
                let _ = store.sessions.keep(pilot.job.id, pilot.job.claim).await;
            }
        }
    }
}

/// The flight's turn has come: it may ask, unless that makes no sense any more.
fn take_off(pilot: &Pilot) -> Clearance {
    let now = pilot.shared.now();
    match pilot.shared.step(|board| board.ledger.take_off(&pilot.job, now)) {
        Ok(()) => Clearance::Ask,
        Err(landing) => Clearance::Land(landing),
    }
}

fn instead(pilot: &mut Pilot, stored: &Stored) -> Clearance {
    let shared = pilot.shared.clone();
    let work = shared.overtaken(&mut pilot.job, stored);
    work.map_or(Clearance::Land(Landing::Unwanted), Clearance::Instead)
}

async fn give_up(pilot: &mut Pilot, store: &Store) -> Clearance {
    match store.sessions.close(pilot.job.id, pilot.job.generation, Life::Dead).await {
        Ok(Some(newer)) => instead(pilot, &newer),
        Ok(None) => Clearance::Land(Landing::Lost),
        Err(StoreAway) => away(pilot, store),
    }
}

fn away(pilot: &Pilot, store: &Store) -> Clearance {
    match store.on_failure {
        OnFailure::Deny => Clearance::Land(Landing::StoreAway),
        OnFailure::Local => take_off(pilot),
    }
}
