//! A browser that heeds a cookie's Path and follows redirects.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::support::client::{Ask, Reply, get, post};

/// As many redirects as no honest way is long.
const HOPS_MAX: usize = 8;

pub struct Visitor {
    address: SocketAddr,
    /// Cookies by name and path.
    jar: BTreeMap<(String, String), String>,
}

impl Visitor {
    pub fn new(address: SocketAddr) -> Visitor {
        Visitor { address, jar: BTreeMap::new() }
    }

    pub async fn submit(&mut self, target: &str, form: &str) -> Reply {
        let ask = post(target, form).header("Content-Type", "application/x-www-form-urlencoded");
        self.send(target, ask.navigation()).await
    }

    /// The reply, and those of the redirects after it, up to the first to a login page.
    pub async fn follow(&mut self, ask: Ask) -> Vec<Reply> {
        let mut target = ask.target().to_string();
        // An event source stays one on its way; what else is redirected here is a page.
        let streams = ask.is_event_stream();
        let mut replies = vec![self.send(&target, ask).await];
        while let Some(to) = next(replies.last()).filter(|to| !to.starts_with("/auth/")) {
            assert!(replies.len() < HOPS_MAX, "in circles: {to}");
            target = to;
            let hop = get(&target);
            let hop = if streams { hop.event_stream() } else { hop.navigation() };
            replies.push(self.send(&target, hop).await);
        }
        replies
    }

    async fn send(&mut self, target: &str, ask: Ask) -> Reply {
        let path = target.split('?').next().unwrap_or_default();
        let sent: Vec<String> = self
            .jar
            .iter()
            .filter(|((_, of), _)| is_below(path, of))
            .map(|((name, _), value)| format!("{name}={value}"))
            .collect();
        let ask = if sent.is_empty() { ask } else { ask.header("Cookie", &sent.join("; ")) };
        let reply = ask.send(self.address).await;
        for (name, cookie) in reply.cookies() {
            let path = cookie.attributes.iter().find_map(|one| one.strip_prefix("Path="));
            let key = (name, path.unwrap_or("/").to_string());
            match cookie.clears() {
                true => self.jar.remove(&key),
                false => self.jar.insert(key, cookie.value),
            };
        }
        reply
    }
}

/// RFC 6265 §5.1.4.
fn is_below(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of.ends_with('/'))
}

/// Where a redirect of a GET leads.
fn next(reply: Option<&Reply>) -> Option<String> {
    let reply = reply.filter(|reply| (300..400).contains(&reply.status))?;
    reply.head.get("location").map(str::to_string)
}
