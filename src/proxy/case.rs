//! One request's case: what is known of it, what is found out, and the verdict.

mod own;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::Gateway;
use super::bounce::digest;
use super::context::{Carried, Carries, Renewal};
use super::denied::{end_record, is_head_denied, without_denied};
use super::limits::Kept;
use super::observe::Event;
use super::shown::Shown;
use super::{carrier, deliver, limits};
use crate::clock;
use crate::policy::bounce::Trail;
use crate::policy::claims::{IssuerId, Verified};
use crate::policy::credentials::Credential;
use crate::policy::decide::{
    Action, Alongside, Answer, Asked, Client, Permit, Session, Token, decide,
};
use crate::policy::reason::Reason;
use crate::policy::route::{Auth, Route};
use crate::policy::secret::Secret;
use crate::policy::time::Now;
use crate::refresh::{Presented, SessionHandle, TokenHash};
use crate::token::Verdict;

/// A WebSocket handshake is not held longer than this: browsers show nothing while they wait.
const UPGRADE_WAIT_MAX: Duration = Duration::from_secs(3);
/// [`decide`] asks for a look-up and a renewal at most once each.
const ROUNDS_MAX: usize = 3;

/// What is known of a request.
pub struct Case<'a> {
    gateway: &'a Gateway,
    route: &'a Route,
    asked: Asked,
    shown: Shown<'a>,
    token: Token,
    kept: Kept,
    session: Session,
    handle: Option<SessionHandle>,
    /// A valid token is seen for the first time, without the refresh token that belongs to it.
    first_sight: bool,
    now: Now,
    renewal: &'a mut Renewal,
}

/// The verdict.
#[allow(clippy::large_enum_variant, reason = "lives for one match; a box would be an allocation")]
pub enum Decided {
    Forward(Permit, Carries),
    /// The answer, and cookies that a renewal brought on the way to it.
    Answer(Answer, Vec<HeaderValue>),
}

