//! The words of our own answers: small pages for people, JSON for programs.

use crate::policy::decide::Shape;
use crate::policy::reason::Reason;

/// Headline and advice for a person. Says nothing that helps an attacker, and never quotes input.
pub fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::NoCredentials => ("Please log in", "This page is for people who are logged in."),
        Reason::Expired | Reason::RefreshRefused | Reason::SessionExpired | Reason::Revoked => {
            ("Please log in again", "Your session has ended.")
        }
        Reason::MalformedToken
        | Reason::TokenTooLarge
        | Reason::JweUnsupported
        | Reason::WrongAlgorithm
        | Reason::UnknownKey
        | Reason::BadSignature
        | Reason::WrongIssuer
        | Reason::WrongAudience
        | Reason::WrongType
        | Reason::NotYetValid
        | Reason::MissingClaim => ("Please log in again", "Your session could not be recognised."),
        Reason::MissingRole | Reason::MissingScope | Reason::MissingValue => {
            ("No access", "You are logged in, but your account may not open this page.")
        }
        Reason::SourceIp => ("No access", "This page cannot be opened from where you are."),
        Reason::CrossSite => ("No access", "This can only be asked for by a page of this site."),
        Reason::BadIdentity => {
            ("No access", "Your account has a value that cannot be passed on safely.")
        }
        Reason::AmbiguousPath => ("Bad address", "This address can be read in more than one way."),
        Reason::BadRequest => ("Bad request", "Your browser sent something unexpected."),
        Reason::ConflictingCredentials => {
            ("Bad request", "The request carries two different tokens.")
        }
        Reason::DuplicateCredential => {
            ("Please reload", "Your browser sent a cookie twice. It was reset; reload the page.")
        }
        Reason::NothingToRefresh => ("Please log in", "There is no session to renew."),
        Reason::RefreshLoop => (
            "Your browser does not keep your session",
            "It was renewed several times in a row, and each time your browser came back without it. \
             Allow this site to keep cookies, or delete the ones it has, and open the page again. If \
             that does not help, the clocks of this site's servers may differ.",
        ),
        Reason::NoRoute => ("Not found", "There is nothing at this address."),
        Reason::MethodNotAllowed => ("Not possible", "This address does not take such a request."),
        Reason::BodyTooLarge => ("Too large", "What you sent is larger than is accepted here."),
        Reason::HeaderTooLarge => {
            ("Too large", "Your browser sent too many or too large cookies or headers.")
        }
        Reason::KeysUnavailable | Reason::RefreshUnavailable | Reason::StoreUnavailable => (
            "One moment",
            "Your session cannot be checked right now. You are still logged in; this page tries \
             again by itself.",
        ),
        Reason::UpstreamUnreachable => ("Not available", "The application cannot be reached."),
        Reason::UpstreamTimeout => ("Not available", "The application took too long to answer."),
        Reason::Internal => ("Something went wrong", "The gateway failed to handle this request."),
    }
}

/// One page, complete, without anything from outside: no script, no image, no font.
///
/// `reload_after_s` makes the page ask again by itself.
/// `at` is an address of ours, if not the page's own.
pub fn html(
    reason: Reason,
    request_id: &str,
    reload_after_s: Option<u64>,
    at: Option<&str>,
) -> String {
    let (headline, advice) = words(reason);
    page(headline, advice, reason, request_id, reload_after_s.map(|seconds| (seconds, at)))
}

/// A page that is on its way to the refresh path: the next request is this site's own, and so has all
/// its cookies.
pub fn html_on_the_way(reason: Reason, request_id: &str, at: Option<&str>) -> String {
    page("One moment", "This page opens by itself.", reason, request_id, Some((0, at)))
}

/// For somebody who sent a form while their session had to be renewed elsewhere. Their browser has
/// what they wrote, and sends it again if this page is reloaded.
pub fn html_to_renew(reason: Reason, request_id: &str, renew_at: Option<&str>) -> String {
    let renew_at = renew_at.unwrap_or("/");
    let advice = format!(
        "Your session has to be renewed, and what you sent has not reached the application. To send it \
         again: <a href=\"{renew_at}\" target=\"_blank\" rel=\"noopener\">renew the session in a new \
         tab</a>, then come back to this one and reload it."
    );
    page("Nothing is lost yet", &advice, reason, request_id, None)
}

/// The same for somebody who sent a form. A reload would be a GET and lose what they wrote, so they
/// are told to send it again.
pub fn html_after_form(reason: Reason, request_id: &str) -> String {
    let (headline, advice) = match reason {
        Reason::KeysUnavailable | Reason::RefreshUnavailable | Reason::StoreUnavailable => (
            "One moment",
            "Your session cannot be checked right now. You are still logged in, but what you sent has \
             not reached the application: go back and send it again.",
        ),
        reason => words(reason),
    };
    page(headline, advice, reason, request_id, None)
}

fn page(
    headline: &str,
    advice: &str,
    reason: Reason,
    request_id: &str,
    reload: Option<(u64, Option<&str>)>,
) -> String {
    let reload = reload
        .map(|(seconds, at)| {
            let at = at.map(|at| format!(";url={at}")).unwrap_or_default();
            format!("<meta http-equiv=\"refresh\" content=\"{seconds}{at}\">\n")
        })
        .unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{reload}\
         <title>{headline}</title>\n\
         <style>body{{font:1.1em/1.5 system-ui,sans-serif;max-width:30em;margin:15vh auto;\
         padding:0 1em}}small{{opacity:.7}}</style>\n\
         <main>\n<h1>{headline}</h1>\n<p>{advice}</p>\n\
         <p><small>{reason} · {request_id}</small></p>\n</main>\n</html>\n"
    )
}

/// What the tab shows that somebody opened to renew their session.
pub const RENEWED: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n\
    <title>Renewed</title>\n\
    <style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:30em;margin:15vh auto;\
    padding:0 1em}</style>\n\
    <main>\n<h1>Your session is renewed</h1>\n<p>Close this tab, go back to the other one and reload \
    it: your browser sends what you wrote again.</p>\n</main>\n</html>\n";

/// Asks whether a person wants to leave; the form goes to where the page came from, with its query.
pub const LOGOUT: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n\
    <title>Log out?</title>\n\
    <style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:30em;margin:15vh auto;\
    padding:0 1em}button{font:inherit;padding:.4em 1em}</style>\n\
    <main>\n<h1>Log out?</h1>\n<p>Your session ends in every tab of this browser.</p>\n\
    <form method=\"post\"><button>Log out</button></form>\n</main>\n</html>\n";

/// `{"error","reason","request_id","login_url"?}`.
pub fn json(status: u16, reason: Reason, request_id: &str, login_url: Option<&str>) -> String {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        error: &'static str,
        reason: &'static str,
        request_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        login_url: Option<&'a str>,
    }
    let body = Body { error: error_word(status), reason: reason.word(), request_id, login_url };
    // Strings only: serialising cannot fail.
    serde_json::to_string(&body).unwrap_or_default()
}

fn error_word(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        409 => "conflict",
        413 => "payload_too_large",
        431 => "header_too_large",
        502 => "bad_gateway",
        503 => "unavailable",
        504 => "gateway_timeout",
        _ => "internal",
    }
}

/// The media type of a shape's body; `None` has no body.
pub fn media_type(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Page | Shape::PageAfterForm | Shape::PageToRenew => Some("text/html; charset=utf-8"),
        Shape::Json => Some("application/json"),
        Shape::EventStreamRetry => Some("text/event-stream"),
        Shape::Redirect | Shape::RedirectAfterForm | Shape::Bounce => None,
    }
}
