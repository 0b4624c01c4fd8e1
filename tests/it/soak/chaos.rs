//! Everything that goes wrong around the sessions: gateways end and start, the store freezes and
//! forgets, the backend falls over. One thing after another, at times that the seed says.

use std::time::Duration;

use tokio::time::sleep;

use super::World;
use super::dice::Dice;
use super::families::Outage;
use super::faults::Fault;
use super::tally::now;
use crate::support::Redis;

/// Between the end of one trouble and the next.
const REST_MIN: Duration = Duration::from_secs(3);
const REST_MAX: Duration = Duration::from_secs(9);
/// How long the store freezes, and how long it is gone.
const FREEZE_MAX: Duration = Duration::from_secs(4);
const GONE_MAX: Duration = Duration::from_secs(2);
/// How long the backend is down or slow.
const DOWN_MAX: Duration = Duration::from_secs(3);
/// Before the run ends, so that the last trouble is over by then.
const LAST: Duration = Duration::from_secs(8);

#[derive(Clone, Copy)]
enum Trouble {
    Restart,
    Kill,
    StoreFreezes,
    StoreForgets,
    BackendDown,
    BackendSlow,
}

const ALONE: [(usize, Trouble); 3] =
    [(3, Trouble::Restart), (2, Trouble::BackendDown), (1, Trouble::BackendSlow)];

const SHARED: [(usize, Trouble); 6] = [
    (4, Trouble::Restart),
    (2, Trouble::Kill),
    (3, Trouble::StoreFreezes),
    (2, Trouble::StoreForgets),
    (2, Trouble::BackendDown),
    (1, Trouble::BackendSlow),
];

/// Makes trouble until shortly before the end of the run.
pub async fn reign(world: &World, mut redis: Option<Redis>) {
    let mut dice = Dice::new(world.plan.seed, 0);
    sleep(world.plan.ramp()).await;
    loop {
        sleep(dice.between(REST_MIN, REST_MAX)).await;
        if now() + LAST > world.ends {
            break;
        }
        let trouble = match redis {
            Some(_) => dice.pick(&SHARED),
            None => dice.pick(&ALONE),
        };
        let gateway = dice.below(world.fleet.len());
        match (trouble, &mut redis) {
            (Trouble::Restart, _) => restart(world, gateway).await,
            (Trouble::Kill, _) => kill(world, gateway).await,
            (Trouble::BackendDown, _) => backend(world, &mut dice, Fault::Broken).await,
            (Trouble::BackendSlow, _) => {
                backend(world, &mut dice, Fault::Delay(Duration::from_secs(1))).await;
            }
            (Trouble::StoreFreezes, Some(redis)) => freeze(world, &mut dice, redis).await,
            (Trouble::StoreForgets, Some(redis)) => empty(world, &mut dice, redis).await,
            (Trouble::StoreFreezes | Trouble::StoreForgets, None) => {}
        }
    }
    // Kept until here: the store lives as long as its launcher.
    sleep(world.ends.saturating_sub(now())).await;
    world.backend.faults().over = true;
    sleep(super::CALM).await;
    world.calm.send_replace(true);
    world.finished.subscribe().wait_for(|finished| *finished).await.expect("the world lives");
}

/// SIGTERM: no request and no flight is lost. Nothing but a new start follows.
async fn restart(world: &World, gateway: usize) {
    world.trouble(format!("gateway {gateway} is restarted"), "trouble: gateway restarted");
    let mut process = world.fleet.take(gateway, false);
    process.program.signal("TERM");
    let status = process.program.ended().await;
    if status.code() != Some(0) {
        world.tally.wrong("a restart that failed", process.program.output());
    }
    world.autopsy(&process);
    world.backend.families().ended(&process.name);
    world.fleet.run(gateway).await;
}

/// SIGKILL.
async fn kill(world: &World, gateway: usize) {
    world.trouble(format!("gateway {gateway} is killed"), "trouble: gateway killed");
    let mut process = world.fleet.take(gateway, true);
    process.program.signal("KILL");
    process.program.ended().await;
    world.backend.families().killed(gateway, &process.name);
    world.autopsy(&process);
    world.fleet.run(gateway).await;
}

async fn backend(world: &World, dice: &mut Dice, fault: Fault) {
    world.trouble(format!("the backend: {fault:?}"), "trouble: backend down or slow");
    world.backend.faults().standing = Some(fault);
    sleep(dice.between(DOWN_MAX / 3, DOWN_MAX)).await;
    world.backend.faults().standing = None;
}

async fn freeze(world: &World, dice: &mut Dice, redis: &Redis) {
    world.trouble("the store freezes".to_string(), "trouble: store frozen");
    redis.pause();
    away(world, false);
    sleep(dice.between(FREEZE_MAX / 4, FREEZE_MAX)).await;
    redis.resume();
    back(world);
}

async fn empty(world: &World, dice: &mut Dice, redis: &mut Redis) {
    world.trouble("the store is killed".to_string(), "trouble: store killed, back empty");
    away(world, true);
    redis.kill();
    sleep(dice.between(GONE_MAX / 4, GONE_MAX)).await;
    redis.restart().await;
    back(world);
}

fn away(world: &World, emptied: bool) {
    let outage = Outage { from: now(), until: None, emptied };
    world.backend.families().outages.push(outage);
}

fn back(world: &World) {
    if let Some(outage) = world.backend.families().outages.last_mut() {
        outage.until = Some(now());
    }
}
