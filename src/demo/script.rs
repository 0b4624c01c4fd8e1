//! `evergate demo --script`: the steps of the front page without a browser, one line a claim.
//!
//! It asks the gateway by HTTP as a browser would, keeps cookies as a browser would ([`browser`]), and
//! reads from the auth backend only what a person could count: grants, and the key in use. A step
//! that cannot be taken is a failed claim; the steps after it are taken all the same.

pub mod browser;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::sleep;

use self::browser::{Browser, Reply};
use super::DemoError;
use super::controls::{Availability, Controls};
use super::forge::forgeries;
use crate::clock;

/// Parallel requests at the moment of expiry.
const PARALLEL: usize = 20;

/// A response in the window waits at most `refresh.hold` (250 ms by default) for its cookies; the rest
/// is for a busy machine.
const NOT_DELAYED: Duration = Duration::from_millis(400);

/// After the auth backend is back: a cooled-down session tries again within this time.
const RECOVERY_MAX: Duration = Duration::from_secs(15);

/// What was claimed, whether it held, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub held: bool,
    pub text: &'static str,
    pub seen: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.held { "PASS" } else { "FAIL" };
        write!(f, "{verdict}  {}  ({})", self.text, self.seen)
    }
}

/// Takes all steps against the gateway at `gateway`; `tell` hears each claim as it is decided.
/// Returns whether all held.
///
/// # Errors
/// The HTTP client cannot be set up.
pub async fn run(
    gateway: SocketAddr,
    controls: &Controls,
    tell: impl FnMut(&Claim),
) -> Result<bool, DemoError> {
    let mut script = Script { gateway, controls, tell, all_held: true };
    let mut alice = script.logs_in().await?;
    script.forged_header_does_not_get_in(&mut alice).await;
    script.tampered_tokens_are_refused(&alice).await?;
    script.admin_is_for_root(&mut alice).await?;
    script.window_is_not_felt(&mut alice).await;
    script.parallel_at_expiry_share_one_grant(&mut alice).await;
    script.key_rotation_is_not_noticed(&mut alice).await;
    script.backend_outage_logs_nobody_out(&mut alice).await;
    script.logout_ends_it(&mut alice).await;
    Ok(script.all_held)
}

struct Script<'a, T> {
    gateway: SocketAddr,
    controls: &'a Controls,
    tell: T,
    all_held: bool,
}

