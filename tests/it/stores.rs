//! Real stores: single servers here; clusters and sentinels by `./dev test --stores`.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use evergate::policy::secret::Secret;
use evergate::refresh::{
    Claim, ClaimId, Publication, RedisStore, SessionId, SessionStore, Stored, StoredHead, TokenHash,
};
use evergate::store::{StoreAddress, StoreSettings};
use tokio::time::{sleep, timeout};

use super::contract::claims::{Subject, one_by_one};
use super::support::parts::{Program, repository};
use super::support::*;

/// Other tests have the machine as well.
const PATIENT: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(10);

fn settings(url: &str) -> StoreSettings {
    StoreSettings {
        address: StoreAddress::parse(url).expect("a URL of ours"),
        password: None,
        key: Secret::new("a key of thirty-two bytes or more"),
    }
}

fn publication(number: u8, generation: u64) -> Publication {
    Publication {
        id: id(number),
        generation,
        refresh_generation: generation,
        head: StoredHead { access: Secret::new("access"), refresh: Secret::new("refresh") },
        hash: token(number, generation),
        life_left: None,
        confirmations: Vec::new(),
        aliases: Vec::new(),
    }
}

fn id(number: u8) -> SessionId {
    SessionId(token(number, 0))
}

fn token(number: u8, generation: u64) -> TokenHash {
    TokenHash::from_hex(&format!("{number:02x}{generation:030x}")).expect("hex")
}

