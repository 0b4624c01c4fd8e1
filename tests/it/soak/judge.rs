//! What a browser may be answered, and what never.

use std::time::Duration;

use serde_json::Value;

use super::World;
use super::app::YOU_ARE;
use super::browser::Session;
use super::families::parse;
use super::jar::{Kind, kind, subject};
use crate::support::Reply;

/// Is the browser still logged in after this answer?
pub fn stays(world: &World, session: &Session, reply: &Reply) -> bool {
    let who = session.who.as_str();
    match reply.status {
        200 => {
            if identity(reply) != who {
                let story = format!("{who} is told: {}", reply.text());
                world.tally.wrong("another identity for the browser", story);
            }
            true
        }
        401 | 302 => {
            logged_off(world, who, reply);
            false
        }
        503 => {
            world.tally.add(&format!("answers: 503 {}", reason(reply)));
            true
        }
        other => {
            let story = format!("{other}: {}", world.tally.story(who));
            world.tally.wrong("an answer that should not be", story);
            true
        }
    }
}

/// A browser that believed to be logged in was told that it is not.
fn logged_off(world: &World, who: &str, reply: &Reply) {
    world.tally.add("logouts: all");
    match world.backend.families().explain(who) {
        Ok(why) => world.tally.add(&format!("logouts: explained: {why}")),
        Err(why) => {
            let story = world.tally.story(who);
            world.tally.wrong("unexplained logout", format!("{} ({why}) {story}", reason(reply)));
        }
    }
}

/// Takes the session's cookies out of a response, as a browser does; and looks whose they are.
pub fn take_cookies(world: &World, session: &Session, reply: &Reply) {
    let mut jar = session.jar.lock().expect("no panic under the lock");
    for (name, cookie) in reply.cookies() {
        let Some(kind) = kind(&name) else { continue };
        if cookie.clears() {
            if reply.status != 204 {
                world.tally.wrong("cookies cleared", world.tally.story(&session.who));
            }
            continue;
        }
        let (owner, place) = match kind {
            Kind::Access => (subject(&cookie.value), &mut jar.access),
            Kind::Refresh => {
                (parse(&cookie.value).map(|(who, _)| who.to_string()), &mut jar.refresh)
            }
        };
        if owner.as_deref() != Some(&session.who) {
            let story = format!("{} gets a token of {owner:?}", session.who);
            world.tally.wrong("another's token for the browser", story);
            continue;
        }
        if kind == Kind::Refresh {
            world.tally.add("browsers: refresh cookies delivered");
            let number = |token: &str| parse(token).map_or(0, |(_, number)| number);
            if number(&cookie.value) < number(place) {
                // Two responses may overtake one another on their way; more than a few is a fault.
                world.tally.add("browsers: refresh cookies that came late");
            }
        }
        *place = cookie.value;
    }
}

/// Did the login work?
pub fn logged_in(world: &World, session: &Session, reply: &Reply) -> bool {
    if reply.status != 303 {
        world.tally.add(&format!("browsers: logins answered {} {}", reply.status, reason(reply)));
        return false;
    }
    take_cookies(world, session, reply);
    let jar = session.jar.lock().expect("no panic under the lock");
    if jar.access.is_empty() || jar.refresh.is_empty() {
        world.tally.wrong("a login without cookies", format!("{:?}", reply.head));
        return false;
    }
    world.tally.add("browsers: logins");
    true
}

/// Did the logout work?
pub fn logged_out(world: &World, session: &Session, reply: &Reply) -> bool {
    if reply.status != 204 {
        world.tally.add(&format!("browsers: logouts answered {} {}", reply.status, reason(reply)));
        return false;
    }
    world.tally.add("browsers: logouts on purpose");
    let cookies = reply.cookies();
    let cleared = cookies.iter().filter(|(name, cookie)| kind(name).is_some() && cookie.clears());
    if cleared.count() != 2 {
        let story = format!("{:?} {}", reply.head, world.tally.story(&session.who));
        world.tally.wrong("a logout that clears nothing", story);
    }
    true
}

/// The refresh token of a session that was logged out opens nothing; `out`: when that was.
pub async fn keeps_out(world: &World, session: &Session, reply: &Reply, out: Duration) {
    if !world.heard(out).await {
        return world.tally.add("browsers: after a logout, not judged");
    }
    world.tally.add("browsers: tokens shown after their logout");
    if !matches!(reply.status, 401 | 503) || reply.new_pair().is_some() {
        let story = format!("{} {}", reply.status, world.tally.story(&session.who));
        world.tally.wrong("a token that outlived its logout", story);
    }
}

/// A response that is made after the logout carries no cookie of the session.
pub async fn brings_nothing_back(world: &World, session: &Session, reply: &Reply, out: Duration) {
    if !world.heard(out).await {
        return world.tally.add("browsers: after a logout, not judged");
    }
    world.tally.add("browsers: responses under way during a logout");
    if reply.cookies().iter().any(|(name, cookie)| kind(name).is_some() && !cookie.clears()) {
        world.tally.wrong("cookies after a logout", world.tally.story(&session.who));
    }
}

/// Whom the app saw.
fn identity(reply: &Reply) -> String {
    let text = reply.text();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix(YOU_ARE).unwrap_or_default().to_string()
}

/// The gateway's word for it; where it leads, if it is a redirect.
fn reason(reply: &Reply) -> String {
    if let Some(location) = reply.head.get("location") {
        return format!("to {location}");
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    body["reason"].as_str().unwrap_or("page").to_string()
}