impl<'a> Case<'a> {
    /// Verifies what was shown. `uses`: it keeps the session from being idle. `renewal` is told what a
    /// refresh takes later.
    pub async fn open(
        gateway: &'a Gateway,
        route: &'a Route,
        asked: Asked,
        mut shown: Shown<'a>,
        uses: bool,
        now: Now,
        renewal: &'a mut Renewal,
    ) -> Case<'a> {
        let (token, cached) = judge(gateway, route, &shown, now).await;
        let token = without_denied(gateway, token, &mut shown, now).await;
        if let Some(issuer) = route.adopt_tokens {
            Box::pin(own::forget_denied(gateway, issuer, &mut shown, now)).await;
        }
        if let Token::Broken(reason) = token {
            tracing::info!(target: "audit", route = %route.name, client = %asked.source_ip, %reason, "token refused");
        }
        let (token, kept) =
            within_limits(gateway, route, &asked, token, &mut shown, uses, now).await;
        let mut case = Case {
            gateway,
            route,
            asked,
            shown,
            token,
            kept,
            session: Session::NotAsked,
            handle: None,
            first_sight: false,
            now,
            renewal,
        };
        if case.waits().is_none() {
            let issuers = &case.route.issuers;
            let elsewhere = case.route.credentials.cookie
                && !case.asked.bearer
                && !case.kept.is_over()
                && gateway.refreshes_elsewhere(&case.token, issuers);
            case.session = if elsewhere { Session::Elsewhere } else { Session::Absent };
            case.first_sight = elsewhere && !cached && matches!(case.token, Token::Valid(_));
        } else if !cached {
            case.note_first_sight();
        }
        case
    }

    /// The first sight of a valid token is where a session's newest refresh token may be seen for
    /// the first time, which confirms it. Later sights cost nothing.
    fn note_first_sight(&self) {
        if let Token::Valid(_) = self.token
            && let Some(presented) = self.presented()
        {
            self.gateway.refresher.note_shown(&presented, self.now);
        }
    }

    /// Does it matter what the browser brought back from the refresh path?
    pub fn needs_trail(&self) -> bool {
        self.first_sight || self.needs_bounce()
    }

    /// Would the request be sent to the refresh path?
    fn needs_bounce(&self) -> bool {
        match (&self.session, &self.token) {
            (_, Token::Valid(_) | Token::InWindow(_)) => false,
            (session, _) => matches!(session, Session::Elsewhere),
        }
    }

    /// What the browser brought back from the refresh path: it is not sent there twice in vain, and
    /// what it has kept is confirmed.
    pub fn heed(&mut self, trail: &Trail) {
        // Most requests bring nothing, and a hash of the token is their dearest step then.
        if trail.vain.is_none() && trail.kept.is_none() {
            return;
        }
        let access = self.shown.access().map(digest);
        if trail.vain.is_some() && trail.vain == access && self.needs_bounce() {
            self.session = Session::Absent;
        }
        if let (Some(kept), Token::Valid(verified), true) =
            (trail.kept, &self.token, self.first_sight)
            && Some(kept.access) == access
        {
            let refresh = TokenHash::from_bytes(kept.refresh);
            self.gateway.refresher.note_kept(verified, refresh, self.now);
        }
    }

    /// Decides, looking up and renewing where the decision asks for it. All but forwarding is boxed:
    /// most requests do nothing else, and would carry the room for it.
    pub async fn decide(&mut self) -> Decided {
        for _ in 0..ROUNDS_MAX {
            match decide(self.route, &self.asked, &self.token, &self.session) {
                Action::LookUp => Box::pin(self.look_up()).await,
                Action::Renew => Box::pin(self.renew()).await,
                Action::Forward(permit) => return self.forward(permit).await,
                Action::Answer(answer) => return Box::pin(self.answer(answer)).await,
            }
        }
        // Unreachable while `decide` keeps its word; closed if it ever breaks it.
        Box::pin(self.answer(Answer::unrouted(self.asked.client, Reason::Internal))).await
    }

    async fn look_up(&mut self) {
        (self.session, self.handle) = match self.presented() {
            Some(presented) => {
                self.renewal.token = self.gateway.refresher.name_of(&presented);
                self.gateway.refresher.look_up(&presented, self.now).await
            }
            None => (Session::Absent, None),
        };
        self.refuse_denied().await;
    }

    async fn renew(&mut self) {
        (self.session, self.handle) = match self.presented() {
            Some(presented) => {
                let wait = self.waits().map_or(Duration::ZERO, |waits| waits.wait);
                let wait = match self.asked.client {
                    Client::WebSocket => wait.min(UPGRADE_WAIT_MAX),
                    Client::Navigation
                    | Client::FormNavigation
                    | Client::Program
                    | Client::EventStream => wait,
                };
                let since = clock::now().uptime;
                let renewed = self.gateway.refresher.renew(&presented, wait, self.now).await;
                self.renewal.waited = clock::now().uptime.saturating_sub(since);
                renewed
            }
            None => (Session::Absent, None),
        };
        self.refuse_denied().await;
    }

    /// What was denied while the request waited, or what a refresh brought in its place, is no proof.
    async fn refuse_denied(&mut self) {
        let (Session::Fresh(head) | Session::Renewed(head)) = &self.session else { return };
        if is_head_denied(self.gateway, &self.token, &head.verified) {
            end_record(self.gateway, head.verified.issuer, &mut self.shown, self.now).await;
            self.token = Token::Broken(Reason::Revoked);
            (self.session, self.handle) = (Session::Absent, None);
        } else if let Some(presented) = self.presented()
            && !self.kept.proves(self.gateway, &head.verified, &presented, self.now).await
        {
            self.token = Token::Broken(Reason::SessionExpired);
            (self.session, self.handle) = (Session::Absent, None);
        }
    }

    fn waits(&self) -> Option<super::Waits> {
        let (issuer, _) = self.shown.refresh.as_ref()?;
        self.gateway.waits.get(usize::from(issuer.0)).copied().flatten()
    }

    /// What the session is asked with; `None` where nothing can be refreshed.
    fn presented(&self) -> Option<Presented> {
        self.waits()?;
        let (issuer, refresh_token) = self.shown.refresh.as_ref()?;
        Some(Presented {
            issuer: *issuer,
            refresh_token: Secret::new(refresh_token.as_ref()),
            access: known(&self.token).filter(|token| token.issuer == *issuer),
            client: self.asked.source_ip,
        })
    }

    async fn forward(&mut self, permit: Permit) -> Decided {
        let hold = match permit.alongside() {
            Alongside::Nothing => None,
            Alongside::Deliver => Some(Duration::ZERO),
            Alongside::Refresh => {
                self.handle = self
                    .presented()
                    .and_then(|presented| self.gateway.refresher.start(&presented, self.now));
                self.waits().map(|waits| waits.hold)
            }
        };
        let session = hold.zip(self.handle.take()).map(|(hold, handle)| Carried {
            handle,
            hold,
            vouched: known(&self.token),
            flew: permit.alongside() == Alongside::Refresh,
        });
        let moving = session.as_ref().and_then(|_| self.shown.moving(self.gateway));
        let carries = Carries {
            access: self.route.pass_access_token.then(|| self.access_in_force()).flatten(),
            own_cookies: match self.route.adopt_tokens {
                Some(_) => Some(Box::pin(self.own_cookies()).await),
                None => None,
            },
            session,
            kept: self.kept,
            seen: self.shown.seen,
            moving,
            held: self.held(),
        };
        Decided::Forward(permit, carries)
    }

    /// The token by which the request passes: the renewed one if there is one.
    fn access_in_force(&self) -> Option<Secret> {
        match (&self.token, &self.session) {
            (Token::Valid(_) | Token::InWindow(_), _) => self.shown.access().map(Secret::new),
            (_, Session::Fresh(head) | Session::Renewed(head)) => Some(head.access.clone()),
            (_, _) => None,
        }
    }

    async fn answer(&self, answer: Answer) -> Decided {
        let new = match &self.handle {
            Some(handle) => handle.deliverable(self.now).await,
            None => None,
        };
        let seen = self.shown.seen;
        // First, since what comes after it may be the last that a browser keeps.
        let mut lines = self.kept.lines(self.gateway, seen);
        if let Some(mut new) = new {
            self.kept.note_handed_out(self.gateway, &new).await;
            new.refresh = new.refresh.or_else(|| self.shown.moving(self.gateway));
            lines.extend(deliver::lines(self.gateway, &new, seen).await);
        }
        carrier::refused(self.gateway, seen, answer.reason, self.now).await;
        Decided::Answer(answer, lines)
    }

    /// The refresh token that a handle stood for.
    fn held(&self) -> Option<(IssuerId, Secret)> {
        self.shown.seen.place?;
        let (issuer, refresh) = self.shown.refresh.as_ref()?;
        Some((*issuer, Secret::new(refresh.as_ref())))
    }
}

