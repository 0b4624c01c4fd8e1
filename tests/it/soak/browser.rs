//! One simulated browser: a person who clicks, waits, sleeps, hangs up, logs out and comes back as
//! somebody else; with one cookie jar, and any gateway at each request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use super::World;
use super::dice::Dice;
use super::jar::Jar;
use super::judge;
use super::plan::{NAP_MAX, TOKEN_LIFE};
use super::tally::now;
use super::visit::{balanced, hung_up};
use crate::support::{Ask, Reply, get, post};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Fetch,
    Page,
    /// Five requests at once.
    Burst,
    Slow,
    /// Hangs up before the answer is read, and so loses what it sets.
    HangUp,
    /// Sleeps until the token has expired, then five requests at once.
    Nap,
    /// Logs out; the next action is somebody else's login.
    LogOut,
    /// Logs out while another request is under way.
    LogOutBeside,
    /// Logs in as somebody else without logging out.
    LogInOver,
}

/// Of 1,000 actions, so many are this one.
const MIX: [(usize, Action); 9] = [
    (610, Action::Fetch),
    (120, Action::Page),
    (80, Action::Burst),
    (60, Action::Slow),
    (80, Action::HangUp),
    (25, Action::Nap),
    (12, Action::LogOut),
    (5, Action::LogOutBeside),
    (8, Action::LogInOver),
];

/// A gateway may go by what the store said a moment ago; after this, every gateway knows of a logout.
const TOLD_AFTER: Duration = Duration::from_millis(500);

pub struct Browser {
    world: Arc<World>,
    dice: Mutex<Dice>,
    id: usize,
    from: IpAddr,
    logins: usize,
    session: Option<Session>,
}

/// Whom the browser is logged in as.
pub struct Session {
    pub who: String,
    pub jar: Mutex<Jar>,
}

impl Browser {
    pub fn new(world: Arc<World>, id: usize) -> Browser {
        let dice = Mutex::new(Dice::new(world.plan.seed, 1 + u64::try_from(id).expect("an id")));
        let [_, b, c, d] = u32::try_from(id + 2).expect("an id").to_be_bytes();
        let from = Ipv4Addr::new(127, b + 1, c, d).into();
        Browser { world, dice, id, from, logins: 0, session: None }
    }

    /// Lives until the run is over, then looks once more, when all is well.
    pub async fn live(mut self) {
        let think = self.world.plan.think();
        sleep(self.between(Duration::ZERO, self.world.plan.ramp())).await;
        while now() < self.world.ends {
            match self.session {
                None => self.log_in().await,
                Some(_) => self.act().await,
            }
            let pause = self.between(think / 4, think * 7 / 4);
            sleep(pause.min(self.world.ends.saturating_sub(now()))).await;
        }
        let _ = self.world.calm.subscribe().wait_for(|calm| *calm).await;
        sleep(self.between(Duration::ZERO, self.world.plan.ramp())).await;
        if self.session.is_some() {
            self.look(vec![get("/last").fetch()]).await;
        }
    }

    async fn act(&mut self) {
        let action = self.dice().pick(&MIX);
        match action {
            Action::Fetch => self.look(vec![get("/fetch").fetch()]).await,
            Action::Page => self.look(vec![get("/page").navigation()]).await,
            Action::Burst => self.look(vec![get("/burst").fetch(); 5]).await,
            Action::Slow => {
                let ms = self.between(Duration::from_millis(100), Duration::from_millis(1500));
                self.look(vec![get(&format!("/slow/{}", ms.as_millis())).fetch()]).await;
            }
            Action::HangUp => self.hang_up().await,
            Action::Nap => {
                let nap = self.between(TOKEN_LIFE, NAP_MAX);
                sleep(nap.min(self.world.ends.saturating_sub(now()))).await;
                self.look(vec![get("/nap").fetch(); 5]).await;
            }
            Action::LogOut => self.log_out().await,
            Action::LogOutBeside => self.log_out_beside().await,
            Action::LogInOver => self.log_in().await,
        }
        self.world.tally.add("browsers: actions");
    }

