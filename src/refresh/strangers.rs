//! What is remembered of refresh tokens that belong to no session, and of who showed them.
//!
//! Anybody can send any refresh token, so nothing here may grow with what strangers send, and none
//! of it touches the sessions of people who are logged in:
//!
//! 1. A token that the backend refused is refused for five minutes without asking.
//! 2. An address (for IPv6: its /64, which one person has whole) that showed many *different* dead
//!    tokens in a minute is refused unasked until the minute is over. Showing one dead token again
//!    and again counts once: a forgotten tab must not lock its office out.
//! 3. An address has only so many unknown tokens being asked about at once; more must wait. So a
//!    burst cannot outrun rule 2.
//! 4. Both tables are bounded; the oldest entry makes room.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::hash::TokenHash;
use crate::policy::time::Now;

const REFUSED_FOR: Duration = Duration::from_secs(300);
const REFUSED_MAX: usize = 10_000;
const ADDRESSES_MAX: usize = 10_000;
const DEAD_PER_ADDRESS_MAX: u32 = 20;
const DEAD_COUNTED_FOR: Duration = Duration::from_secs(60);
/// How soon to look again when an address has too many unknown tokens being asked about.
const BUSY_POLL: Duration = Duration::from_millis(250);

/// What a token that belongs to no session is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    MayAsk,
    Wait(Duration),
    Dead,
}

#[derive(Clone, Copy, Default)]
struct Address {
    since: Duration,
    dead: u32,
    asking: u32,
}

pub(super) struct Strangers {
    refused: Bounded<TokenHash, Duration>,
    addresses: Bounded<IpAddr, Address>,
    refusals: u64,
}

impl Strangers {
    pub fn new() -> Strangers {
        Strangers {
            refused: Bounded::new(REFUSED_MAX),
            addresses: Bounded::new(ADDRESSES_MAX),
            refusals: 0,
        }
    }

    pub fn view(&self, hash: TokenHash, client: IpAddr, now: Now) -> Stranger {
        if self.is_refused(hash, now) {
            return Stranger::Dead;
        }
        let Some(address) = self.addresses.get(&network(client)) else { return Stranger::MayAsk };
        let dead = if now.uptime < address.since + DEAD_COUNTED_FOR { address.dead } else { 0 };
        if dead >= DEAD_PER_ADDRESS_MAX {
            Stranger::Dead
        } else if dead + address.asking >= DEAD_PER_ADDRESS_MAX {
            Stranger::Wait(BUSY_POLL)
        } else {
            Stranger::MayAsk
        }
    }

    /// Is this token itself dead, whoever shows it?
    pub fn is_refused(&self, hash: TokenHash, now: Now) -> bool {
        self.refused.get(&hash).is_some_and(|until| now.uptime < *until)
    }

    /// How many tokens were refused so far.
    pub fn refusals(&self) -> u64 {
        self.refusals
    }

    /// A flight departs for an unknown token.
    pub fn asked(&mut self, client: IpAddr) {
        self.addresses.entry(network(client)).asking += 1;
    }

    /// That flight is back.
    pub fn answered(&mut self, client: IpAddr, refused: bool, now: Now) {
        let address = self.addresses.entry(network(client));
        address.asking = address.asking.saturating_sub(1);
        if !refused {
            return;
        }
        if now.uptime >= address.since + DEAD_COUNTED_FOR {
            (address.since, address.dead) = (now.uptime, 0);
        }
        address.dead += 1;
    }

    /// This token is dead; a session is not kept for it.
    pub fn refuse(&mut self, hash: TokenHash, now: Now) {
        self.refusals += 1;
        *self.refused.entry(hash) = now.uptime + REFUSED_FOR;
    }
}

fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

