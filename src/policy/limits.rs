//! How long a session may last, however often its tokens are renewed. Pure.
//!
//! A sealed [`Stamp`] in a cookie of its own says when a session began and when it was last used.
//!
//! 1. A stamp counts for the person and the session that it was made for; for others it is missing.
//! 2. Without one a session began when its access token says that the person logged in
//!    (`auth_time`), else when that token was issued; last used then, too. That needs a token that is
//!    still valid. One that was handed out here left beside a stamp: a browser that has it has the stamp,
//!    so the session is over. Under a handle ([`carrier`](super::carrier)) a browser has it before the
//!    stamp; then the one that is on its way counts. Else nobody knows when the session began, so it is
//!    over.
//! 3. A use is noted only once the last one is older than [`Limits::slack_s`], and an idle session is
//!    given as much longer: never shorter than promised, and a rare Set-Cookie.
//! 4. Nothing that is renewed makes a session any younger.

use super::time::UnixSeconds;

/// A stamp as bytes: two times and two names.
pub const STAMP_BYTES: usize = 48;
/// The part of the idle timeout by which a noted use may be too old.
const SLACK_PART: u64 = 20;

/// `session`, checked. Whole seconds, not zero; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub max_lifetime_s: Option<u64>,
    pub idle_timeout_s: Option<u64>,
}

/// Keyed by nothing: it travels sealed.
pub type Name = [u8; 16];

/// Whom a stamp was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Issuer and subject; or, before anybody knows these, issuer and refresh token.
    pub person: Name,
    /// Issuer and `sid`, if the token had one.
    pub session: Option<Name>,
}

/// What is remembered of a session beside its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub began: UnixSeconds,
    pub used: UnixSeconds,
    pub whose: Whose,
}

/// What a verified access token says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub whose: Whose,
    /// It has not expired.
    pub valid: bool,
    /// `auth_time` (OpenID Connect Core §2).
    pub authenticated: Option<UnixSeconds>,
    pub issued: UnixSeconds,
    pub provenance: Provenance,
}

/// Where an access token comes from that is shown without its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// From a login, as far as this gateway knows.
    Login,
    /// This gateway handed it to the browser, beside a stamp.
    HandedOut,
    /// This gateway put it under the browser's handle; this stamp may be on its way.
    UnderHandle(Stamp),
}

/// What one request means for its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    Good {
        stamp: Stamp,
        /// The browser has to be given it.
        write: bool,
    },
    Over(Over),
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    MaxLifetime,
    IdleTimeout,
    /// Nothing says when it began.
    Unknown,
}

/// Seconds until a session is over, if nobody uses it; `None`: not by this limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    pub lifetime_s: Option<u64>,
    pub idle_s: Option<u64>,
}

impl Limits {
    pub fn are_off(&self) -> bool {
        self.max_lifetime_s.is_none() && self.idle_timeout_s.is_none()
    }

    /// What is left of a session now.
    pub fn left(&self, stamp: &Stamp, now: UnixSeconds) -> Left {
        let left = |limit: u64, since| limit.saturating_sub(now.since(since));
        Left {
            lifetime_s: self.max_lifetime_s.map(|limit| left(limit, stamp.began)),
            idle_s: self.idle_timeout_s.map(|limit| left(limit + slack_s(limit), stamp.used)),
        }
    }

    /// How old a noted use may be before it is noted anew; `None` where uses do not matter.
    fn slack_s(&self) -> Option<u64> {
        self.idle_timeout_s.map(slack_s)
    }
}

fn slack_s(idle_timeout_s: u64) -> u64 {
    (idle_timeout_s / SLACK_PART).max(1)
}

impl Over {
    /// For the audit line and the metric.
    pub const fn word(self) -> &'static str {
        match self {
            Over::MaxLifetime => "max_lifetime",
            Over::IdleTimeout => "idle_timeout",
            Over::Unknown => "unknown",
        }
    }
}

impl Whose {
    /// The same person's, and not of two sessions: a backend may name a session in some of its
    /// tokens only.
    pub fn is(&self, other: &Whose) -> bool {
        let two = matches!((self.session, other.session), (Some(one), Some(other)) if one != other);
        self.person == other.person && !two
    }
}

impl Stamp {
    pub fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        let [began, used] = [self.began, self.used].map(|time| time.0.to_be_bytes());
        let session = self.whose.session.unwrap_or_default();
        let all = began.iter().chain(&used).chain(&self.whose.person).chain(&session);
        bytes.iter_mut().zip(all).for_each(|(byte, from)| *byte = *from);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Stamp> {
        let (began, rest) = bytes.split_first_chunk::<8>()?;
        let (used, rest) = rest.split_first_chunk::<8>()?;
        let (person, session) = rest.split_first_chunk::<16>()?;
        let session = Name::try_from(session).ok()?;
        let time = |bytes: &[u8; 8]| UnixSeconds(u64::from_be_bytes(*bytes));
        let whose = Whose {
            person: *person,
            session: Some(session).filter(|name| *name != Name::default()),
        };
        Some(Stamp { began: time(began), used: time(used), whose })
    }
}

