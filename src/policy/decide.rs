//! The decision: what happens to a request, from what is known of it.
//!
//! [`decide`] is a total function over data. Where it needs to know more it says so
//! ([`Action::LookUp`], [`Action::Renew`]); the driver performs that one I/O and decides again.
//! Each asks at most once, so a request is decided after at most three rounds.

use std::net::IpAddr;
use std::sync::Arc;

use super::claims::Verified;
use super::reason::Reason;
use super::route::{Auth, Preflight, Route};
use super::secret::Secret;
use super::time::UnixSeconds;

/// What the access token is worth at this moment.
#[derive(Clone, Debug)]
pub enum Token {
    Absent,
    Valid(Arc<Verified>),
    /// Valid, and close enough to its end to be renewed.
    InWindow(Arc<Verified>),
    Expired(Arc<Verified>),
    Broken(Reason),
    KeysUnavailable {
        retry_after_s: u64,
    },
}

/// What the refresh token is worth: what the ledger knows, or what the backend just said.
#[derive(Clone, Debug)]
pub enum Session {
    /// Nobody has looked yet.
    NotAsked,
    /// No refresh token came, or nothing refreshes for its issuer.
    Absent,
    /// None could come: the browser shows it at the gateway's refresh path only (carrier `path`).
    Elsewhere,
    /// The backend may be asked (or a flight already runs).
    Live,
    /// The session was renewed a moment ago: its newest access token, still outside its window.
    Fresh(Renewed),
    /// The last attempt failed, or the endpoint's breaker is open.
    Cooling { retry_after_s: u64 },
    /// The backend refused this session.
    Dead,
    /// An old refresh token, used after the browser had shown a newer one.
    Spent,
    /// Logged out, or replaced by another login.
    Ended,
    /// A flight brought this token.
    Renewed(Renewed),
    /// A flight was answered: the session is over.
    Refused,
    /// A flight failed in a way that says nothing about the session.
    Unavailable { retry_after_s: u64 },
    /// The store that gateways share is away, and nobody may renew without it.
    StoreAway { retry_after_s: u64 },
}

/// A session's newest access token.
#[derive(Clone, Debug)]
pub struct Renewed {
    pub verified: Arc<Verified>,
    pub access: Secret,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// GET or HEAD that loads a page.
    Navigation,
    /// A form that loads a page by another method.
    FormNavigation,
    /// fetch, XHR, curl: anything else.
    Program,
    WebSocket,
    EventStream,
}

/// What the decision needs of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub client: Client,
    /// The token came as `Authorization: Bearer`: no cookies, no refresh, no redirect.
    pub bearer: bool,
    /// Images, fonts, styles, scripts, media, prefetches and preflights start no flight.
    pub may_refresh_alongside: bool,
    pub preflight: bool,
    pub source_ip: IpAddr,
}

/// Leave to forward. Made only by [`decide`]; without one nothing reaches an upstream.
#[derive(Clone, Debug)]
pub struct Permit {
    passes: Passes,
    alongside: Alongside,
}

/// Who passes with a [`Permit`].
#[derive(Clone, Debug)]
pub enum Passes {
    /// This person; their identity goes to the upstream.
    Person(Arc<Verified>),
    /// Somebody, on a route that lets anybody pass; no identity goes to the upstream.
    Anonymous,
    /// A CORS preflight: without body, cookies and Authorization.
    Preflight,
}

/// What goes on beside the forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alongside {
    Nothing,
    /// Start (or join) a flight.
    Refresh,
    /// Deliver the session's newest cookies, if unconfirmed.
    Deliver,
}

/// The shape of an answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Page,
    /// The answer to a form: it never reloads by itself, as that would lose what was sent.
    PageAfterForm,
    Json,
    /// 302 to the login page.
    Redirect,
    /// 303 to the login page, after a form.
    RedirectAfterForm,
    /// 307 to the refresh path, and from there back.
    Bounce,
    /// The answer to a form whose session must be renewed elsewhere first: it says how to go on
    /// without losing what was sent.
    PageToRenew,
    /// 200 `text/event-stream` with `retry:` and nothing else.
    EventStreamRetry,
}

