//! Sending a browser to the refresh path and back (carrier `path`): what is noted on the way.
//!
//! 1. The page to come back to travels in the address, sealed by the caller: for a minute, for one
//!    host, and read again as strictly as if a stranger had written it.
//! 2. A browser that does not keep what it is given would go round for ever. Nothing but the browser
//!    can count that, as gateways share nothing here: whoever sends it back gives it a [`Trail`], and
//!    a request that shows the trail of a moment ago and still needs to be sent is on its next round.
//! 3. A trail names the pair that the browser was given. So a request that shows the access token of
//!    it says that the refresh token arrived, which it does not show.
//! 4. A round in vain is not repeated for the same access token, so a route that lets nobody in
//!    particular pass serves a person whose session is over.
//!
//! Nothing here seals, opens or hashes: a trail or a return is plain bytes.

use super::return_to;
use super::time::UnixSeconds;

/// An address that leads to the refresh path is good for so long.
const RETURN_LIFE_S: u64 = 60;
/// Who comes back needing another round within this time is on the next one.
const ROUND_S: u64 = 10;
/// After so many rounds a page explains.
pub const ROUNDS_MAX: u8 = 3;
/// How long a round in vain is not repeated.
const VAIN_S: u64 = 600;
/// How long a browser keeps its trail: streams may be opened as long as the access token lives.
pub const TRAIL_LIFE_S: u64 = 24 * 3600;

/// By what an access token is recognised in a trail.
pub type Digest = [u8; 16];

/// A pair of tokens that a browser was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name of the refresh token (a keyed hash), which the browser does not show to pages.
    pub refresh: [u8; 16],
    pub access: Digest,
}

/// Where a browser comes back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// Path and query of a page of this host.
    pub page: String,
    /// The rounds before this one.
    pub rounds: u8,
    pub since: UnixSeconds,
}

/// What a browser that was sent back carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    pub rounds: u8,
    pub since: UnixSeconds,
    /// The access token for which the refresh path could do nothing.
    pub vain: Option<Digest>,
    /// What it was given: whoever shows that access token has the refresh token, too.
    pub kept: Option<Kept>,
}

impl Return {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.rounds];
        bytes.extend(self.since.0.to_be_bytes());
        bytes.extend(self.page.as_bytes());
        bytes
    }

    /// `None`: too old, from the future, or no page of this host.
    pub fn read(bytes: &[u8], now: UnixSeconds) -> Option<Return> {
        let (rounds, since, page) = split(bytes)?;
        let page = return_to::own_page(std::str::from_utf8(page).ok()?)?.to_owned();
        is_within(since, RETURN_LIFE_S, now).then_some(Return { page, rounds, since })
    }
}

impl Trail {
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.rounds];
        bytes.extend(self.since.0.to_be_bytes());
        bytes.extend(self.vain.iter().flatten());
        if let (Some(kept), None) = (self.kept, self.vain) {
            bytes.extend(kept.refresh);
            bytes.extend(kept.access);
        }
        bytes
    }

    /// `None`: too old, or not a trail.
    pub fn read(bytes: &[u8], now: UnixSeconds) -> Option<Trail> {
        let (rounds, since, rest) = split(bytes)?;
        let (vain, kept) = match rest.split_first_chunk::<16>() {
            None if rest.is_empty() => (None, None),
            None => return None,
            Some((vain, [])) => (Some(*vain).filter(|_| is_within(since, VAIN_S, now)), None),
            Some((refresh, access)) => {
                (None, Some(Kept { refresh: *refresh, access: access.try_into().ok()? }))
            }
        };
        let rounds = if is_within(since, ROUND_S, now) { rounds } else { 0 };
        is_within(since, TRAIL_LIFE_S, now).then_some(Trail { rounds, since, vain, kept })
    }
}

fn split(bytes: &[u8]) -> Option<(u8, UnixSeconds, &[u8])> {
    let (rounds, rest) = bytes.split_first()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    Some((*rounds, UnixSeconds(u64::from_be_bytes(*since)), rest))
}

/// Gateways' clocks may differ: what another one wrote just now is not from the future.
fn is_within(since: UnixSeconds, life_s: u64, now: UnixSeconds) -> bool {
    now.0 <= since.0.saturating_add(life_s) && since.0 <= now.0.saturating_add(life_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_000_000);

    fn at(page: &str) -> Return {
        Return { page: page.to_owned(), rounds: 2, since: NOW }
    }

    #[test]
    fn a_return_is_good_for_a_minute() {
        let bytes = at("/a?b=1").to_bytes();
        let read = |seconds| Return::read(&bytes, NOW.plus(seconds));
        assert_eq!(read(0), Some(at("/a?b=1")));
        assert_eq!(read(60), Some(at("/a?b=1")));
        assert_eq!(read(61), None);
        assert_eq!(Return::read(&bytes, UnixSeconds(NOW.0 - 61)), None);
    }

    #[test]
    fn a_return_leads_to_a_page_of_this_host_even_if_it_was_sealed() {
        for page in
            ["", "a", "//evil.test", "/\\evil.test", "/\t/evil.test", "/a\r\nb", "/ü", "/a b"]
        {
            assert_eq!(Return::read(&at(page).to_bytes(), NOW), None, "{page:?}");
        }
        assert_eq!(Return::read(b"", NOW), None);
        assert_eq!(Return::read(b"\x0012345678\xff", NOW), None);
    }

    #[test]
    fn rounds_count_while_they_follow_each_other() {
        let trail = Trail { rounds: 2, since: NOW, vain: None, kept: None };
        let rounds =
            |seconds| Trail::read(&trail.to_bytes(), NOW.plus(seconds)).map(|trail| trail.rounds);
        assert_eq!([rounds(0), rounds(10), rounds(11)], [Some(2), Some(2), Some(0)]);
        assert_eq!([rounds(24 * 3600), rounds(24 * 3600 + 1)], [Some(0), None]);
    }

    #[test]
    fn a_round_in_vain_is_tried_again_after_ten_minutes() {
        let trail = Trail { rounds: 0, since: NOW, vain: Some([7; 16]), kept: None };
        let vain =
            |seconds| Trail::read(&trail.to_bytes(), NOW.plus(seconds)).and_then(|it| it.vain);
        assert_eq!([vain(600), vain(601)], [Some([7; 16]), None]);
    }

    #[test]
    fn a_trail_tells_what_it_was_told() {
        let kept = Some(Kept { refresh: [1; 16], access: [2; 16] });
        for (vain, kept) in [(None, None), (Some([7; 16]), None), (None, kept)] {
            let trail = Trail { rounds: 1, since: NOW, vain, kept };
            assert_eq!(Trail::read(&trail.to_bytes(), NOW), Some(trail));
        }
        for broken in [&b""[..], b"\x00", b"\x0012345678abc"] {
            assert_eq!(Trail::read(broken, NOW), None);
        }
    }
}