/// Judges a session by its stamp.
///
/// `stamp`: what came, if it could be opened. `token`: what the access token says, if its signature
/// held. `refresh`: the name of the refresh token that came. `uses`: a person asks, and not a page's
/// timer.
pub fn judge(
    limits: &Limits,
    stamp: Option<Stamp>,
    token: Option<Facts>,
    refresh: Option<Whose>,
    now: UnixSeconds,
    uses: bool,
) -> Judged {
    let (mut stamp, made) = match (stamp, token) {
        (Some(stamp), None) => (stamp, false),
        (Some(stamp), Some(token)) if stamp.whose.is(&token.whose) => (stamp, false),
        // Made at a login that brought a refresh token alone.
        (Some(stamp), Some(token)) if refresh == Some(stamp.whose) => {
            (Stamp { whose: token.whose, ..stamp }, true)
        }
        (Some(_) | None, Some(token)) if token.valid => match token.provenance {
            Provenance::Login => (begun(&token, now), true),
            Provenance::UnderHandle(stamp) => (Stamp { whose: token.whose, ..stamp }, true),
            Provenance::HandedOut => return Judged::Over(Over::Unknown),
        },
        (Some(_) | None, Some(_)) | (None, None) => return Judged::Over(Over::Unknown),
    };
    let Left { lifetime_s, idle_s } = limits.left(&stamp, now);
    if lifetime_s == Some(0) {
        return Judged::Over(Over::MaxLifetime);
    }
    if idle_s == Some(0) {
        return Judged::Over(Over::IdleTimeout);
    }
    let stale = limits.slack_s().is_some_and(|slack| now.since(stamp.used) >= slack);
    let noted = uses && (stale || made);
    if noted {
        stamp.used = now;
    }
    Judged::Good { stamp, write: made || noted }
}

