//! `session.max_lifetime` and `session.idle_timeout` at the edge: the stamp's cookie, and what becomes
//! of a session that is over. The rules are in [`crate::policy::limits`].
//!
//! The stamp is a cookie of its own, whatever carries the tokens. A session that is over ends as by a
//! logout: its record, its access tokens, all its cookies. The tokens would else come back without the
//! stamp.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderValue;

use super::case::known;
use super::context::Passage;
use super::endpoints::logout;
use super::shown::{SeenCookies, Shown};
use super::{Gateway, deliver};
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::credentials::{CookieValue, Credential, Held};
use crate::policy::decide::Token;
use crate::policy::limits::{Facts, Judged, Left, Name, Over, Provenance, Stamp, Whose, judge};
use crate::policy::reason::Reason;
use crate::policy::secret::Secret;
use crate::policy::set_cookie::MAX_AGE_S_MAX;
use crate::policy::time::{Now, UnixSeconds};
use crate::refresh::{NewCookies, Presented};
use crate::session::handed_out;

/// What the stamp is sealed for.
const PURPOSE: &str = "session stamp";

/// The stamp as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Came {
    /// None came, or there are no limits.
    #[default]
    Nothing,
    /// It is not one that a gateway made.
    Forged,
    Stamp(Stamp),
}

/// One request's session, as far as its limits go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Good until now.
    stamp: Option<Stamp>,
    /// The access token that came without it: the browser has that one before it has the stamp.
    unstamped: Option<handed_out::Name>,
    /// The browser is to be given it.
    write: bool,
    /// A person asks: what is written says that the session is in use.
    uses: bool,
    /// No access token has shown yet that the stamp is this session's.
    unproven: bool,
    over: bool,
}

/// Opens the stamp, where there are limits.
pub fn came(gateway: &Gateway, held: &Held<'_>) -> Came {
    let CookieValue::Text(text) = &held.value else {
        let nothing = gateway.limits.are_off() || held.value == CookieValue::Absent;
        return if nothing { Came::Nothing } else { Came::Forged };
    };
    if gateway.limits.are_off() {
        return Came::Nothing;
    }
    let opened = gateway.seals.open(PURPOSE, text);
    opened.and_then(|bytes| Stamp::from_bytes(&bytes)).map_or(Came::Forged, Came::Stamp)
}

/// Judges the session of a request by its cookies. One that is over is ended, its credentials are
/// forgotten for this request, and its token is none. A bearer's request has no session here.
///
/// `uses`: a person asks, and not a page's timer.
pub async fn judged(
    gateway: &Gateway,
    token: Token,
    shown: &mut Shown<'_>,
    uses: bool,
    client: IpAddr,
    now: Now,
) -> (Token, Kept) {
    // Without the keys nobody knows who asks; such a request does not pass.
    if gateway.limits.are_off()
        || shown.is_bearer()
        || matches!(token, Token::KeysUnavailable { .. })
    {
        return (token, Kept::default());
    }
    let mut facts = known(&token).map(|verified| facts(gateway, &verified, now.unix));
    if shown.refresh.is_none() && !facts.is_some_and(|facts| facts.valid) {
        return (token, Kept::default());
    }
    let stamp = match shown.stamp {
        Came::Stamp(stamp) => Some(stamp),
        Came::Nothing | Came::Forged => None,
    };
    let refresh = shown.refresh.as_ref().map(|(issuer, token)| of_token(gateway, *issuer, token));
    let foreign = stamp.zip(facts).is_some_and(|(stamp, facts)| {
        !stamp.whose.is(&facts.whose) && Some(stamp.whose) != refresh
    });
    let mut unstamped = None;
    if let Some(facts) = facts.as_mut().filter(|_| foreign || stamp.is_none()) {
        unstamped = known(&token).map(|verified| handed_out::name(&verified));
        let beside = known(&token).and_then(|verified| gateway.handed_out.stamp_of(&verified));
        facts.provenance = match (beside, shown.seen.place) {
            (None, _) => Provenance::Login,
            (Some(_), None) => Provenance::HandedOut,
            (Some(stamp), Some(_)) => Provenance::UnderHandle(stamp),
        };
    }
    if foreign || shown.stamp == Came::Forged {
        let what = if foreign { "of another session" } else { "forged or broken" };
        tracing::warn!(target: "audit", %client, what, "session stamp refused");
    }
    match judge(&gateway.limits, stamp, facts, refresh, now.unix, uses) {
        Judged::Good { stamp, write } => {
            let unproven = facts.is_none();
            (token, Kept { stamp: Some(stamp), unstamped, write, uses, unproven, over: false })
        }
        Judged::Over(why) => {
            // Who proves nothing at all ends nobody's session.
            let proven = stamp.is_some() || facts.is_some();
            end(gateway, known(&token), shown, proven, why, client, now).await;
            (Token::Broken(Reason::SessionExpired), Kept { over: true, ..Kept::default() })
        }
    }
}

