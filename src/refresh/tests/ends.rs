//! How sessions end, and that they end once and for all.

use std::sync::atomic::Ordering;

use tokio::time::sleep;

use super::super::*;
use super::fake::*;

fn ended(world: &World) -> Vec<EndReason> {
    let reason = |event| match event {
        RefreshEvent::Ended { reason, .. } => Some(reason),
        _ => None,
    };
    world.events().into_iter().filter_map(reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_asked_about_again_for_five_minutes() {
    let world = World::new();
    let unknown = Secret::new("nobody.0");
    assert_eq!(world.renew(&unknown).await, "refused");
    assert_eq!(world.look_up(&unknown).await, "dead");
    assert_eq!(world.renew(&unknown).await, "refused");
    assert!(world.refresher.start(&world.shows(&unknown), world.now()).is_none());
    assert_eq!(world.backend.calls(), 1);
    assert_eq!(world.refresher.gauges().sessions, SessionCounts::default());
    seconds(300).await;
    world.renew(&unknown).await;
    assert_eq!(world.backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_the_backend_ended_is_dead_for_all_its_tokens() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    seconds(LIFE_S).await;
    world.backend.fault(Fault::Say(Outcome::Refused));
    assert_eq!(world.renew(&alice).await, "refused");
    seconds(3600).await;
    assert_eq!(world.look_up(&alice).await, "dead");
    assert_eq!(world.look_up(&Secret::new("alice.1")).await, "dead");
    assert_eq!((world.cookies(&alice).await, world.backend.calls()), (None, 2));
    assert_eq!(ended(&world), [EndReason::Refused]);
}

#[tokio::test(start_paused = true)]
async fn a_logout_ends_the_session_for_all_its_tokens() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.renew(&alice).await;
    let (_, handle) = world.refresher.look_up(&world.shows(&alice), world.now()).await;
    world.refresher.end(ISSUER, &Secret::new("alice.1"), world.now()).await;
    world.refresher.end(ISSUER, &alice, world.now()).await;
    assert_eq!(handle.unwrap().deliverable(world.now()).await, None);
    assert_eq!(world.look_up(&alice).await, "ended");
    assert_eq!(world.renew(&alice).await, "ended");
    assert_eq!(ended(&world), [EndReason::LoggedOut]);
}

#[tokio::test(start_paused = true)]
async fn a_logout_in_mid_flight_leaves_no_cookie_behind() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let request = world.shows_both(&alice, "alice", 250);
    let handle = world.refresher.start(&request, world.now()).unwrap();
    sleep(Duration::from_millis(500)).await;
    world.refresher.end(ISSUER, &alice, world.now()).await;
    handle.settled(WAIT).await;
    assert_eq!(handle.deliverable(world.now()).await, None);
    assert_eq!(world.look_up(&alice).await, "ended");
    assert_eq!(world.refresher.gauges().in_flight, 0);
}

/// Alice's session after its second token was shown and the grace of the first is over.
async fn with_a_spent_token(on_reuse: OnReuse) -> (World, Secret, Secret) {
    let world = World::with(RefreshSettings { on_reuse, ..settings() });
    let (old, new) = (world.backend.log_in("alice"), Secret::new("alice.1"));
    world.renew(&old).await;
    world.look_up(&new).await;
    seconds(29).await;
    assert_eq!(world.look_up(&old).await, token("alice", 0));
    seconds(1).await;
    (world, old, new)
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_changes_nothing_for_the_newest_unless_told_so() {
    let (world, old, new) = with_a_spent_token(OnReuse::Login).await;
    assert_eq!(
        (world.look_up(&old).await, world.renew(&old).await),
        ("spent".into(), "spent".into())
    );
    assert_eq!(world.look_up(&new).await, token("alice", 0));
    assert_eq!(ended(&world), []);
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_ends_the_session_for_the_newest_too_where_told_so() {
    let (world, old, new) = with_a_spent_token(OnReuse::Revoke).await;
    assert_eq!(world.look_up(&old).await, "spent");
    assert_eq!(
        (world.look_up(&old).await, world.look_up(&new).await),
        ("ended".into(), "ended".into())
    );
    assert_eq!((world.renew(&new).await, world.cookies(&new).await), ("ended".into(), None));
    assert_eq!((ended(&world), world.backend.calls()), (vec![EndReason::Reuse], 1));
    let spent = |event: &&RefreshEvent| matches!(event, RefreshEvent::SpentShown { .. });
    assert_eq!(world.events().iter().filter(spent).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_beside_a_valid_access_token_ends_the_session_as_well() {
    let (world, old, new) = with_a_spent_token(OnReuse::Revoke).await;
    world.refresher.note_shown(&world.shows_both(&old, "alice", 10), world.now());
    assert_eq!(
        (world.look_up(&new).await, ended(&world)),
        ("ended".into(), vec![EndReason::Reuse])
    );
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_with_another_persons_access_token_ends_nothing() {
    let (world, old, new) = with_a_spent_token(OnReuse::Revoke).await;
    let foreign = world.shows_both(&old, "mallory", 10);
    world.refresher.look_up(&foreign, world.now()).await;
    world.refresher.note_shown(&foreign, world.now());
    assert_eq!((world.look_up(&new).await, ended(&world)), (token("alice", 0), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_in_mid_flight_leaves_no_cookie_behind() {
    let (world, old, new) = with_a_spent_token(OnReuse::Revoke).await;
    seconds(LIFE_S).await;
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let (told, ()) = tokio::join!(world.renew(&new), async {
        sleep(Duration::from_millis(500)).await;
        assert_eq!(world.look_up(&old).await, "spent");
    });
    assert_eq!((told.as_str(), world.cookies(&new).await), ("ended", None));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_when_the_session_ends_is_told_so() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(1)));
    let (told, ()) = tokio::join!(world.renew(&alice), async {
        sleep(Duration::from_millis(500)).await;
        world.refresher.end(ISSUER, &alice, world.now()).await;
    });
    assert_eq!(told, "ended");
}

#[tokio::test(start_paused = true)]
async fn the_token_of_an_unknown_session_is_refused_after_its_logout() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.refresher.end(ISSUER, &alice, world.now()).await;
    assert_eq!(world.renew(&alice).await, "refused");
    assert_eq!(world.backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_persons_token_ends_the_session() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Access(token("mallory", 0)));
    let request = world.shows_both(&alice, "alice", 250);
    let handle = world.refresher.start(&request, world.now()).unwrap();
    handle.settled(WAIT).await;
    assert_eq!(handle.deliverable(world.now()).await, None);
    assert_eq!(world.look_up(&alice).await, "ended");
    assert_eq!(ended(&world), [EndReason::WrongSubject]);
}

#[tokio::test(start_paused = true)]
async fn another_persons_token_ends_the_session_however_late_it_is_checked() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.verifier.keys_away.store(true, Ordering::Relaxed);
    world.backend.fault(Fault::Access(token("mallory", 0)));
    let request = world.shows_both(&alice, "alice", 250);
    world.refresher.start(&request, world.now()).unwrap().settled(WAIT).await;
    world.verifier.keys_away.store(false, Ordering::Relaxed);
    seconds(LIFE_S).await;
    assert_eq!(world.renew(&alice).await, "ended");
    assert_eq!((ended(&world), world.backend.calls()), (vec![EndReason::WrongSubject], 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_for_another_audience_or_issuer_ends_the_session() {
    for (word, reason) in
        [("wrong_audience", EndReason::WrongAudience), ("wrong_issuer", EndReason::WrongIssuer)]
    {
        let world = World::new();
        let alice = world.backend.log_in("alice");
        world.backend.fault(Fault::Access(word.to_owned()));
        assert_eq!(world.renew(&alice).await, "ended");
        assert_eq!(ended(&world), [reason]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_auth_backend_itself_is_shown_the_newest_tokens_only() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    let for_backend =
        async |token: &Secret| world.refresher.for_backend(ISSUER, token, world.now()).await;
    assert_eq!(for_backend(&alice).await, ForBackend::AsItCame);
    world.renew(&alice).await;
    let newest = ForBackend::Newest(NewCookies {
        issuer: ISSUER,
        access: Secret::new(token("alice", 0)),
        refresh: Some(Secret::new("alice.1")),
        max_age_s: None,
    });
    assert_eq!(for_backend(&alice).await, newest);
    world.refresher.note_shown(&world.shows(&Secret::new("alice.1")), world.now());
    seconds(30).await;
    assert_eq!(for_backend(&alice).await, ForBackend::Withhold);
}

#[tokio::test(start_paused = true)]
async fn the_auth_backend_itself_is_not_shown_what_a_flight_is_showing_it() {
    let world = World::new();
    let alice = world.backend.log_in("alice");
    world.backend.fault(Fault::Delay(Duration::from_secs(2)));
    world.refresher.start(&world.shows(&alice), world.now());
    sleep(Duration::from_millis(10)).await;
    let shown = world.refresher.for_backend(ISSUER, &alice, world.now()).await;
    let ForBackend::Newest(newest) = shown else { panic!("not the newest: {shown:?}") };
    assert_eq!(newest.refresh, Some(Secret::new("alice.1")));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_does_not_refresh_has_no_sessions() {
    let world = World::new();
    let elsewhere = Presented { issuer: IssuerId(9), ..world.shows(&Secret::new("x")) };
    let (session, handle) = world.refresher.renew(&elsewhere, WAIT, world.now()).await;
    assert_eq!((told(&session).as_str(), handle.is_none()), ("absent", true));
}