fn begun(token: &Facts, now: UnixSeconds) -> Stamp {
    // A clock that is ahead makes nobody younger.
    let issued = token.issued.min(now);
    let began = token.authenticated.map_or(issued, |time| time.min(issued));
    Stamp { began, used: issued, whose: token.whose }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_lifetime_s: Some(1_000), idle_timeout_s: Some(100) };
    const NOW: UnixSeconds = UnixSeconds(50_000);

    fn whose(person: u8, session: Option<u8>) -> Whose {
        Whose { person: [person; 16], session: session.map(|id| [id; 16]) }
    }

    fn ago(seconds: u64) -> UnixSeconds {
        UnixSeconds(NOW.0 - seconds)
    }

    fn stamp(began: u64, used: u64) -> Stamp {
        Stamp { began: ago(began), used: ago(used), whose: whose(1, None) }
    }

    fn token(issued: u64) -> Facts {
        Facts {
            whose: whose(1, None),
            valid: true,
            authenticated: None,
            issued: ago(issued),
            provenance: Provenance::Login,
        }
    }

    fn good(stamp: Stamp, write: bool) -> Judged {
        Judged::Good { stamp, write }
    }

    /// Judged with a valid token.
    fn by(limits: &Limits, stamp: Option<Stamp>, token: Facts, uses: bool) -> Judged {
        judge(limits, stamp, Some(token), None, NOW, uses)
    }

    #[test]
    fn a_session_is_over_in_the_second_in_which_its_lifetime_ends() {
        assert_eq!(by(&LIMITS, Some(stamp(999, 0)), token(0), true), good(stamp(999, 0), false));
        let over = Judged::Over(Over::MaxLifetime);
        assert_eq!(by(&LIMITS, Some(stamp(1_000, 0)), token(0), true), over);
        assert_eq!(judge(&LIMITS, Some(stamp(1_000, 0)), None, None, NOW, true), over);
    }

    #[test]
    fn an_idle_session_is_over_a_twentieth_after_its_timeout() {
        assert_eq!(
            by(&LIMITS, Some(stamp(200, 104)), token(0), false),
            good(stamp(200, 104), false)
        );
        let over = Judged::Over(Over::IdleTimeout);
        assert_eq!(by(&LIMITS, Some(stamp(200, 105)), token(0), true), over);
    }

    #[test]
    fn never_is_a_session_idle_for_less_than_its_timeout() {
        for idle in 1..400 {
            let limits = Limits { max_lifetime_s: None, idle_timeout_s: Some(idle) };
            // The last use that was not noted.
            let lag = slack_s(idle) - 1;
            let unnoted = by(&limits, Some(stamp(500, lag)), token(0), true);
            assert_eq!(unnoted, good(stamp(500, lag), false), "{idle}");
            let idle_until = by(&limits, Some(stamp(500, lag + idle)), token(0), false);
            assert_eq!(idle_until, good(stamp(500, lag + idle), false), "{idle}");
            let most = idle + slack_s(idle);
            let over = by(&limits, Some(stamp(500, most)), token(0), false);
            assert_eq!(over, Judged::Over(Over::IdleTimeout), "{idle}");
            assert!(most <= (idle * 21).div_ceil(20).max(idle + 1), "{idle}: {most}");
        }
    }

    #[test]
    fn a_use_is_noted_once_the_last_one_is_old_and_a_poll_never() {
        let judged = |used, uses| by(&LIMITS, Some(stamp(200, used)), token(0), uses);
        assert_eq!(judged(4, true), good(stamp(200, 4), false));
        assert_eq!(judged(5, true), good(stamp(200, 0), true));
        assert_eq!(judged(5, false), good(stamp(200, 5), false));
        let no_idle = Limits { idle_timeout_s: None, ..LIMITS };
        let long_ago = Some(stamp(900, 900));
        assert_eq!(by(&no_idle, long_ago, token(0), true), good(stamp(900, 900), false));
    }

    #[test]
    fn without_a_stamp_a_session_began_when_its_token_says_so() {
        assert_eq!(by(&LIMITS, None, token(30), true), good(stamp(30, 0), true));
        assert_eq!(by(&LIMITS, None, token(30), false), good(stamp(30, 30), true));
        let told = Facts { authenticated: Some(ago(700)), ..token(30) };
        assert_eq!(by(&LIMITS, None, told, true), good(stamp(700, 0), true));
        let old = Facts { authenticated: Some(ago(1_000)), ..token(30) };
        assert_eq!(by(&LIMITS, None, old, true), Judged::Over(Over::MaxLifetime));
        assert_eq!(by(&LIMITS, None, token(105), true), Judged::Over(Over::IdleTimeout));
    }

    #[test]
    fn a_token_from_the_future_makes_nobody_younger() {
        let ahead = Facts { issued: NOW.plus(60), authenticated: Some(NOW.plus(90)), ..token(0) };
        assert_eq!(by(&LIMITS, None, ahead, false), good(stamp(0, 0), true));
    }

    #[test]
    fn without_stamp_and_valid_token_nobody_knows_when_it_began() {
        let over = Judged::Over(Over::Unknown);
        let expired = Facts { valid: false, ..token(1) };
        assert_eq!(by(&LIMITS, None, expired, true), over);
        assert_eq!(judge(&LIMITS, None, None, Some(whose(9, None)), NOW, true), over);
        let dropped = Facts { provenance: Provenance::HandedOut, ..token(1) };
        assert_eq!(by(&LIMITS, None, dropped, true), over);
        assert_eq!(by(&LIMITS, Some(stamp(9, 5)), dropped, true), good(stamp(9, 0), true));
        let another = Facts { whose: whose(2, None), ..expired };
        assert_eq!(by(&LIMITS, Some(stamp(5, 5)), another, true), over);
    }

    #[test]
    fn a_stamp_counts_for_its_person_and_session_only() {
        let mine = |session| Facts { whose: whose(1, session), ..token(30) };
        let of = |session| Some(Stamp { whose: whose(1, session), ..stamp(900, 0) });
        let kept = |stamp: Option<Stamp>, token| matches!(by(&LIMITS, stamp, token, true), Judged::Good { stamp, .. } if stamp.began == ago(900));
        assert!(kept(of(None), mine(None)) && kept(of(Some(1)), mine(Some(1))));
        assert!(kept(of(None), mine(Some(1))) && kept(of(Some(1)), mine(None)));
        assert!(!kept(of(Some(1)), mine(Some(2))), "another login");
        let other = Facts { whose: whose(2, None), ..token(30) };
        let anew = Stamp { whose: whose(2, None), ..stamp(30, 0) };
        assert_eq!(by(&LIMITS, of(None), other, true), good(anew, true));
    }

    #[test]
    fn a_stamp_made_for_a_refresh_token_becomes_its_persons() {
        let made = Stamp { whose: whose(9, None), ..stamp(50, 2) };
        let judged = |refresh| judge(&LIMITS, Some(made), Some(token(1)), refresh, NOW, true);
        assert_eq!(judged(Some(whose(9, None))), good(stamp(50, 0), true));
        assert_eq!(judged(Some(whose(8, None))), good(stamp(1, 0), true));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        for whose in [whose(1, None), whose(1, Some(2))] {
            let stamp = Stamp { whose, ..stamp(40, 3) };
            assert_eq!(Stamp::from_bytes(&stamp.to_bytes()), Some(stamp));
        }
        let bytes = stamp(40, 3).to_bytes();
        assert_eq!(Stamp::from_bytes(&bytes[1..]), None);
        assert_eq!(Stamp::from_bytes(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn what_is_left_ends_with_the_session() {
        let left = |lifetime_s, idle_s| Left { lifetime_s, idle_s };
        assert_eq!(LIMITS.left(&stamp(990, 5), NOW), left(Some(10), Some(100)));
        assert_eq!(LIMITS.left(&stamp(2_000, 200), NOW), left(Some(0), Some(0)));
        assert_eq!(Limits::default().left(&stamp(1, 1), NOW), left(None, None));
        assert!(Limits::default().are_off() && !LIMITS.are_off());
    }
}
