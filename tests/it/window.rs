//! A token that is still valid but soon is not: the request passes at once, the refresh runs beside
//! it, and the new cookies ride on the response if they are there in time.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::support::backend::{Counts, Pair};
use super::support::*;

const ONE_GRANT: Counts = Counts { grants: 1, reuses: 0, unknown: 0 };
const MS: fn(u64) -> Duration = Duration::from_millis;

fn in_window(world: &World) -> Pair {
    world.backend.login("alice", Token::in_window)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookies_ride_on_a_response_that_takes_longer_than_the_refresh() {
    let world = World::start().await;
    world.backend.fail_once(Fault::Delay(MS(50)));

    let ask = get("/slow/300").pair(&in_window(&world));
    let reply = ask.send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    let names: Vec<String> = reply.cookies().into_keys().collect();
    assert_eq!(names, ["__Host-access", "__Host-refresh"]);
    assert_eq!(world.backend.counts(), ONE_GRANT);
    let overlap = world.gateway.metrics().await;
    assert_eq!(overlap.value("evergate_refresh_overlap_total{result=\"in_time\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_response_is_held_a_moment_for_the_cookies() {
    let world = World::changed("client_secret: s3cret", "client_secret: s3cret, hold: 5s").await;
    world.backend.fail_once(Fault::Delay(MS(100)));

    let reply = get("/page").pair(&in_window(&world)).send(world.gateway.address).await;

    assert!(reply.new_pair().is_some());
    let overlap = world.gateway.metrics().await;
    assert_eq!(overlap.value("evergate_refresh_overlap_total{result=\"held\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_refresh_does_not_hold_the_response_and_is_delivered_with_the_next() {
    let world = World::changed("client_secret: s3cret", "client_secret: s3cret, hold: 50ms").await;
    let old = in_window(&world);
    world.backend.fail_once(Fault::Delay(MS(1500)));

    let begun = Instant::now();
    let first = get("/page").pair(&old).send(world.gateway.address).await;
    let took = begun.elapsed();
    eventually("the grant is made", async || world.backend.counts().grants == 1).await;
    sleep(MS(100)).await;
    let next = get("/page").pair(&old).send(world.gateway.address).await;

    assert_eq!((first.status, first.new_pair()), (200, None));
    assert!(took < MS(1000), "held for {took:?}");
    assert!(next.new_pair().is_some());
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_parallel_requests_make_one_grant() {
    let world = World::start().await;
    let (old, address) = (in_window(&world), world.gateway.address);
    world.backend.fail_once(Fault::Delay(MS(100)));

    let replies = join_all((0..20).map(|_| get("/slow/200").pair(&old).send(address))).await;

    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(world.backend.counts(), ONE_GRANT);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_status_carries_the_cookies() {
    let world = World::start().await;
    for status in [200, 204, 301, 304, 403, 404, 500, 503] {
        world.upstream.answer(status, &[], "");
        let ask = get("/slow/200").pair(&in_window(&world));
        let reply = ask.send(world.gateway.address).await;
        assert_eq!(reply.status, status);
        assert!(reply.new_pair().is_some(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_our_own_carries_the_cookies() {
    let world = World::changed("client_secret: s3cret", "client_secret: s3cret, hold: 5s").await;
    world.backend.fail_once(Fault::Delay(MS(50)));

    let reply = get("/reset").fetch().pair(&in_window(&world)).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.reason().as_str()), (502, "upstream_unreachable"));
    assert!(reply.new_pair().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_with_cookies_is_kept_from_shared_caches() {
    let world = World::start().await;
    world.upstream.answer(
        200,
        &[
            ("Cache-Control", "public, max-age=60, s-maxage=600"),
            ("CDN-Cache-Control", "max-age=600"),
            ("Surrogate-Control", "max-age=600"),
            ("ETag", "\"1\""),
        ],
        "",
    );

    let reply = get("/slow/200").pair(&in_window(&world)).send(world.gateway.address).await;

    assert!(reply.new_pair().is_some());
    let headers: Vec<String> =
        reply.headers().into_iter().filter(|line| !line.starts_with("set-cookie")).collect();
    let control: Vec<&str> = reply.head.all("cache-control");
    let mut directives: Vec<&str> = control.iter().flat_map(|line| line.split(", ")).collect();
    directives.sort();
    assert_eq!(directives, ["max-age=60", "private"]);
    let others: Vec<&String> =
        headers.iter().filter(|line| !line.starts_with("cache-control")).collect();
    assert_eq!(others, ["content-length: *", "etag: \"1\"", "x-request-id: *"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_page_loads_beside_itself_starts_no_refresh() {
    let world = World::start().await;
    let old = in_window(&world);
    let kinds = ["image", "font", "style", "script", "audio", "video", "track", "manifest"];

    for kind in kinds {
        let ask = get("/x").pair(&old).header("Sec-Fetch-Dest", kind);
        assert_eq!(ask.send(world.gateway.address).await.status, 200);
    }
    let prefetch = get("/x").pair(&old).header("Sec-Purpose", "prefetch");
    assert_eq!(prefetch.send(world.gateway.address).await.status, 200);

    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outside_its_window_is_left_alone() {
    let world = World::start().await;
    let fresh = world.backend.login("alice", |token| token.aged(100));

    let reply = get("/page").pair(&fresh).send(world.gateway.address).await;

    assert_eq!((reply.status, reply.cookies().len()), (200, 0));
    assert_eq!(world.backend.token_calls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_during_the_refresh_is_not_undone_by_it() {
    let world = World::start().await;
    let (old, address) = (in_window(&world), world.gateway.address);
    world.backend.fail_once(Fault::Delay(MS(300)));

    let slow = get("/slow/800").pair(&old);
    let slow = tokio::spawn(async move { slow.send(address).await });
    eventually("the backend is asked", async || world.backend.token_calls() == 1).await;
    let logout = post("/auth/logout", "").pair(&old).send(address).await;
    let slow = slow.await.expect("no panic");

    assert_eq!((logout.status, slow.status), (204, 200));
    assert_eq!(slow.new_pair(), None);
}
