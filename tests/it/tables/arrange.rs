//! How a session gets to where a row wants it: by requests, and by a clock that skips ahead.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::super::support::backend::Pair;
use super::super::support::*;
use super::look::Look;
use super::{MS, SECONDS, refuse};

/// What another request asks for, which made the flight that the row's request joins.
pub const FIRST: &str = "/first";

/// Brings a session of alice's to where a row wants it.
pub struct Session<'a> {
    pub world: &'a World,
}

impl Session<'_> {
    /// The refresh token that the row's request shows.
    pub async fn arrange(&self, wanted: &str) -> Option<String> {
        let backend = &self.world.backend;
        let live = || backend.login("alice", Token::expired).refresh;
        backend.grant_roles(&["staff", "head"]);
        let refresh = match wanted {
            "absent" => return None,
            "never issued" => "rt-never-issued".to_string(),
            "live" => live(),
            "live, renewed before" => self.proven().await,
            "old, head fresh" => self.renewed().await.0,
            "old, head fresh and shown" => {
                let (old, new) = self.renewed().await;
                self.show(&new, 200).await;
                old
            }
            "old, head in its window" => self.old_after(SECONDS(285)).await,
            "old, head expired" => self.old_after(SECONDS(301)).await,
            "old, the next morning" => self.old_after(SECONDS(12 * 3600)).await,
            "spent" => self.spent(SECONDS(31)).await,
            "spent, head expired" => self.spent(SECONDS(301)).await,
            "dead" => {
                let token = self.proven().await;
                backend.fail_once(refuse(400, "invalid_grant"));
                self.show(&token, 401).await;
                token
            }
            "dead, never issued" => {
                self.show("rt-refused", 401).await;
                "rt-refused".to_string()
            }
            "ended, wrong subject" => {
                let refresh = live();
                backend.fail_once(Fault::WrongSubject);
                let pair = Pair { access: backend.token("alice").expired().sign(), refresh };
                let ask = get("/arrange").fetch().pair(&pair);
                assert_eq!(ask.send(self.world.gateway.address).await.status, 401);
                Look::settled(self.world).await;
                pair.refresh
            }
            "ended" => {
                let refresh = self.proven().await;
                let logout = post("/auth/logout", "");
                let logout = logout.header("Cookie", &format!("__Host-refresh={refresh}"));
                assert_eq!(logout.send(self.world.gateway.address).await.status, 204);
                refresh
            }
            "cooling for 7 s" => self.cooling().await,
            "cooling, nearly over" => {
                let refresh = self.cooling().await;
                self.world.skip(MS(6_000));
                refresh
            }
            "live, breaker open" => self.broken().await,
            "live, breaker nearly closed" => {
                let refresh = self.broken().await;
                self.world.skip(MS(1_000));
                refresh
            }
            "in flight" => {
                let refresh = live();
                backend.fail_once(Fault::Delay(MS(600)));
                let first = get(FIRST).header("Cookie", &format!("__Host-refresh={refresh}"));
                let mut stream = client::connect(self.world.gateway.address).await;
                stream.write_all(&first.bytes()).await.expect("written");
                eventually("it flies", async || backend.token_calls() == 1).await;
                // Whoever asked first hangs up here; the app may be asked all the same.
                refresh
            }
            other => panic!("no refresh token `{other}`"),
        };
        Some(refresh)
    }

    /// A request with nothing but this refresh token.
    async fn show(&self, refresh: &str, status: u16) -> Reply {
        let ask = get("/arrange").fetch().header("Cookie", &format!("__Host-refresh={refresh}"));
        let reply = ask.send(self.world.gateway.address).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        // What the flight says in metrics may come after its answer.
        Look::settled(self.world).await;
        reply
    }

    /// A session that was just renewed: the refresh token before, and the newest.
    async fn renewed(&self) -> (String, String) {
        let old = self.world.backend.login("alice", Token::expired).refresh;
        let new = self.show(&old, 200).await.new_pair().expect("cookies").refresh;
        (old, new)
    }

    /// The newest refresh token of a session that is due again, as the backend has confirmed once.
    async fn proven(&self) -> String {
        let (_, new) = self.renewed().await;
        self.show(&new, 200).await;
        self.world.skip(SECONDS(301));
        new
    }

    async fn old_after(&self, time: Duration) -> String {
        let (old, _) = self.renewed().await;
        self.world.skip(time);
        old
    }

    async fn spent(&self, time: Duration) -> String {
        let (old, new) = self.renewed().await;
        self.show(&new, 200).await;
        self.world.skip(time);
        old
    }

    async fn cooling(&self) -> String {
        let refresh = self.world.backend.login("alice", Token::expired).refresh;
        let retry_after = Some("7");
        self.world.backend.fail_once(Fault::Refuse { status: 429, error: "", retry_after });
        self.show(&refresh, 503).await;
        refresh
    }

    /// Five failures in a row, none of them this session's.
    async fn broken(&self) -> String {
        for _ in 0..5 {
            self.world.backend.fail_once(refuse(503, ""));
            let refresh = self.world.backend.login("bob", Token::expired).refresh;
            self.show(&refresh, 503).await;
        }
        self.world.backend.login("alice", Token::expired).refresh
    }
}