/// The session has ended by its limits.
async fn end(
    gateway: &Gateway,
    access: Option<Arc<Verified>>,
    shown: &mut Shown<'_>,
    proven: bool,
    why: Over,
    client: IpAddr,
    now: Now,
) {
    let refresh = shown.refresh.take();
    shown.credential = Credential::None;
    tracing::info!(target: "audit", %client, why = why.word(), "session over");
    gateway.metrics.sessions_over.with_label_values(&[why.word()]).inc();
    if !proven {
        return;
    }
    let refresh = refresh.map(|(issuer, token)| (issuer, Secret::new(token)));
    logout::over(gateway, access, refresh, client, now).await;
}

impl Kept {
    /// A request without a good access token was renewed with `head`: is the stamp this person's? If
    /// not, its session ends.
    pub async fn proves(
        &mut self,
        gateway: &Gateway,
        head: &Verified,
        presented: &Presented,
        now: Now,
    ) -> bool {
        let Some(stamp) = self.stamp.filter(|_| self.unproven) else { return true };
        let whose = whose(gateway, head);
        if !stamp.whose.is(&whose) {
            let Presented { issuer, refresh_token, client, .. } = presented;
            if stamp.whose != of_token(gateway, *issuer, refresh_token.expose()) {
                tracing::warn!(target: "audit", %client, what = "of another session",
                    "session stamp refused");
                let word = Over::Unknown.word();
                gateway.metrics.sessions_over.with_label_values(&[word]).inc();
                let refresh = Some((*issuer, refresh_token.clone()));
                logout::over(gateway, None, refresh, *client, now).await;
                *self = Kept { over: true, ..Kept::default() };
                return false;
            }
            self.stamp = Some(Stamp { whose, ..stamp });
            self.write = true;
        }
        self.unproven = false;
        true
    }

    /// Has the session ended by its limits?
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// A renewed pair is about to leave beside the stamp, or to who has it.
    pub async fn note_handed_out(&self, gateway: &Gateway, new: &NewCookies) {
        let Some(stamp) = self.stamp.map(|stamp| self.as_of_now(gateway, stamp)) else { return };
        let now = gateway.now();
        if let Some(verified) = gateway.owner(new.issuer, &new.access, now).await {
            self.note(gateway, &verified, stamp, now.unix);
        }
    }

    /// What came without a stamp may come so once more, before the stamp is there.
    fn note(&self, gateway: &Gateway, access: &Verified, stamp: Stamp, now: UnixSeconds) {
        if self.unstamped != Some(handed_out::name(access)) {
            gateway.handed_out.note(access, stamp, now);
        }
    }

    /// The stamp with the use that this request is.
    fn as_of_now(&self, gateway: &Gateway, stamp: Stamp) -> Stamp {
        let used = if self.uses { stamp.used.max(gateway.now().unix) } else { stamp.used };
        Stamp { used, ..stamp }
    }

    /// What is left of the session.
    pub fn left(&self, gateway: &Gateway, now: UnixSeconds) -> Left {
        self.stamp.map(|stamp| gateway.limits.left(&stamp, now)).unwrap_or_default()
    }

    /// How long a stream that this request opens may last.
    pub fn lasts(&self, gateway: &Gateway, now: UnixSeconds) -> Option<Duration> {
        self.left(gateway, now).lifetime_s.map(Duration::from_secs)
    }

