//! The connection, made and made again in the background.
//!
//! The crate's own connection manager was rejected: it reconnects to the same address, but after a
//! failover the master has another one, and a cluster has many. Here every kind is made anew in the
//! same way, after whatever failed.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisFuture, RedisResult,
    TlsMode, Value,
};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::NEWS_CHANNEL;
use super::inbox::Inbox;
use super::settings::{StoreAddress, StoreSettings, Topology};

/// One try, over all sentinels or nodes.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// One step of a try: a connection to one server, or its answer to a greeting.
const STEP_MAX: Duration = Duration::from_secs(1);
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A cluster's redirects are followed this often; the wait for the whole question ends before.
const REDIRECTS_MAX: u32 = 4;

/// A connection that many use at once; a clone is the same one.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(cmd),
            Connection::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(cmd, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Connects, and again whenever `broken` says so, until the receiver is dropped.
pub(super) fn keep(
    settings: StoreSettings,
    channel: String,
    inbox: &Arc<Inbox>,
    broken: &Arc<Notify>,
) -> watch::Receiver<Option<Connection>> {
    let (sender, receiver) = watch::channel(None);
    let maker = Maker { settings, channel, inbox: Arc::clone(inbox), broken: Arc::clone(broken) };
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = maker.run(&sender) => {}
        }
    });
    receiver
}

struct Maker {
    settings: StoreSettings,
    channel: String,
    inbox: Arc<Inbox>,
    broken: Arc<Notify>,
}

impl Maker {
    async fn run(&self, sender: &watch::Sender<Option<Connection>>) {
        let mut pause = PAUSE_MIN;
        loop {
            if let Ok(Ok(connection)) = timeout(CONNECT_MAX, self.connect()).await {
                sender.send_replace(Some(connection));
                pause = PAUSE_MIN;
                self.broken.notified().await;
            } else {
                // Questions wait for a new one rather than fail on the old one.
                sender.send_replace(None);
                pause = (pause * 2).min(PAUSE_MAX);
            }
            sleep(pause).await;
        }
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let address = &self.settings.address;
        let connection = match &address.topology {
            Topology::Single => {
                let node = self.nodes(false).remove(0);
                self.one(&Client::open(node)?).await?
            }
            Topology::Sentinel { master } => {
                let node =
                    SentinelNodeConnectionInfo::default().set_redis_connection_info(self.login());
                let node = if address.tls { node.set_tls_mode(TlsMode::Secure) } else { node };
                let kind = SentinelServerType::Master;
                // A new one each time: it would remember connections to sentinels that are gone.
                let mut sentinels =
                    SentinelClient::build(self.nodes(true), master.clone(), Some(node), kind)?;
                self.one(&sentinels.async_get_client().await?).await?
            }
            Topology::Cluster => self.cluster().await?,
        };
        Ok(connection)
    }

    async fn one(&self, client: &Client) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(STEP_MAX))
            .set_response_timeout(Some(STEP_MAX))
            .set_push_sender(self.listener());
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(&self.channel).await?;
        connection.subscribe(NEWS_CHANNEL).await?;
        Ok(Connection::One(connection))
    }

    async fn cluster(&self) -> RedisResult<Connection> {
        let mut builder = ClusterClientBuilder::new(self.nodes(false))
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(STEP_MAX)
            .response_timeout(STEP_MAX)
            .retries(REDIRECTS_MAX)
            .min_retry_wait(1)
            .max_retry_wait(10)
            .push_sender(self.listener());
        if self.settings.address.tls {
            builder = builder.tls(TlsMode::Secure);
        }
        let mut connection = builder.build()?.get_async_connection().await?;
        connection.subscribe(&self.channel).await?;
        connection.subscribe(NEWS_CHANNEL).await?;
        Ok(Connection::Cluster(connection))
    }

    /// Hands messages to the inbox; a lost connection is made again even if nobody asks anything.
    fn listener(&self) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + use<> {
        let (inbox, broken) = (Arc::clone(&self.inbox), Arc::clone(&self.broken));
        // A cluster connection mends itself as long as some node answers.
        let alone = self.settings.address.topology != Topology::Cluster;
        move |push: PushInfo| {
            match (push.kind, push.data.as_slice()) {
                (PushKind::Message, [Value::BulkString(channel), Value::BulkString(word)]) => {
                    match std::str::from_utf8(word) {
                        Ok(word) if channel == NEWS_CHANNEL.as_bytes() => inbox.news_arrived(word),
                        Ok(word) => inbox.arrived(word),
                        Err(_) => {}
                    }
                }
                (PushKind::Disconnection, _) if alone => broken.notify_one(),
                _ => {}
            }
            Ok(())
        }
    }

    /// Sentinels are asked without the password, which is the servers'.
    fn nodes(&self, sentinels: bool) -> Vec<ConnectionInfo> {
        let StoreAddress { tls, nodes, .. } = &self.settings.address;
        let info = nodes.iter().filter_map(|(host, port)| {
            let (host, port) = (host.clone(), *port);
            let address = if *tls {
                ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
            } else {
                ConnectionAddr::Tcp(host, port)
            };
            address.into_connection_info().ok()
        });
        let info =
            info.map(|node| if sentinels { node } else { node.set_redis_settings(self.login()) });
        info.collect()
    }

    fn login(&self) -> RedisConnectionInfo {
        let StoreAddress { user, database, .. } = &self.settings.address;
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_db(*database)
            .set_skip_set_lib_name();
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(password.expose());
        }
        login
    }
}
