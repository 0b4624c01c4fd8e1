//! Holding tokens in this process; over a real Redis: `tests/it/carriers_held.rs`.

use super::*;
use crate::policy::secret::Secret;

const DAY: Duration = Duration::from_secs(86_400);

fn pair(number: u32) -> Kept {
    Kept {
        issuer: "main".into(),
        access: Some(Secret::new(format!("at-{number}"))),
        refresh: Some(Secret::new(format!("rt-{number}"))),
    }
}

fn here(handles_max: usize) -> HeldTokens {
    let key = Secret::new("0123456789abcdef0123456789abcdef");
    HeldTokens::new(handles_max, Sealer::new(&key).unwrap(), None)
}

fn at(seconds: u64) -> Now {
    Now::default().later(Duration::from_secs(seconds))
}

async fn found(held: &HeldTokens, handle: Handle, now: Now) -> Option<(Kept, Place)> {
    let found = held.find(handle, now).await.unwrap();
    found.map(|(kept, place)| ((*kept).clone(), place))
}

async fn kept(held: &HeldTokens, handle: Handle, now: Now) -> Option<Kept> {
    found(held, handle, now).await.map(|(kept, _)| kept)
}

#[tokio::test]
async fn a_handle_leads_to_its_own_tokens_for_their_life_and_another_to_nothing() {
    let held = here(10);
    let one = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let other = held.hold(pair(2), DAY, at(0)).await.unwrap();

    assert_eq!(kept(&held, one, at(86_399)).await, Some(pair(1)));
    assert_eq!(kept(&held, other, at(0)).await, Some(pair(2)));
    assert_eq!(kept(&held, Handle::new([1; 16]), at(0)).await, None);
    assert_eq!(kept(&held, one, at(86_400)).await, None);
    assert_eq!(kept(&held, one, at(0)).await, None, "it does not come back");
}

#[tokio::test]
async fn who_has_read_an_older_pair_writes_nothing() {
    let held = here(10);
    let handle = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let (_, place) = found(&held, handle, at(0)).await.unwrap();

    assert_eq!(held.replace(place, pair(3), DAY, at(1)).await, Ok(true));
    assert_eq!(held.replace(place, pair(2), DAY, at(2)).await, Ok(false));

    let (newest, place) = found(&held, handle, at(86_400)).await.unwrap();
    assert_eq!(newest, pair(3), "and it lives from its own writing on");
    assert_eq!(held.replace(place, pair(4), DAY, at(3)).await, Ok(true));
    assert_eq!(kept(&held, handle, at(3)).await, Some(pair(4)));
}

#[tokio::test]
async fn what_was_removed_is_not_written_again() {
    let held = here(10);
    let handle = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let (_, place) = found(&held, handle, at(0)).await.unwrap();

    held.remove(place, at(0)).await;

    assert_eq!(held.replace(place, pair(2), DAY, at(1)).await, Ok(false));
    assert_eq!(kept(&held, handle, at(1)).await, None);
}

#[tokio::test]
async fn a_session_that_is_over_takes_its_own_pair_and_a_logout_takes_any() {
    let held = here(10);
    let handle = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let (_, old) = found(&held, handle, at(0)).await.unwrap();
    held.replace(old, pair(2), DAY, at(0)).await.unwrap();

    held.remove_unchanged(old, at(0)).await;
    let (newer, place) = found(&held, handle, at(0)).await.unwrap();
    assert_eq!(newer, pair(2));
    held.remove_unchanged(place, at(0)).await;
    assert_eq!(kept(&held, handle, at(0)).await, None);

    let handle = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let (_, old) = found(&held, handle, at(0)).await.unwrap();
    held.replace(old, pair(2), DAY, at(0)).await.unwrap();
    held.remove(old, at(0)).await;
    assert_eq!(kept(&held, handle, at(0)).await, None);
}

#[tokio::test]
async fn the_same_tokens_have_one_handle_which_goes_on_with_what_came_after_them() {
    let held = here(10);
    let handle = held.hold(pair(1), DAY, at(0)).await.unwrap();

    assert_eq!(held.hold(pair(1), DAY, at(1)).await, Ok(handle));
    let (_, place) = found(&held, handle, at(1)).await.unwrap();
    held.replace(place, pair(2), DAY, at(2)).await.unwrap();
    assert_eq!(held.hold(pair(1), DAY, at(3)).await, Ok(handle));
    assert_eq!(kept(&held, handle, at(3)).await, Some(pair(2)));
    assert_ne!(held.hold(pair(3), DAY, at(3)).await, Ok(handle));

    let later = at(2 + 86_400);
    assert_eq!(held.hold(pair(1), DAY, later).await, Ok(handle));
    assert_eq!(kept(&held, handle, later).await, Some(pair(1)), "nothing was there any more");
}

#[tokio::test]
async fn handles_are_bounded_and_the_longest_unused_goes_first() {
    let held = here(2);
    let first = held.hold(pair(1), DAY, at(0)).await.unwrap();
    let second = held.hold(pair(2), DAY, at(0)).await.unwrap();
    for _ in 0..100 {
        assert!(kept(&held, second, at(0)).await.is_some());
        assert_eq!(kept(&held, Handle::new([1; 16]), at(0)).await, None);
    }
    held.here.run_pending_tasks();
    let newcomer = held.hold(pair(3), DAY, at(0)).await.unwrap();
    held.here.run_pending_tasks();

    assert_eq!(held.here.entry_count(), 2);
    assert_eq!(kept(&held, first, at(0)).await, None);
    assert_eq!(kept(&held, second, at(0)).await, Some(pair(2)));
    assert_eq!(kept(&held, newcomer, at(0)).await, Some(pair(3)));
}
