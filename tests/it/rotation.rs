//! Backends differ: in what becomes of a refresh token that was used, in how they say that a session
//! is over, in how many refreshes a second they can bear. Each story is one key of `refresh`.

use std::time::Duration;

use futures_util::future::join_all;

use super::support::*;

/// The standard file with these keys of `refresh`.
async fn world(keys: &str) -> World {
    World::changed("client_secret: s3cret", &format!("client_secret: s3cret, {keys}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_grace_an_answer_lost_on_its_way_is_noticed_by_nobody() {
    let world = world("rotation: grace").await;
    world.backend.take_spent_tokens();
    world.backend.fail_once(Fault::ResetAfterGrant);
    let pair = world.backend.login("alice", Token::expired);

    let reply = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

    assert_eq!((reply.status, world.backend.token_calls()), (200, 2));
    assert!(reply.new_pair().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tokens_may_be_used_again_a_lost_answer_costs_a_second_and_not_the_deadline() {
    for rotation in ["reuse_ok", "none"] {
        let world = world(&format!("rotation: {rotation}")).await;
        world.backend.take_spent_tokens();
        world.backend.fail_once(Fault::Html);
        let pair = world.backend.login("alice", Token::expired);

        let first = get("/page").fetch().pair(&pair).send(world.gateway.address).await;
        let second = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

        assert_eq!((first.status, first.head.get("retry-after")), (503, Some("1")), "{rotation}");
        assert_eq!((second.status, world.backend.token_calls()), (200, 2), "{rotation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_rotates_is_asked_with_the_same_token_each_time() {
    let world = world("rotation: none").await;
    world.backend.fail(Fault::NoRefreshToken);
    let pair = world.backend.login("alice", Token::expired);

    let reply = get("/page").fetch().pair(&pair).send(world.gateway.address).await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.cookies().into_keys().collect::<Vec<_>>(), ["__Host-access"]);
    assert!(world.backend.is_alive(&pair.refresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_says_no_in_its_own_words_is_understood() {
    let own_word = || Fault::Refuse { status: 400, error: "session_gone", retry_after: None };
    let plain = World::start().await;
    let told = world("dead_when: [{ status: 400, json: { /error: [session_gone] } }]").await;

    for (world, expected) in [(&plain, 503), (&told, 401)] {
        world.backend.fail(own_word());
        let pair = world.backend.login("alice", Token::expired);
        let reply = get("/page").fetch().pair(&pair).send(world.gateway.address).await;
        assert_eq!(reply.status, expected);
    }
    told.backend.heal();
    let bob = told.backend.login("bob", Token::expired);
    assert_eq!(get("/page").pair(&bob).send(told.gateway.address).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_token_ends_its_session_for_the_thief_and_for_the_owner() {
    let world = world("on_reuse: revoke").await;
    let (old, address) = (world.backend.login("alice", Token::expired), world.gateway.address);
    let new = get("/page").pair(&old).send(address).await.new_pair().expect("cookies");
    let owner =
        || get("/page").fetch().header("Cookie", &format!("__Host-refresh={}", new.refresh));
    assert_eq!(owner().send(address).await.status, 200);
    // The grace is over.
    world.skip(Duration::from_secs(31));

    let thief = get("/page").fetch().pair(&old).send(address).await;
    let owner = owner().send(address).await;

    assert_eq!((thief.status, owner.status), (401, 401));
    assert_eq!((thief.cookies().len(), owner.cookies().len()), (0, 0));
    assert_eq!((world.backend.counts().grants, world.backend.counts().reuses), (1, 0));
    let metrics = world.gateway.metrics().await;
    assert_eq!(metrics.value("evergate_sessions_ended_total{reason=\"reuse\"}"), 1.0);
    assert_eq!(metrics.value("evergate_spent_token_presented_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_budget_the_expired_queue_and_the_window_waits_for_another_request() {
    let world = world("budget: 2, wait: 2s").await;
    let address = world.gateway.address;
    let pairs: Vec<_> = (0..12).map(|_| world.backend.login("alice", Token::expired)).collect();

    let ask = |pair| get("/page").fetch().pair(pair).send(address);
    let replies = join_all(pairs.iter().map(ask)).await;
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    let served = statuses.iter().filter(|status| **status == 200).count();
    let window = world.backend.login("bob", Token::in_window);
    let flood = (0..4).map(|_| world.backend.login("eve", Token::in_window)).collect::<Vec<_>>();
    let beside = join_all(flood.iter().chain([&window]).map(ask)).await;

    // Two at once and one each half second, for two seconds.
    assert!((3..=6).contains(&served), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(beside.iter().all(|reply| reply.status == 200));
    let metrics = world.gateway.metrics().await;
    for result in ["queued", "full", "postponed"] {
        let series =
            format!("evergate_refresh_budget_total{{issuer=\"default\",result=\"{result}\"}}");
        assert!(metrics.value(&series) >= 1.0, "{result} in {}", metrics.0);
    }
}
