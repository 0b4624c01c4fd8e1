//! The contract over a real Redis, and what is true of a real one only.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use redis::AsyncCommands;
use tokio::time::{sleep, timeout};

use super::super::store::tests::{Subject, store_tests};
use super::super::store::{SENT_SLACK, StoredHead};
use super::steps::{NOTICED_AFTER, marker_key, record_key};
use super::*;
use crate::policy::secret::Secret;
use crate::store::{STORE_REST, STORE_WAIT, StoreAddress};

store_tests!(Gateways::open());

/// Long, because other tests have the machine as well; what the real wait does is tested apart.
const PATIENT: Duration = Duration::from_secs(5);
const KEY: &str = "a key of thirty-two bytes or more";

/// A real server, killed when dropped.
struct Server {
    port: u16,
    child: Child,
}

impl Server {
    fn start() -> Server {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let base = 26_000 + u16::try_from(std::process::id() % 6_000).unwrap();
        let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let port =
            std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed)).find(free);
        Server::on(port.unwrap())
    }

    fn on(port: u16) -> Server {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            // A server in the same folder may have written a dump for a replica.
            .args(["--save", "", "--appendonly", "no", "--dbfilename", "never-written.rdb"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        Server { port, child }
    }

    async fn listening() -> Server {
        let server = Server::start();
        server.listens().await;
        server
    }

    async fn listens(&self) {
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn settings(&self) -> StoreSettings {
        StoreSettings {
            address: StoreAddress::parse(&format!("redis://127.0.0.1:{}", self.port)).unwrap(),
            password: None,
            key: Secret::new(KEY),
        }
    }

    /// As gateways have used it for long.
    async fn used() -> Server {
        let server = Server::listening().await;
        server.run(include_str!("tests/used.lua"), 0).await;
        server
    }

    async fn run(&self, script: &str, argument: u64) {
        let mut connection = self.connection().await;
        let script = redis::Script::new(script);
        script.arg(argument).invoke_async::<()>(&mut connection).await.unwrap();
    }

    async fn marker(&self, shard: u8) -> Option<String> {
        self.connection().await.get(marker_key(shard)).await.unwrap()
    }

    async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Gateways {
    server: Server,
    one: RedisStore,
    other: RedisStore,
}

impl Gateways {
    async fn open() -> Gateways {
        let server = Server::used().await;
        let one = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
        let other = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
        Gateways { server, one, other }
    }
}

#[async_trait]
impl Subject for Gateways {
    fn one(&self) -> &dyn SessionStore {
        &self.one
    }

    fn other(&self) -> &dyn SessionStore {
        &self.other
    }

    async fn pass(&self, time: Duration) {
        self.server.run(include_str!("tests/pass.lua"), millis(time)).await;
    }

    async fn lose_memory(&self) {
        let mut connection = self.server.connection().await;
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    }
}

fn token(number: u8) -> TokenHash {
    TokenHash::from_hex(&format!("{number:02x}").repeat(16)).unwrap()
}

fn publication(generation: u64) -> Publication {
    Publication {
        id: SessionId(token(1)),
        generation,
        refresh_generation: generation,
        head: StoredHead { access: Secret::new("alice's access"), refresh: Secret::new("rt") },
        hash: token(2),
        life_left: None,
        confirmations: Vec::new(),
        aliases: Vec::new(),
    }
}

/// Asks until the store answers, so that a test need not know when a connection is back.
async fn answers(store: &RedisStore) {
    for _ in 0..500 {
        if store.find(token(9)).await.is_ok() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the store never answers");
}

async fn every_value(server: &Server) -> String {
    let mut connection = server.connection().await;
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    let mut all = String::new();
    for key in keys {
        let dump: Vec<u8> =
            redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
        all.push_str(&key);
        all.push_str(&String::from_utf8_lossy(&dump));
    }
    all
}

#[tokio::test]
async fn nothing_secret_stands_in_the_store_and_every_key_expires() {
    let gateways = Gateways::open().await;
    gateways.one.claim(SessionId(token(1)), 0, ClaimId(1), false, PATIENT).await.unwrap();
    gateways.other.claim(SessionId(token(1)), 0, ClaimId(1), false, PATIENT).await.unwrap();
    gateways.one.publish(&publication(1)).await.unwrap();
    let all = every_value(&gateways.server).await;
    assert!(all.contains("evergate:a:") && !all.contains("alice") && !all.contains("rt\0"));
    // Fails if a key has no life.
    gateways.pass(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn a_sealed_head_that_was_tampered_with_or_moved_counts_as_absent() {
    let gateways = Gateways::open().await;
    let mut connection = gateways.server.connection().await;
    gateways.one.publish(&publication(1)).await.unwrap();
    let alices = record_key(SessionId(token(1)));
    let sealed: Vec<u8> = connection.hget(&alices, "head").await.unwrap();
    let mallory = Publication { id: SessionId(token(3)), hash: token(4), ..publication(1) };
    gateways.one.publish(&mallory).await.unwrap();
    let () = connection.hset(record_key(mallory.id), "head", &sealed).await.unwrap();
    assert_eq!(gateways.other.find(token(3)).await, Ok(None));
    let moved = gateways.other.claim(mallory.id, 0, ClaimId(1), false, PATIENT).await;
    assert_eq!(moved, Err(StoreAway));
    // One bad value is no reason to leave the store alone.
    assert!(gateways.other.find(token(1)).await.unwrap().is_some());
    let () = connection.hset(&alices, "head", "garbage").await.unwrap();
    assert_eq!(gateways.other.find(token(1)).await, Ok(None));
    assert!(!gateways.other.is_degraded());
}

#[tokio::test]
async fn an_older_head_cannot_be_put_back_under_a_newer_generation() {
    let gateways = Gateways::open().await;
    let mut connection = gateways.server.connection().await;
    gateways.one.publish(&publication(1)).await.unwrap();
    let key = record_key(SessionId(token(1)));
    let old: Vec<u8> = connection.hget(&key, "head").await.unwrap();
    gateways.one.publish(&publication(2)).await.unwrap();
    let () = connection.hset(&key, "head", &old).await.unwrap();
    assert_eq!(gateways.other.find(token(1)).await, Ok(None));
}

#[tokio::test]
async fn an_alias_that_was_written_by_a_stranger_leads_nowhere() {
    let gateways = Gateways::open().await;
    let mut connection = gateways.server.connection().await;
    gateways.one.publish(&publication(1)).await.unwrap();
    let good: String = connection.get(alias_key(token(2))).await.unwrap();
    let () = connection.set(alias_key(token(7)), &good).await.unwrap();
    assert_eq!(gateways.other.find(token(7)).await, Ok(None));
    assert!(gateways.other.find(token(2)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_value_of_another_kind_under_our_key_closes_one_session_only() {
    let gateways = Gateways::open().await;
    let mut connection = gateways.server.connection().await;
    let () = connection.set(record_key(SessionId(token(1))), "a string").await.unwrap();
    assert_eq!(gateways.one.find(token(1)).await, Err(StoreAway));
    assert_eq!(gateways.one.find(token(5)).await, Ok(None));
}

#[tokio::test]
async fn another_key_sees_nothing() {
    let gateways = Gateways::open().await;
    gateways.one.publish(&publication(1)).await.unwrap();
    let settings = StoreSettings {
        key: Secret::new("another key of thirty-two bytes"),
        ..gateways.server.settings()
    };
    let stranger = RedisStore::open_with(&settings, PATIENT).await.unwrap();
    assert_eq!(stranger.find(token(2)).await, Ok(None));
    assert_ne!(stranger.hash_key(), gateways.one.hash_key());
}

#[tokio::test]
async fn a_frozen_store_costs_one_short_wait_then_rests() {
    let server = Server::used().await;
    let store = RedisStore::open(&server.settings()).await.unwrap();
    answers(&store).await;
    server.signal("STOP");
    let started = clock();
    assert_eq!(store.find(token(1)).await, Err(StoreAway));
    let took = clock() - started;
    assert!(took >= STORE_WAIT && took < STORE_WAIT * 4, "{took:?}");
    assert!(store.rest().is_some_and(|rest| rest <= STORE_REST));
    let started = clock();
    for _ in 0..1_000 {
        assert_eq!(store.find(token(1)).await, Err(StoreAway));
    }
    assert!(clock() - started < STORE_WAIT);
    server.signal("CONT");
    answers(&store).await;
    assert!(!store.is_degraded());
}

#[tokio::test]
async fn a_process_that_was_itself_held_up_does_not_take_the_store_for_dead() {
    let server = Server::used().await;
    let store = RedisStore::open(&server.settings()).await.unwrap();
    answers(&store).await;
    for round in 0..20 {
        // The question has left; while its answer comes, nothing runs here.
        let held_up = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let until = clock() + STORE_WAIT * 2;
            while clock() < until {
                std::hint::spin_loop();
            }
        };
        let (found, ()) = tokio::join!(store.find(token(round)), held_up);
        assert!(found.is_ok(), "round {round}");
    }
}

#[tokio::test]
async fn what_presses_reaches_a_store_that_is_back_before_it_has_rested() {
    let server = Server::used().await;
    let store =
        RedisStore::open_with(&server.settings(), Duration::from_millis(500)).await.unwrap();
    answers(&store).await;
    server.signal("STOP");
    assert_eq!(store.find(token(1)).await, Err(StoreAway));
    let started = clock();
    assert_eq!(store.publish_at_once(&publication(1)).await, Err(StoreAway));
    assert!(clock() - started < Duration::from_millis(1_000), "bounded like any question");
    server.signal("CONT");
    assert_eq!(store.publish(&publication(1)).await, Err(StoreAway));
    while store.publish_at_once(&publication(1)).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    assert!(clock() - started < STORE_REST, "it had not rested");
    assert!(store.find(token(2)).await.unwrap().is_some(), "it is asked again by all");
}

#[tokio::test]
async fn a_gateway_starts_without_its_store_and_finds_it_later() {
    let server = Server::listening().await;
    let (settings, port) = (server.settings(), server.port);
    drop(server);
    let store = RedisStore::open(&settings).await.unwrap();
    assert_eq!(store.find(token(1)).await, Err(StoreAway));
    assert!(store.is_degraded());
    let _server = Server::on(port);
    answers(&store).await;
}

#[tokio::test]
async fn a_server_that_was_killed_and_comes_back_empty_is_noticed_and_settles() {
    let server = Server::used().await;
    let store = RedisStore::open(&server.settings()).await.unwrap();
    answers(&store).await;
    let mut losses = store.losses();
    store.publish(&publication(1)).await.unwrap();
    let port = server.port;
    drop(server);
    assert_eq!(store.find(token(1)).await, Err(StoreAway));
    let _server = Server::on(port);
    answers(&store).await;
    let settle = Duration::from_secs(10);
    let claim = store.claim(SessionId(token(1)), 1, ClaimId(1), false, settle).await.unwrap();
    assert!(matches!(claim, Claim::Settling(_)), "{claim:?}");
    assert!(timeout(Duration::from_secs(10), losses.changed()).await.is_ok());
}

#[tokio::test]
async fn a_server_that_comes_back_from_its_disk_settles_too() {
    let gateways = Gateways::open().await;
    gateways.one.publish(&publication(1)).await.unwrap();
    // What a restart from disk, or a promoted replica, looks like: the marker of another run.
    let mut connection = gateways.server.connection().await;
    let shard = marker_key(1);
    let () = connection.set(&shard, format!("{}:0:s", "0".repeat(40))).await.unwrap();
    let settle = Duration::from_secs(10);
    let claim = gateways.one.claim(SessionId(token(1)), 1, ClaimId(1), false, settle);
    assert!(matches!(claim.await.unwrap(), Claim::Settling(_)));
}

/// One session's claim, of shard 1, by a gateway whose calls may take a minute.
async fn claim_of(store: &RedisStore) -> Claim {
    let settle = Duration::from_secs(60);
    store.claim(SessionId(token(1)), 0, ClaimId(1), false, settle).await.unwrap()
}

#[tokio::test]
async fn an_unused_store_waits_only_for_those_who_would_have_noticed() {
    let server = Server::listening().await;
    let one = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let other = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let losses = (one.losses(), other.losses());
    let first = claim_of(&one).await;
    assert!(matches!(first, Claim::Settling(left) if left <= NOTICED_AFTER), "{first:?}");
    let soon = one.claim(SessionId(token(1)), 0, ClaimId(1), false, Duration::ZERO).await.unwrap();
    assert!(matches!(soon, Claim::Settling(left) if left <= SENT_SLACK), "{soon:?}");
    // Both look at least once.
    sleep(NOTICED_AFTER).await;
    assert_eq!(claim_of(&other).await, Claim::Ours);
    assert_eq!((*losses.0.borrow(), *losses.1.borrow()), (0, 0), "nothing was lost");
}

#[tokio::test]
async fn a_gateway_that_ran_before_is_believed_not_the_newcomer() {
    let server = Server::used().await;
    let ran = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let mut losses = ran.losses();
    let mut connection = server.connection().await;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();

    let newcomer = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let at_first = claim_of(&newcomer).await;
    assert!(matches!(at_first, Claim::Settling(_)), "{at_first:?}");
    assert!(timeout(NOTICED_AFTER, losses.changed()).await.is_ok());

    let then = claim_of(&newcomer).await;
    assert!(matches!(then, Claim::Settling(left) if left > NOTICED_AFTER * 2), "{then:?}");
    let marker = server.marker(1).await;
    sleep(NOTICED_AFTER).await;
    assert_eq!(server.marker(1).await, marker, "who was told does not tell again");
}

#[tokio::test]
async fn who_noticed_too_late_is_believed_too() {
    let server = Server::used().await;
    let ran = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let mut losses = ran.losses();
    let run = server.marker(1).await.unwrap();
    let run = run.split(':').next().unwrap();
    let mut connection = server.connection().await;
    // A newcomer's, from long ago.
    let () = connection.set(marker_key(1), format!("{run}:1:n")).await.unwrap();
    assert!(timeout(PATIENT, losses.changed()).await.is_ok());
    let claim = claim_of(&ran).await;
    assert!(matches!(claim, Claim::Settling(left) if left > NOTICED_AFTER * 2), "{claim:?}");
}

#[tokio::test]
async fn shards_that_lost_nothing_do_not_settle() {
    let server = Server::listening().await;
    let store = RedisStore::open_with(&server.settings(), PATIENT).await.unwrap();
    let mut losses = store.losses();
    let before = server.marker(2).await;
    let mut connection = server.connection().await;
    let () = connection.del(marker_key(1)).await.unwrap();
    assert!(timeout(PATIENT, losses.changed()).await.is_ok());
    assert!(server.marker(1).await.unwrap().ends_with(":s"));
    assert_eq!(server.marker(2).await, before);
}

#[tokio::test]
async fn news_are_heard_after_a_lost_connection() {
    let gateways = Gateways::open().await;
    let mut connection = gateways.server.connection().await;
    let kill = async |connection: &mut redis::aio::MultiplexedConnection| {
        let mut command = redis::cmd("CLIENT");
        command.arg("KILL").arg("SKIPME").arg("yes").exec_async(connection).await.unwrap();
    };
    kill(&mut connection).await;
    answers(&gateways.one).await;
    answers(&gateways.other).await;
    let id = SessionId(token(1));
    gateways.one.claim(id, 0, ClaimId(1), false, PATIENT).await.unwrap();
    gateways.other.claim(id, 0, ClaimId(1), false, PATIENT).await.unwrap();
    let waits = timeout(Duration::from_secs(10), gateways.other.told(id, PATIENT * 100));
    let news = publication(1);
    let tells = gateways.one.publish(&news);
    assert!(tokio::join!(waits, tells).0.is_ok());
}

#[tokio::test]
async fn a_question_that_lay_in_a_frozen_server_does_not_mark_a_claim_as_sent() {
    let server = Server::used().await;
    let store =
        RedisStore::open_with(&server.settings(), Duration::from_millis(200)).await.unwrap();
    answers(&store).await;
    let id = SessionId(token(1));
    assert_eq!(store.claim(id, 0, ClaimId(1), false, PATIENT).await, Ok(Claim::Ours));
    server.signal("STOP");
    assert_eq!(store.sent(id, ClaimId(1), PATIENT).await, Err(StoreAway));
    sleep(super::super::store::CLAIMED_FOR).await;
    server.signal("CONT");
    answers(&store).await;
    assert_eq!(store.claim(id, 0, ClaimId(2), false, PATIENT).await, Ok(Claim::Ours));
}

fn clock() -> Duration {
    crate::clock::now().uptime
}