    /// The Set-Cookie lines to answer with, made when the head leaves: so a slow response does not set
    /// an older time over a newer one.
    pub fn lines(&self, gateway: &Gateway, seen: SeenCookies) -> Vec<HeaderValue> {
        if self.over {
            return deliver::expiring(gateway, seen);
        }
        let Some(stamp) = self.stamp.filter(|_| self.write) else { return Vec::new() };
        written(gateway, self.as_of_now(gateway, stamp), seen)
    }
}

/// The stamp of an adopted login. The backend may as well have renewed a session of its own accord,
/// which makes it no younger: the same person's, in the same session, goes on, unless the token says
/// that they have logged in since. `goes_on`: by the token before it they have not.
pub fn at_login(
    gateway: &Gateway,
    issuer: IssuerId,
    access: Option<&Verified>,
    refresh: Option<&Secret>,
    goes_on: bool,
    passage: &Passage,
    now: Now,
) -> Vec<HeaderValue> {
    if gateway.limits.are_off() {
        return Vec::new();
    }
    let whose = match (access, refresh) {
        (Some(access), _) => whose(gateway, access),
        (None, Some(refresh)) => of_token(gateway, issuer, refresh.expose()),
        (None, None) => return Vec::new(),
    };
    let kept = &passage.carries.kept;
    let since = access.and_then(authenticated);
    let before = kept.stamp.filter(|stamp| {
        stamp.whose.is(&whose) && (goes_on || since.is_none_or(|since| since <= stamp.began))
    });
    if let (Some(before), Some(access)) = (before, access) {
        // As if this gateway had renewed it: it counts with the stamp only.
        kept.note(gateway, access, before, now.unix);
    }
    let began = before.map_or(now.unix, |stamp| stamp.began);
    let used = before.filter(|_| !kept.uses).map_or(now.unix, |stamp| stamp.used);
    written(gateway, Stamp { began, used, whose }, passage.carries.seen)
}

fn written(gateway: &Gateway, stamp: Stamp, seen: SeenCookies) -> Vec<HeaderValue> {
    let Some(sealed) = gateway.seals.seal(PURPOSE, &stamp.to_bytes()) else { return Vec::new() };
    // For as long as browsers keep anything: it has to outlast the tokens, and says itself when it
    // counts no more.
    deliver::stamp_lines(gateway, &sealed, MAX_AGE_S_MAX, seen)
}

fn facts(gateway: &Gateway, verified: &Verified, now: UnixSeconds) -> Facts {
    let first_seen = UnixSeconds(verified.expires_at.0.saturating_sub(verified.life_s));
    Facts {
        whose: whose(gateway, verified),
        valid: now < verified.expires_at,
        authenticated: authenticated(verified),
        issued: verified.issued_at.unwrap_or(first_seen),
        provenance: Provenance::Login,
    }
}

/// When the person logged in, by their token (`auth_time`, OpenID Connect Core §2).
pub fn authenticated(verified: &Verified) -> Option<UnixSeconds> {
    verified.claims.get("auth_time").and_then(serde_json::Value::as_u64).map(UnixSeconds)
}

fn whose(gateway: &Gateway, verified: &Verified) -> Whose {
    let issuer = verified.issuer;
    let session = verified.session_id.as_deref();
    Whose {
        person: name(gateway, "person", issuer, &verified.subject),
        session: session.map(|id| name(gateway, "session", issuer, id)),
    }
}

fn of_token(gateway: &Gateway, issuer: IssuerId, refresh: &str) -> Whose {
    Whose { person: name(gateway, "token", issuer, refresh), session: None }
}

/// All gateways, and the next start, know it by the same name: an issuer's place in the file may change.
fn name(gateway: &Gateway, kind: &str, issuer: IssuerId, value: &str) -> Name {
    let issuer = gateway.issuer_names.get(usize::from(issuer.0)).map_or("", AsRef::as_ref);
    let hash = digest(&SHA256, format!("{kind}\0{issuer}\0{value}").as_bytes());
    let half = hash.as_ref().first_chunk();
    half.copied().unwrap_or_default()
}