impl<T: FnMut(&Claim)> Script<'_, T> {
    async fn logs_in(&mut self) -> Result<Browser, DemoError> {
        let mut stranger = Browser::new(self.gateway)?;
        let turned_away = stranger.navigate("/app/").await;
        let to_login = turned_away.location.starts_with("/auth/login?return_to=");
        self.claim("a stranger is sent to the login page", to_login, &turned_away);

        let reply = stranger.log_in("alice", "wonderland").await;
        let adopted = stranger.access_token().is_some() && stranger.keeps_only_gateway_cookies();
        let held = reply.status == 303 && adopted;
        self.claim(
            "alice logs in; the backend's tokens became the gateway's cookies",
            held,
            &reply,
        );

        let reply = stranger.get("/app/").await;
        self.claim("the app greets her by name", greets(&reply, "alice"), &reply);
        Ok(stranger)
    }

    async fn forged_header_does_not_get_in(&mut self, alice: &mut Browser) {
        let spellings = ["X-Forwarded-User", "X_Forwarded_User", "x.forwarded.user"];
        let forged = spellings.map(|name| (name, "root"));
        let reply = alice.get_with("/app/cgi-bin/printenv", &forged).await;
        let held = reply.status == 200
            && reply.body.contains("x-forwarded-user: alice\n")
            && !reply.body.contains("root");
        self.claim("a forged identity header does not get in, in no spelling", held, &reply);
    }

    /// Without a refresh token: with one, a broken token would simply be renewed.
    async fn tampered_tokens_are_refused(&mut self, alice: &Browser) -> Result<(), DemoError> {
        let forged = alice.access_token().map(forgeries).unwrap_or_default();
        let mut seen = Vec::new();
        let mut held = forged.len() == 3;
        for forgery in forged {
            let reply = Browser::with_access_token(self.gateway, forgery.token)?.get("/app/").await;
            held &= reply.status == 401 && !reply.body.contains("Welcome");
            seen.push(format!("{}: {}", forgery.what, reply));
        }
        self.claim("tampered tokens are refused", held, seen.join(", "));
        Ok(())
    }

    async fn admin_is_for_root(&mut self, alice: &mut Browser) -> Result<(), DemoError> {
        let reply = alice.get("/app/admin/").await;
        let held = reply.status == 403 && reply.reason.as_deref() == Some("missing_role");
        self.claim("the admin pages are closed to alice", held, &reply);

        let mut root = Browser::new(self.gateway)?;
        root.log_in("root", "toor").await;
        let reply = root.get("/app/admin/").await;
        self.claim("and open to root", reply.status == 200, &reply);
        Ok(())
    }

    async fn window_is_not_felt(&mut self, alice: &mut Browser) {
        self.until_window(alice).await;
        let old = alice.access_token().cloned();
        let start = clock::now().uptime;
        let reply = alice.get("/app/").await;
        let took = clock::now().uptime.saturating_sub(start);

        let renewed = reply.new_cookies && alice.access_token() != old.as_ref();
        let held = greets(&reply, "alice") && renewed && took < NOT_DELAYED;
        let seen = format!("{reply}, {} ms", took.as_millis());
        self.claim(
            "close to expiry, an ordinary response brings new cookies, undelayed",
            held,
            seen,
        );
    }

    async fn parallel_at_expiry_share_one_grant(&mut self, alice: &mut Browser) {
        self.until_expired(alice).await;
        let grants = self.controls.stats().grants;
        let old = alice.clone();
        let requests: Vec<_> = (0..PARALLEL)
            .map(|_| {
                let mut copy = old.clone();
                tokio::spawn(async move {
                    let reply = copy.get("/app/cgi-bin/printenv").await;
                    (reply, copy)
                })
            })
            .collect();
        let (mut good, mut tokens) = (0, Vec::new());
        for request in requests {
            let Ok((reply, copy)) = request.await else { continue };
            good += usize::from(reply.status == 200);
            tokens.extend(copy.access_token().map(|token| token.expose().to_owned()));
            *alice = copy;
        }
        tokens.sort_unstable();
        tokens.dedup();
        let granted = self.controls.stats().grants - grants;
        let held = good == PARALLEL && granted == 1 && tokens.len() == 1;
        let seen = format!("{good} x 200, grants: {granted}, cookie values: {}", tokens.len());
        self.claim("20 parallel requests with one expired token: one grant serves all", held, seen);
        self.old_cookies_still_work(old).await;
    }

    async fn old_cookies_still_work(&mut self, mut old: Browser) {
        sleep(Duration::from_millis(40)).await;
        let before = self.controls.stats();
        let reply = old.get("/app/").await;
        let after = self.controls.stats();
        let held = greets(&reply, "alice") && before == after;
        let text = "a late request with the old cookies is served, and the backend is not asked";
        self.claim(text, held, &reply);
    }

    async fn key_rotation_is_not_noticed(&mut self, alice: &mut Browser) {
        let Ok(key) = self.controls.rotate_key() else {
            self.claim("the signing key can be rotated", false, "no randomness");
            return;
        };
        let reply = alice.get("/app/").await;
        self.claim("after a key rotation the next request passes", greets(&reply, "alice"), &reply);

        self.until_expired(alice).await;
        let reply = alice.get("/app/").await;
        let signed_by = alice.key_id().unwrap_or_default();
        let held = greets(&reply, "alice") && signed_by == key;
        let seen = format!("{reply}, key {signed_by}");
        self.claim("and the next token is of the new key", held, seen);
    }

    async fn backend_outage_logs_nobody_out(&mut self, alice: &mut Browser) {
        self.controls.stop(Availability::Refusing);
        self.until_window(alice).await;
        let reply = alice.get("/app/").await;
        self.claim("auth backend down, token alive: pages work", greets(&reply, "alice"), &reply);

        self.until_expired(alice).await;
        let reply = alice.get("/app/").await;
        let held = reply.status == 503 && reply.retry_after.is_some();
        let seen = format!("{reply}, Retry-After: {}", reply.retry_after.as_deref().unwrap_or("-"));
        self.claim("auth backend down, token expired: 503 with Retry-After, no logout", held, seen);

        self.controls.start();
        let start = clock::now().uptime;
        let mut reply = alice.get("/app/").await;
        while reply.status == 503 && clock::now().uptime.saturating_sub(start) < RECOVERY_MAX {
            sleep(Duration::from_millis(500)).await;
            reply = alice.get("/app/").await;
        }
        self.claim(
            "auth backend back: it goes on without a login",
            greets(&reply, "alice"),
            &reply,
        );
        let reuses = self.controls.stats().reuses;
        let text = "in all this time no spent refresh token was shown to the backend";
        self.claim(text, reuses == 0, format!("{reuses} reuses"));
    }

    async fn logout_ends_it(&mut self, alice: &mut Browser) {
        let before = alice.clone();
        let reply = alice.log_out().await;
        let held = reply.status == 303 && alice.access_token().is_none();
        self.claim("logging out clears the cookies", held, &reply);

        let reply = alice.get("/app/").await;
        self.claim("after it she is a stranger", reply.status == 401, &reply);

        let mut stolen = before;
        self.until_expired(&stolen).await;
        let reply = stolen.get("/app/").await;
        self.claim("and her old cookies renew nothing", reply.status == 401, &reply);
    }

    fn claim(&mut self, text: &'static str, held: bool, seen: impl fmt::Display) {
        let claim = Claim { held, text, seen: seen.to_string() };
        self.all_held &= held;
        (self.tell)(&claim);
    }

    /// Waits until only a quarter of the token's life is left: then it is in its window however the
    /// gateway spreads it (70 to 100 % of half the life).
    async fn until_window(&self, browser: &Browser) {
        let margin_s = self.controls.token_life_s() / 4;
        self.until(browser.expires_at().map(|exp| exp.saturating_sub(margin_s))).await;
    }

    async fn until_expired(&self, browser: &Browser) {
        self.until(browser.expires_at()).await;
    }

    /// Waits until the clock shows `unix_s`; never longer than a token lives.
    async fn until(&self, unix_s: Option<u64>) {
        let Some(unix_s) = unix_s else { return };
        let end = clock::now().uptime + Duration::from_secs(self.controls.token_life_s() + 1);
        while clock::now().unix.0 < unix_s && clock::now().uptime < end {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn greets(reply: &Reply, name: &str) -> bool {
    reply.status == 200 && reply.body.contains(&format!("Welcome, {name}!"))
}

#[cfg(test)]
mod tests;
