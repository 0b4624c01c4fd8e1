//! Chance that can be had again: SplitMix64 from a seed. A crate for it would be one more to trust.

use std::time::Duration;

pub struct Dice(u64);

impl Dice {
    /// The dice number `who` of a run: each actor has its own, so that what one does never depends
    /// on who came first.
    pub fn new(seed: u64, who: u64) -> Dice {
        let mut dice = Dice(seed ^ who.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        dice.roll();
        dice
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end`, without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a number of things");
        usize::try_from(self.roll() % end.max(1)).expect("less than a number of things")
    }

    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let part = u32::try_from(self.roll() % 1000).expect("small");
        from + (to - from) * part / 1000
    }

    /// One of these, each as often as the number beside it says.
    pub fn pick<T: Copy>(&mut self, of: &[(usize, T)]) -> T {
        let mut left = self.below(of.iter().map(|(weight, _)| weight).sum());
        for (weight, thing) in of {
            if left < *weight {
                return *thing;
            }
            left -= weight;
        }
        unreachable!("the weights are all there is")
    }
}