impl Shape {
    pub const fn is_redirect(self) -> bool {
        match self {
            Shape::Redirect | Shape::RedirectAfterForm | Shape::Bounce => true,
            Shape::Page
            | Shape::PageAfterForm
            | Shape::PageToRenew
            | Shape::Json
            | Shape::EventStreamRetry => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub reason: Reason,
    pub shape: Shape,
    pub retry_after_s: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum Action {
    Forward(Permit),
    /// Look the refresh token up in the ledger, then decide again.
    LookUp,
    /// Renew and wait, then decide again.
    Renew,
    Answer(Answer),
}

impl Permit {
    const ANONYMOUS: Permit = Permit { passes: Passes::Anonymous, alongside: Alongside::Nothing };
    const PREFLIGHT: Permit = Permit { passes: Passes::Preflight, alongside: Alongside::Nothing };

    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    /// What goes on beside the request.
    pub fn alongside(&self) -> Alongside {
        self.alongside
    }
}

impl Token {
    /// What a verified token is worth at `now`.
    pub fn at(verified: Arc<Verified>, now: UnixSeconds) -> Token {
        if now >= verified.expires_at {
            Token::Expired(verified)
        } else if now >= verified.refresh_at {
            Token::InWindow(verified)
        } else {
            Token::Valid(verified)
        }
    }
}

/// Decides what happens to a request for `route`.
///
/// Never fails open: what no rule lets pass is answered.
pub fn decide(route: &Route, asked: &Asked, token: &Token, session: &Session) -> Action {
    if !source_allowed(route, asked.source_ip) {
        return answer(route, asked, Reason::SourceIp, None);
    }
    let preflight_passes = match route.preflight {
        Preflight::Pass => asked.preflight,
        Preflight::Deny => false,
    };
    match route.auth {
        Auth::Public => Action::Forward(Permit::ANONYMOUS),
        Auth::Required | Auth::Optional if preflight_passes => Action::Forward(Permit::PREFLIGHT),
        Auth::Required | Auth::Optional => judge(route, asked, token, session),
    }
}

fn judge(route: &Route, asked: &Asked, token: &Token, session: &Session) -> Action {
    match token {
        Token::Valid(verified) => admit(route, asked, verified, Alongside::Nothing),
        Token::InWindow(verified) => in_window(route, asked, verified, session),
        Token::Expired(verified) => renew(route, asked, Reason::Expired, Some(verified), session),
        Token::Absent => renew(route, asked, Reason::NoCredentials, None, session),
        Token::Broken(reason) => renew(route, asked, *reason, None, session),
        Token::KeysUnavailable { retry_after_s } => {
            answer(route, asked, Reason::KeysUnavailable, Some(*retry_after_s))
        }
    }
}

/// The token still holds: the request passes whatever the refresh does.
fn in_window(route: &Route, asked: &Asked, verified: &Arc<Verified>, session: &Session) -> Action {
    let alongside = match session {
        Session::NotAsked if asked.bearer => Alongside::Nothing,
        Session::NotAsked => return Action::LookUp,
        Session::Live if asked.may_refresh_alongside => Alongside::Refresh,
        Session::Fresh(head) | Session::Renewed(head) if same_person(verified, head) => {
            Alongside::Deliver
        }
        Session::Live
        | Session::Fresh(_)
        | Session::Renewed(_)
        | Session::Absent
        | Session::Elsewhere
        | Session::Cooling { .. }
        | Session::Dead
        | Session::Spent
        | Session::Ended
        | Session::Refused
        | Session::Unavailable { .. }
        | Session::StoreAway { .. } => Alongside::Nothing,
    };
    admit(route, asked, verified, alongside)
}

/// The token does not hold: only a renewed one lets the request pass.
///
/// `presented` is the expired token if its signature held; a renewed token of somebody else is
/// refused, since a refresh cookie can be planted.
fn renew(
    route: &Route,
    asked: &Asked,
    reason: Reason,
    presented: Option<&Arc<Verified>>,
    session: &Session,
) -> Action {
    match session {
        Session::NotAsked if asked.bearer => refuse(route, asked, reason),
        Session::NotAsked => Action::LookUp,
        Session::Absent => refuse(route, asked, reason),
        Session::Elsewhere if asked.bearer => refuse(route, asked, reason),
        Session::Elsewhere => renew_elsewhere(route, asked, reason),
        Session::Live | Session::Cooling { .. } => Action::Renew,
        Session::Fresh(head) | Session::Renewed(head) => {
            if presented.is_none_or(|token| same_person(token, head)) {
                admit(route, asked, &head.verified, Alongside::Deliver)
            } else {
                refuse(route, asked, reason)
            }
        }
        Session::Dead | Session::Spent | Session::Ended | Session::Refused => {
            refuse(route, asked, Reason::RefreshRefused)
        }
        Session::Unavailable { retry_after_s } => {
            answer(route, asked, Reason::RefreshUnavailable, Some(*retry_after_s))
        }
        Session::StoreAway { retry_after_s } => {
            answer(route, asked, Reason::StoreUnavailable, Some(*retry_after_s))
        }
    }
}

/// Only a request to the refresh path can renew: who can be sent there is, others are told. An
/// optional route does not tell those who can be served as nobody: visitors who never logged in, and
/// programs that may not know what to make of a 401 there.
fn renew_elsewhere(route: &Route, asked: &Asked, reason: Reason) -> Action {
    let known = reason != Reason::NoCredentials;
    let shape = match asked.client {
        Client::Navigation | Client::EventStream => Shape::Bounce,
        Client::FormNavigation => Shape::PageToRenew,
        Client::Program | Client::WebSocket => Shape::Json,
    };
    match refuse(route, asked, reason) {
        Action::Forward(permit) if !(known && shape == Shape::Bounce) => Action::Forward(permit),
        Action::Forward(_) | Action::LookUp | Action::Renew | Action::Answer(_) => {
            Action::Answer(Answer { reason, shape, retry_after_s: None })
        }
    }
}

/// Are these two tokens one person's?
pub fn same_person(token: &Verified, head: &Renewed) -> bool {
    token.issuer == head.verified.issuer && token.subject == head.verified.subject
}

/// The person is known: may they pass here? Judged for every request, never remembered.
fn admit(route: &Route, asked: &Asked, verified: &Arc<Verified>, alongside: Alongside) -> Action {
    for requirement in &route.require {
        if let Err(reason) = requirement.check(verified) {
            return answer(route, asked, reason, None);
        }
    }
    Action::Forward(Permit { passes: Passes::Person(Arc::clone(verified)), alongside })
}

/// Nobody is known. An optional route passes them as nobody, unless it requires something of them.
fn refuse(route: &Route, asked: &Asked, reason: Reason) -> Action {
    match route.auth {
        Auth::Optional if route.require.is_empty() => Action::Forward(Permit::ANONYMOUS),
        Auth::Optional | Auth::Required | Auth::Public => answer(route, asked, reason, None),
    }
}

fn source_allowed(route: &Route, source_ip: IpAddr) -> bool {
    match &route.source_ips {
        None => true,
        Some(nets) => nets.iter().any(|net| net.contains(&source_ip)),
    }
}

fn answer(route: &Route, asked: &Asked, reason: Reason, retry_after_s: Option<u64>) -> Action {
    let shape = shape(asked, reason, route.login_redirect.is_some());
    Action::Answer(Answer { reason, shape, retry_after_s })
}

impl Answer {
    /// An answer before any route is known.
    pub fn unrouted(client: Client, reason: Reason) -> Answer {
        let shape = match client {
            Client::Navigation => Shape::Page,
            Client::FormNavigation => Shape::PageAfterForm,
            Client::Program | Client::WebSocket | Client::EventStream => Shape::Json,
        };
        Answer { reason, shape, retry_after_s: None }
    }
}

/// The form of an answer: people get pages and redirects, programs get JSON.
fn shape(asked: &Asked, reason: Reason, can_log_in: bool) -> Shape {
    let asks_to_log_in = can_log_in && !asked.bearer && reason.means_log_in();
    match (asked.client, reason) {
        (Client::Navigation, _) if asks_to_log_in => Shape::Redirect,
        (Client::FormNavigation, _) if asks_to_log_in => Shape::RedirectAfterForm,
        // An EventSource gives up for ever on any status but 200, so it is told to come back.
        (
            Client::EventStream,
            Reason::RefreshUnavailable | Reason::KeysUnavailable | Reason::StoreUnavailable,
        ) => Shape::EventStreamRetry,
        (Client::Navigation, _) if !asked.bearer => Shape::Page,
        (Client::FormNavigation, _) if !asked.bearer => Shape::PageAfterForm,
        (Client::Navigation | Client::FormNavigation, _) => Shape::Json,
        (Client::Program | Client::WebSocket | Client::EventStream, _) => Shape::Json,
    }
}
