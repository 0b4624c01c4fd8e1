//! Where chance comes from, and how a failure becomes short.
//!
//! A play has turns, and each turn a few numbers to choose by; 0 is always the plainest choice, and
//! the play ends with its turns. So a failing play shrinks by leaving turns out and making numbers
//! 0, whatever it is about. The turns come from fixed seeds: every run plays the same.
//! `EVERGATE_RUNS` says how many plays.
//!
//! `proptest` was rejected: what can happen next depends on what has happened (a flight that is in
//! the air, a response on its way), which its strategies do not see; and it is a dozen crates.

use std::panic::{AssertUnwindSafe, catch_unwind};

const PLAYS: u64 = 3_000;
const TURNS_MAX: u64 = 150;

/// The numbers of one turn. Who needs more gets 0.
type Turn = [u32; 6];
/// Each thing that happened, and the promise that was broken.
type Failure = (Vec<String>, String);

pub struct Choices<'a> {
    turns: std::slice::Iter<'a, Turn>,
    turn: std::slice::Iter<'a, u32>,
}

impl<'a> Choices<'a> {
    fn new(turns: &'a [Turn]) -> Choices<'a> {
        Choices { turns: turns.iter(), turn: [].iter() }
    }

    /// False when the play is over.
    pub fn next_turn(&mut self) -> bool {
        let turn = self.turns.next();
        self.turn = turn.map_or([].iter(), |turn| turn.iter());
        turn.is_some()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.turn.next().map_or(0, |number| *number as usize % bound)
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) + 1 == times
    }
}

/// Plays often; a failure is shortened before it is told.
pub fn check(play: impl Fn(&mut Choices, &mut Vec<String>) -> Result<(), String>) {
    let told = std::env::var("EVERGATE_RUNS").ok().and_then(|runs| runs.parse().ok());
    for seed in 0..told.unwrap_or(PLAYS) {
        let turns = turns(seed);
        if let Some(failure) = run(&play, &turns) {
            let (story, broken) = shorten(&play, turns, failure);
            panic!("play {seed}: {broken}\n  {}", story.join("\n  "));
        }
    }
}

fn run(
    play: &impl Fn(&mut Choices, &mut Vec<String>) -> Result<(), String>,
    turns: &[Turn],
) -> Option<Failure> {
    let mut story = Vec::new();
    let mut choices = Choices::new(turns);
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut choices, &mut story)));
    let broken = played.unwrap_or_else(|_| Err("it panicked".to_owned())).err()?;
    Some((story, broken))
}

/// Leaves out what is not needed, in ever smaller pieces, and then makes what is left plainer.
fn shorten(
    play: &impl Fn(&mut Choices, &mut Vec<String>) -> Result<(), String>,
    mut turns: Vec<Turn>,
    mut failure: Failure,
) -> Failure {
    let mut length = turns.len();
    while length > 0 {
        let mut from = 0;
        while from < turns.len() {
            let mut shorter = turns.clone();
            shorter.drain(from..(from + length).min(turns.len()));
            match run(play, &shorter) {
                Some(still) => (turns, failure) = (shorter, still),
                None => from += length,
            }
        }
        length /= 2;
    }
    for (turn, number) in (0..turns.len()).flat_map(|turn| (0..6).map(move |at| (turn, at))) {
        let before = std::mem::take(&mut turns[turn][number]);
        match run(play, &turns) {
            Some(still) => failure = still,
            None => turns[turn][number] = before,
        }
    }
    failure
}

/// SplitMix64: as much chance as a test needs, the same everywhere.
fn turns(seed: u64) -> Vec<Turn> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let length = 10 + next() % TURNS_MAX;
    (0..length).map(|_| std::array::from_fn(|_| (next() >> 32) as u32)).collect()
}

#[test]
fn a_failing_play_is_told_as_short_as_it_can_be() {
    let play = |choices: &mut Choices, story: &mut Vec<String>| {
        let mut threes = 0;
        while choices.next_turn() {
            let number = choices.below(4);
            story.push(number.to_string());
            threes += usize::from(number == 3);
        }
        if threes < 2 { Ok(()) } else { Err("two threes".to_owned()) }
    };
    let turns = turns(1);
    let failure = run(&play, &turns).unwrap();
    assert_eq!(shorten(&play, turns, failure).0, ["3", "3"]);
}