    /// Makes these requests at once, and believes what they say.
    async fn look(&mut self, asks: Vec<Ask>) {
        let Some(session) = &self.session else { return };
        let replies = join_all(asks.into_iter().map(|ask| self.ask(session, ask))).await;
        let stays = replies.iter().flatten().all(|reply| judge::stays(&self.world, session, reply));
        if !stays {
            self.forget();
        }
    }

    async fn hang_up(&self) {
        let Some(session) = &self.session else { return };
        let after = self.between(Duration::ZERO, Duration::from_millis(40));
        let ask = session.dress(get("/left").fetch());
        let gateway = self.dice().below(self.world.fleet.len());
        self.world.tally.add("browsers: requests hung up on");
        self.world.tally.note(&session.who, format!("hangs up on gateway {gateway}"));
        let address = self.world.fleet.address(gateway);
        self.world.backend.families().visits(&session.who, gateway);
        hung_up(self.from, address, &ask.bytes(), after).await;
    }

    /// Logs in as somebody whom nobody ever was, with whatever cookies the browser has.
    async fn log_in(&mut self) {
        self.logins += 1;
        let who = format!("b{}-{}", self.id, self.logins);
        let ask = post("/auth/login", &format!("user={who}")).navigation();
        let before = self.session.take();
        let ask = match &before {
            Some(session) => session.dress(ask),
            None => ask,
        };
        let session = Session { who, jar: Mutex::default() };
        self.world.tally.note(&session.who, "logs in".to_string());
        let reply = self.send(&session.who, &ask).await;
        if let Some(session) = before {
            self.world.tally.forget(&session.who);
        }
        self.session = reply
            .is_some_and(|reply| judge::logged_in(&self.world, &session, &reply))
            .then_some(session);
    }

    async fn log_out(&mut self) {
        let Some(session) = &self.session else { return };
        let reply = self.ask(session, post("/auth/logout", "").fetch()).await;
        let done = reply.is_some_and(|reply| judge::logged_out(&self.world, session, &reply));
        let out = now();
        if done && self.dice().below(3) == 0 {
            // Somebody has copied the refresh token.
            sleep(TOLD_AFTER).await;
            let ghost = get("/ghost").fetch().header("X-Soak", &session.who);
            let ghost =
                ghost.header("Cookie", &session.jar.lock().expect("no panic").refresh_line());
            if let Some(reply) = self.send(&session.who, &ghost).await {
                judge::keeps_out(&self.world, session, &reply, out).await;
            }
        }
        self.forget();
    }

    /// The slow response's head is made after the logout: it must not bring the session back.
    async fn log_out_beside(&mut self) {
        let Some(session) = &self.session else { return };
        let slow = self.ask(session, get("/slow/1500").fetch());
        let out = async {
            sleep(Duration::from_millis(300)).await;
            let reply = self.ask(session, post("/auth/logout", "").fetch()).await;
            (reply, now())
        };
        let (slow, (out, at)) = tokio::join!(async { (slow.await, now()) }, out);
        let done = out.is_some_and(|reply| judge::logged_out(&self.world, session, &reply));
        if let (true, (Some(reply), came)) = (done, slow)
            && came > at + TOLD_AFTER
        {
            judge::brings_nothing_back(&self.world, session, &reply, at).await;
        }
        self.forget();
    }

    async fn ask(&self, session: &Session, ask: Ask) -> Option<Reply> {
        let bytes = session.dress(ask);
        let reply = self.send(&session.who, &bytes).await?;
        judge::take_cookies(&self.world, session, &reply);
        Some(reply)
    }

    async fn send(&self, who: &str, ask: &Ask) -> Option<Reply> {
        let first = self.dice().below(self.world.fleet.len());
        balanced(&self.world, who, self.from, first, ask).await
    }

    fn forget(&mut self) {
        if let Some(session) = self.session.take() {
            self.world.tally.forget(&session.who);
        }
    }

    fn between(&self, from: Duration, to: Duration) -> Duration {
        self.dice().between(from, to)
    }

    fn dice(&self) -> std::sync::MutexGuard<'_, Dice> {
        self.dice.lock().expect("no panic under the lock")
    }
}

impl Session {
    /// With its cookies, and with its name for the app to compare.
    fn dress(&self, ask: Ask) -> Ask {
        let line = self.jar.lock().expect("no panic under the lock").line();
        ask.header(super::app::CLAIMED, &self.who).header("Cookie", &line)
    }
}
