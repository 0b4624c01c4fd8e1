//! How long sessions may last.

use std::time::Duration;

use super::Context;
use crate::config::raw::store::Kind;
use crate::config::raw::values::Period;
use crate::config::reports::{KeyPath, Problem};
use crate::policy::limits::Limits;

const FORM: &str = "expected whole seconds, from `1s` on";

pub fn limits(cx: &mut Context<'_>) -> Limits {
    let raw = &cx.raw.session;
    let at = KeyPath::root().key("session");
    let limits = Limits {
        max_lifetime_s: seconds(cx, &at.key("max_lifetime"), raw.max_lifetime),
        idle_timeout_s: seconds(cx, &at.key("idle_timeout"), raw.idle_timeout),
    };
    if let (Some(lifetime), Some(idle)) = (limits.max_lifetime_s, limits.idle_timeout_s)
        && idle >= lifetime
    {
        let what = "without effect: `max_lifetime` ends every session before";
        cx.error(&at.key("idle_timeout"), what, "expected less than `max_lifetime`");
    }
    // What is missing elsewhere is reported there.
    let keyless = cx.raw.cookies.encryption_keys.0.is_empty() && cx.raw.store.kind == Kind::Memory;
    if !limits.are_off() && keyless {
        let what = "needs `cookies.encryption_keys`: what tells when a session began is sealed, and \
                    has to outlast a restart";
        let problem = Problem::error(what).about_key();
        cx.report(&at, problem.help("or a shared store: its key serves as well"));
    }
    if limits.idle_timeout_s.is_none() {
        let passive = cx.raw.routes.iter().position(|route| route.passive);
        if let Some(index) = passive {
            let at = KeyPath::root().key("routes").item(index).key("passive");
            let problem = Problem::warning("without effect: there is no `session.idle_timeout`");
            cx.report(&at, problem);
        }
    }
    limits
}

fn seconds(cx: &mut Context<'_>, at: &KeyPath, period: Option<Period>) -> Option<u64> {
    let period = period?.0;
    if period.is_zero() || period != Duration::from_secs(period.as_secs()) {
        cx.error(at, "sessions are counted in seconds", FORM);
        return None;
    }
    Some(period.as_secs())
}