/// A map that never holds more than `max` entries: the oldest makes room. Keys are held twice.
struct Bounded<K, V> {
    map: HashMap<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Copy + Eq + Hash, V: Default> Bounded<K, V> {
    fn new(max: usize) -> Bounded<K, V> {
        Bounded { map: HashMap::new(), order: VecDeque::new(), max }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    /// The entry for `key`, made if it is not there. An entry keeps its place in the order.
    fn entry(&mut self, key: K) -> &mut V {
        if !self.map.contains_key(&key) {
            if self.order.len() >= self.max
                && let Some(oldest) = self.order.pop_front()
            {
                self.map.remove(&oldest);
            }
            self.order.push_back(key);
        }
        self.map.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::secret::Secret;
    use crate::refresh::hash::Hasher;

    fn at(seconds: u64) -> Now {
        Now::default().later(Duration::from_secs(seconds))
    }

    fn token(number: u32) -> TokenHash {
        Hasher::new(&[7; 32]).hash("issuer", &Secret::new(number.to_string()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Asks about so many unknown tokens, one after the other, and all are refused.
    fn refuse(strangers: &mut Strangers, client: IpAddr, count: u32, now: Now) {
        for number in 0..count {
            strangers.asked(client);
            strangers.answered(client, true, now);
            strangers.refuse(token(number), now);
        }
    }

    #[test]
    fn a_refused_token_is_refused_for_five_minutes() {
        let mut strangers = Strangers::new();
        let client = address("192.0.2.1");
        strangers.refuse(token(1), at(0));
        assert_eq!(strangers.view(token(1), client, at(299)), Stranger::Dead);
        assert_eq!(strangers.view(token(1), client, at(300)), Stranger::MayAsk);
        assert_eq!(strangers.view(token(2), client, at(0)), Stranger::MayAsk);
    }

    #[test]
    fn an_address_with_many_dead_tokens_is_refused_unasked_until_the_minute_is_over() {
        let mut strangers = Strangers::new();
        let client = address("192.0.2.1");
        refuse(&mut strangers, client, 19, at(100));
        assert_eq!(strangers.view(token(99), client, at(100)), Stranger::MayAsk);
        refuse(&mut strangers, client, 1, at(100));
        assert_eq!(strangers.view(token(99), client, at(159)), Stranger::Dead);
        assert_eq!(strangers.view(token(99), client, at(160)), Stranger::MayAsk);
        assert_eq!(strangers.view(token(99), address("192.0.2.2"), at(159)), Stranger::MayAsk);
        refuse(&mut strangers, client, 19, at(160));
        assert_eq!(strangers.view(token(99), client, at(160)), Stranger::MayAsk);
    }

    #[test]
    fn a_burst_waits_for_the_first_answers() {
        let mut strangers = Strangers::new();
        let client = address("192.0.2.1");
        (0..20).for_each(|_| strangers.asked(client));
        assert_eq!(strangers.view(token(99), client, at(0)), Stranger::Wait(BUSY_POLL));
        strangers.answered(client, false, at(0));
        assert_eq!(strangers.view(token(99), client, at(0)), Stranger::MayAsk);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let mut strangers = Strangers::new();
        refuse(&mut strangers, address("2001:db8:1:2::1"), 20, at(0));
        assert_eq!(strangers.view(token(99), address("2001:db8:1:2:f::9"), at(0)), Stranger::Dead);
        assert_eq!(strangers.view(token(99), address("2001:db8:1:3::1"), at(0)), Stranger::MayAsk);
        refuse(&mut strangers, address("::ffff:192.0.2.1"), 20, at(0));
        assert_eq!(strangers.view(token(99), address("192.0.2.1"), at(0)), Stranger::Dead);
    }

    #[test]
    fn both_tables_reach_their_bound_and_stay_there() {
        let mut strangers = Strangers::new();
        for number in 0..20_000 {
            strangers.refuse(token(number), at(0));
            strangers.asked(IpAddr::V4(number.into()));
        }
        assert_eq!((strangers.refused.map.len(), strangers.refused.order.len()), (10_000, 10_000));
        let addresses = (strangers.addresses.map.len(), strangers.addresses.order.len());
        assert_eq!(addresses, (10_000, 10_000));
        assert_eq!(strangers.view(token(0), address("192.0.2.1"), at(0)), Stranger::MayAsk);
        assert_eq!(strangers.view(token(19_999), address("192.0.2.1"), at(0)), Stranger::Dead);
    }
}