/// The record of a session, as soon as the store answers.
async fn soon(store: &RedisStore, number: u8) -> Option<Stored> {
    for _ in 0..1_000 {
        if let Ok(found) = store.find(token(number, 1)).await {
            return found.map(|sighting| sighting.stored);
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the store never answers");
}

/// Two gateways on one store of several servers.
struct Gateways<'a> {
    servers: &'a [Redis],
    one: RedisStore,
    other: RedisStore,
}

impl<'a> Gateways<'a> {
    /// Everything that was there before is forgotten.
    async fn open(url: &str, servers: &'a [Redis]) -> Gateways<'a> {
        on_masters(servers, &["FLUSHALL"]).await;
        let used = include_str!("../../src/refresh/redis/tests/used.lua");
        on_masters(servers, &["EVAL", used, "0"]).await;
        let open = async || RedisStore::open_with(&settings(url), PATIENT).await.expect("a key");
        Gateways { servers, one: open().await, other: open().await }
    }
}

async fn on_masters(servers: &[Redis], words: &[&str]) {
    for server in servers {
        if server.is_master().await {
            server.command::<::redis::Value>(words).await;
        }
    }
}

#[async_trait]
impl Subject for Gateways<'_> {
    fn one(&self) -> &dyn SessionStore {
        &self.one
    }

    fn other(&self) -> &dyn SessionStore {
        &self.other
    }

    async fn pass(&self, time: Duration) {
        let script = include_str!("../../src/refresh/redis/tests/pass.lua");
        let ms = time.as_millis().to_string();
        on_masters(self.servers, &["EVAL", script, "0", &ms]).await;
    }

    async fn lose_memory(&self) {
        on_masters(self.servers, &["FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_server_can_be_frozen_and_starts_again_empty() {
    let mut redis = Redis::start().await;
    redis.command::<()>(&["SET", "a", "1"]).await;
    redis.pause();
    let frozen = timeout(Duration::from_millis(100), redis.command::<i64>(&["DBSIZE"])).await;
    assert!(frozen.is_err());
    redis.resume();
    assert_eq!(redis.command::<i64>(&["DBSIZE"]).await, 1);
    redis.restart().await;
    assert_eq!(redis.command::<i64>(&["DBSIZE"]).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_without_its_store_says_so_and_recovers() {
    let mut redis = Redis::start().await;
    redis.kill();
    let key = "a key of thirty-two bytes or more";
    let store = format!("store: {{ kind: redis, url: \"{}\", key: {key} }}\nroutes:", redis.url());
    let world = World::changed("routes:", &store).await;
    let degraded = async || world.gateway.metrics().await.value("evergate_store_degraded") == 1.0;
    eventually("the gateway notices", degraded).await;
    let token = world.backend.token("alice").sign();
    assert_eq!(get("/page").access(&token).send(world.gateway.address).await.status, 200);
    redis.restart().await;
    eventually("the gateway recovers", async || !degraded().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_tls_and_a_password_is_used_if_its_authority_is_the_systems() {
    let (redis, port) = Redis::guarded().await;
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let store = format!(
        "store:\n  kind: redis\n  url: rediss://127.0.0.1:{port}\n  password: hunter2\n  \
         key: a key of thirty-two bytes or more\nroutes:"
    );
    let yaml = world::place(&STANDARD.replace("routes:", &store), &backend, &upstream);
    let run = |file: &std::path::Path| {
        let mut command = gateway::evergate();
        command.arg("run").arg("-c").arg(file);
        command
    };
    let planted = async || redis.command::<i64>(&["EXISTS", "evergate:{00}:born"]).await == 1;

    let binary = gateway::Binary::with(&yaml);
    let mut stranger = Program::start(&mut run(&binary.file));
    stranger.says("started without the session store").await;
    assert!(!planted().await);
    let authority = repository("tests/data/tls/store_ca.pem");
    let _friend = Program::start(run(&binary.file).env("SSL_CERT_FILE", authority));
    eventually("the store is used", planted).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "six servers: ./dev test --stores"]
async fn a_cluster_keeps_the_contract_and_its_failover_is_followed() {
    let mut cluster = RedisCluster::start().await;
    one_by_one(async || Gateways::open(&cluster.url(), &cluster.nodes).await).await;
    on_masters(&cluster.nodes, &["FLUSHALL"]).await;
    let store = RedisStore::open(&settings(&cluster.url())).await.expect("a key");
    soon(&store, 0).await;
    for number in 0..16 {
        assert_eq!(store.publish(&publication(number, 1)).await, Ok(None));
    }
    let mut owners = BTreeSet::new();
    for number in 0..16 {
        owners.insert(cluster.owner(&record(number)).await);
    }
    assert_eq!(owners.len(), 3, "sessions lie on every master");
    // Replication is asynchronous; what has not arrived is lost, which is not what is tested here.
    sleep(Duration::from_millis(500)).await;

    let owner = cluster.owner(&record(3)).await;
    cluster.nodes[owner].kill();

    let stored = soon_known(&store, 3).await;
    assert_eq!(stored.generation, 1);
    // The new master may lack the last writes, so no flight departs for a while.
    let claim = claimed(&store, 3).await;
    assert!(matches!(claim, Claim::Settling(_)), "{claim:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "five servers: ./dev test --stores"]
async fn sentinels_keep_the_contract_and_their_failover_is_followed() {
    let mut sentinels = Sentinels::start().await;
    one_by_one(async || Gateways::open(&sentinels.url(), &sentinels.servers).await).await;
    on_masters(&sentinels.servers, &["FLUSHALL"]).await;
    let store = RedisStore::open(&settings(&sentinels.url())).await.expect("a key");
    soon(&store, 0).await;
    let mut losses = store.losses();
    assert_eq!(store.publish(&publication(3, 1)).await, Ok(None));
    sleep(Duration::from_millis(500)).await;

    sentinels.servers[0].kill();

    let stored = soon_known(&store, 3).await;
    assert_eq!(stored.generation, 1);
    let claim = claimed(&store, 3).await;
    assert!(matches!(claim, Claim::Settling(_)), "{claim:?}");
    assert!(timeout(Duration::from_secs(10), losses.changed()).await.is_ok());
}

/// Its record lies with its shard's.
fn record(number: u8) -> String {
    format!("evergate:{{{:02x}}}:s:{}", number % 64, token(number, 0).to_hex())
}

/// While a failover lasts, some questions are answered by others of the cluster.
async fn soon_known(store: &RedisStore, number: u8) -> Stored {
    for _ in 0..100 {
        if let Some(stored) = soon(store, number).await {
            return stored;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the session is lost");
}

async fn claimed(store: &RedisStore, number: u8) -> Claim {
    for _ in 0..1_000 {
        if let Ok(claim) = store.claim(id(number), 1, ClaimId(1), false, SETTLE).await {
            return claim;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the store never answers");
}