/// Verifies the access token, where the route looks at it. True if its verification was remembered.
async fn judge(gateway: &Gateway, route: &Route, shown: &Shown<'_>, now: Now) -> (Token, bool) {
    let looks = match route.auth {
        Auth::Public => false,
        Auth::Required | Auth::Optional => true,
    };
    if !looks {
        return (Token::Absent, true);
    }
    let (token, cached) = verify(gateway, shown, &route.issuers, now).await;
    if let (Some(observer), Some(_)) = (&gateway.observer, shown.access()) {
        observer(Event::Verified { route: &route.name, cached });
    }
    (token, cached)
}

/// Judges the session by its limits. On the auth backend's own route, too, where no token is asked for.
async fn within_limits(
    gateway: &Gateway,
    route: &Route,
    asked: &Asked,
    token: Token,
    shown: &mut Shown<'_>,
    uses: bool,
    now: Now,
) -> (Token, Kept) {
    if gateway.limits.are_off() {
        return (token, Kept::default());
    }
    let token = match route.auth {
        Auth::Public => verify(gateway, shown, &route.issuers, now).await.0,
        Auth::Required | Auth::Optional => token,
    };
    Box::pin(limits::judged(gateway, token, shown, uses, asked.source_ip, now)).await
}

/// Verifies the access token against these issuers. True if its verification was remembered.
pub async fn verify(
    gateway: &Gateway,
    shown: &Shown<'_>,
    issuers: &[IssuerId],
    now: Now,
) -> (Token, bool) {
    let token = match &shown.credential {
        Credential::None => return (Token::Absent, true),
        Credential::Broken { .. } => return (Token::Broken(Reason::MalformedToken), true),
        Credential::Cookie(token) => token.as_ref(),
        Credential::Bearer(token) => token,
    };
    if let Some(verified) = gateway.tokens.cached(token, issuers, now) {
        return (Token::at(verified, now.unix), true);
    }
    let token = match Box::pin(gateway.tokens.verify(token, issuers, now)).await {
        Verdict::Good(verified) | Verdict::Expired(verified) => Token::at(verified, now.unix),
        Verdict::Bad(reason) => Token::Broken(reason),
        Verdict::KeysUnavailable { retry_after_s } => Token::KeysUnavailable { retry_after_s },
    };
    (token, false)
}

/// Whose token it is, if its signature held.
pub fn known(token: &Token) -> Option<Arc<Verified>> {
    match token {
        Token::Valid(verified) | Token::InWindow(verified) | Token::Expired(verified) => {
            Some(Arc::clone(verified))
        }
        Token::Absent | Token::Broken(_) | Token::KeysUnavailable { .. } => None,
    }
}
