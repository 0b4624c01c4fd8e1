//! The composition root: config -> state -> listeners, admin, background work -> running.
//!
//! Nothing else builds long-lived state. Everything runs on the caller's Tokio runtime, so that
//! whole gateways run side by side in one test process, and so that a drain is ours: it ends as soon
//! as the last request and the last flight have ended.

mod carriers;
mod telemetry;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::rand;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::admin::{Admin, Revoker};
use crate::clock::{self, Clock};
use crate::config::{Config, ListenAddress};
use crate::listen::{Address, BindError, Bound, Connections};
use crate::metrics::Metrics;
use crate::policy::carrier::Carrier;
use crate::policy::identity::managed::Managed;
use crate::policy::route::table::RouteTable;
use crate::proxy::endpoints::Endpoints;
use crate::proxy::facts::HeadLimits;
use crate::proxy::observe::Observer;
use crate::proxy::request_id::RequestIds;
use crate::proxy::streams::Streams;
use crate::proxy::upstreams::{Upstream, UpstreamError};
use crate::proxy::{Edge, Gateway, Told, Waits};
use crate::refresh::{
    AuthBackend, BackendError, Edges, HttpBackend, OnFailure, Parts, RedisStore, RefreshLimits,
    RefreshSettings, Refresher, Revocation, SessionStore,
};
use crate::session::denials::Denials;
use crate::session::handed_out::HandedOut;
use crate::session::replays::Replays;
use crate::session::shared::{LOOK_EVERY, SharedDenials};
use crate::store::{Sealer, WeakKey};
use crate::token::{TokenLimits, TokenSetupError, Tokens};

/// How long the start waits for the deny list that gateways share.
const DENIALS_READ_WITHIN: Duration = Duration::from_secs(1);
/// How long the end waits until the other gateways can know what this one denied.
const DENIALS_WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// Why the gateway cannot start. The file was fine; the machine said no.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Tokens(#[from] TokenSetupError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("routes {first} and {second} take the same requests")]
    Tie { first: usize, second: usize },
    #[error(transparent)]
    Store(#[from] WeakKey),
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// A running gateway. Dropping it leaves it running; [`Running::shutdown`] ends it.
pub struct Running {
    addresses: Vec<(Arc<str>, Address)>,
    admin: SocketAddr,
    stop: watch::Sender<bool>,
    _admin_stop: watch::Sender<bool>,
    draining: Arc<AtomicBool>,
    connections: Connections,
    refresher: Arc<Refresher>,
    denials: Arc<Denials>,
    background: Vec<JoinHandle<()>>,
}

/// Starts every listener of `config` on the current Tokio runtime.
///
/// `observer` hears what happens at the edge; the demo watches through it.
///
/// # Errors
/// An address is taken, or a file or key cannot be used.
pub async fn start(config: Config, observer: Option<Observer>) -> Result<Running, StartError> {
    start_with(config, observer, Edges::real()).await
}

/// [`start`] at another time than now: requests and sessions are judged by the clock of `edges`.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    config: Config,
    observer: Option<Observer>,
    edges: Edges,
) -> Result<Running, StartError> {
    // Pingora would install another provider of its own; the first one stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let metrics = Arc::new(Metrics::new()?);
    let tokens = Tokens::new(
        config.issuers.clone(),
        TokenLimits {
            token_bytes_max: config.limits.token_bytes_max,
            verified_tokens_max: config.limits.verified_tokens_max,
        },
    )?;
    let store = match &config.store {
        Some(shared) => Some(Arc::new(RedisStore::open(&shared.settings).await?)),
        None => None,
    };
    let refresher =
        refresher(&config, &tokens, &metrics, store.as_ref(), &edges, observer.clone())?;
    let refresher = Arc::new(refresher);
    let upstreams = upstreams(&config)?;
    let denials = Arc::new(denials(&config, store.as_deref())?);

    // Sockets first: a taken port must be known before anything runs.
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let address = match &listener.address {
            ListenAddress::Tcp(address) => Address::Tcp(*address),
            ListenAddress::Unix(path) => Address::Unix(path.clone()),
        };
        bound.push((listener, address.bind()?));
    }
    let admin = Address::Tcp(config.admin).bind()?;

    let streams =
        Streams::new(Arc::clone(&refresher), Arc::clone(&denials), &edges, metrics.streams.clone());
    let state = State { tokens, refresher, denials, streams, metrics };
    let gateway = gateway(&config, &state, store.as_deref(), edges.now, &upstreams, observer)?;
    let gateway = Arc::new(gateway);
    let State { tokens, refresher, denials, streams, metrics } = state;
    let mut background: Vec<_> =
        upstreams.iter().map(|upstream| upstream.resolve_in_background()).collect();
    background.push(tokio::spawn({
        let tokens = Arc::clone(&tokens);
        async move { tokens.keep_fresh().await }
    }));

    background.push(tokio::spawn(Arc::clone(&streams).watch_deadlines()));
    background.push(tokio::spawn(streams.watch_ends()));
    if let (Some(shared), Some(store)) = (&config.store, &store) {
        let sealer = Sealer::new(&shared.settings.key)?;
        let clock = Arc::clone(&gateway.clock);
        let sharing = SharedDenials::new(Arc::clone(&denials), store.connection(), sealer, clock);
        background.push(tokio::spawn(sharing.keep()));
        // What others have denied, before anybody is let in; the gateway starts without the store, too.
        if !denials.read_within(DENIALS_READ_WITHIN).await {
            tracing::warn!("started without the shared deny list");
        }
    } else {
        background.push(tokio::spawn(tidy(Arc::clone(&denials), Arc::clone(&gateway.clock))));
    }

    let (stop, stopped) = watch::channel(false);
    let connections = Connections::default();
    let draining = Arc::new(AtomicBool::new(false));
    let conf = Arc::new(ServerConf { threads: config.threads, ..ServerConf::default() });
    let mut addresses = Vec::new();
    for (listener, socket) in bound {
        addresses.push((Arc::clone(&listener.name), socket.address.clone()));
        let edge = Edge {
            gateway: Arc::clone(&gateway),
            trusted_proxies: listener.trusted_proxies.clone(),
        };
        let app = Arc::new(http_proxy(&conf, edge));
        background.push(socket.serve(app, connections.clone(), stopped.clone()));
    }
    let admin_address = tcp(&admin);
    // By the operator's leave a gateway works alone.
    let must_read =
        config.store.as_ref().is_some_and(|shared| shared.on_failure == OnFailure::Deny);
    let admin_app = Arc::new(Admin {
        metrics: Arc::clone(&metrics),
        observe: telemetry::observe(&metrics, &tokens, &refresher, &denials, &connections, store),
        unready: telemetry::unready(&tokens, must_read.then(|| Arc::clone(&denials)), &draining),
        revoker: Revoker {
            denials: Arc::clone(&denials),
            issuer_names: gateway.issuer_names.clone(),
            clock: Arc::clone(&gateway.clock),
            metrics: Arc::clone(&metrics),
        },
    });
    // The admin listener answers until the very end of a drain, so it has a switch of its own. It is
    // kept, because a dropped sender counts as thrown.
    let (admin_stop, admin_stopped) = watch::channel(false);
    background.push(admin.serve(admin_app, Connections::default(), admin_stopped));
    Ok(Running {
        addresses,
        admin: admin_address,
        stop,
        _admin_stop: admin_stop,
        draining,
        connections,
        refresher,
        denials,
        background,
    })
}

impl Running {
    /// Every listener's name and where it really listens.
    pub fn addresses(&self) -> &[(Arc<str>, Address)] {
        &self.addresses
    }

    /// Where the admin listener really listens.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Stops accepting, lets requests and flights end, at most `drain`. True if all did.
    pub async fn shutdown(self, drain: Duration) -> bool {
        let started = clock::now().uptime;
        self.draining.store(true, Ordering::Release);
        let _ = self.stop.send(true);
        let connections_closed = self.connections.closed(drain).await;
        // A flight that was cut off has still spent its refresh token: they are waited for even
        // where requests were not.
        let left = drain.saturating_sub(clock::now().uptime.saturating_sub(started));
        let flights_landed = self.refresher.drain(left).await;
        // What was denied a moment ago must not end with this process.
        self.denials.written_within(DENIALS_WRITTEN_WITHIN).await;
        self.background.iter().for_each(JoinHandle::abort);
        connections_closed && flights_landed
    }
}

/// The rooms' own long-lived state.
struct State {
    tokens: Arc<Tokens>,
    refresher: Arc<Refresher>,
    denials: Arc<Denials>,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
}

fn denials(config: &Config, store: Option<&RedisStore>) -> Result<Denials, StartError> {
    // Gateways that share a store must know a name by the same hash.
    let key = match store {
        Some(store) => store.hash_key(),
        None => random_bytes()?,
    };
    let issuers = config.issuers.iter().map(|issuer| Arc::clone(&issuer.name)).collect();
    Ok(Denials::new(&key, issuers, store.is_some()))
}

/// Where no store is shared, nobody else looks after the list.
async fn tidy(denials: Arc<Denials>, clock: Clock) {
    loop {
        sleep(LOOK_EVERY).await;
        denials.tidy(clock().unix);
    }
}

fn refresher(
    config: &Config,
    tokens: &Arc<Tokens>,
    metrics: &Arc<Metrics>,
    store: Option<&Arc<RedisStore>>,
    edges: &Edges,
    observer: Option<Observer>,
) -> Result<Refresher, StartError> {
    let mut issuers = Vec::new();
    for settings in &config.refresh {
        let backend: Arc<dyn AuthBackend> = Arc::new(HttpBackend::new(settings)?);
        issuers.push((settings.clone(), backend));
    }
    // Gateways that share a store must know a refresh token by the same hash.
    let hash_key = match store {
        Some(store) => store.hash_key(),
        None => random_bytes()?,
    };
    let on_failure = config.store.as_ref().map(|shared| shared.on_failure);
    let store = store.map(|store| Arc::clone(store) as Arc<dyn SessionStore>);
    Ok(Refresher::new(Parts {
        issuers,
        limits: RefreshLimits { sessions_max: config.limits.sessions_max },
        hash_key,
        store: store.zip(on_failure),
        verify: Arc::clone(tokens) as _,
        edges: edges.clone(),
        runtime: Handle::current(),
        observer: telemetry::refresh_observer(metrics, observer),
    }))
}

fn upstreams(config: &Config) -> Result<Vec<Arc<Upstream>>, StartError> {
    let mut upstreams = Vec::new();
    for (index, settings) in (0..).zip(&config.upstreams) {
        upstreams.push(Arc::new(Upstream::new(index, settings)?));
    }
    Ok(upstreams)
}

fn gateway(
    config: &Config,
    state: &State,
    store: Option<&RedisStore>,
    clock: Clock,
    upstreams: &[Arc<Upstream>],
    observer: Option<Observer>,
) -> Result<Gateway, StartError> {
    let routes = RouteTable::new(config.routes.clone()).map_err(|ties| {
        let (first, second) = ties.first().map_or((0, 0), |tie| (tie.first, tie.second));
        StartError::Tie { first, second }
    })?;
    let mut waits = vec![None; config.issuers.len()];
    for refresh in &config.refresh {
        if let Some(slot) = waits.get_mut(usize::from(refresh.issuer.0)) {
            *slot = Some(Waits { wait: refresh.wait, hold: refresh.hold });
        }
    }
    let mut revocations = vec![None; config.issuers.len()];
    for refresh in &config.refresh {
        if let Some(slot) = revocations.get_mut(usize::from(refresh.issuer.0)) {
            *slot = Revocation::new(refresh)?.map(Arc::new);
        }
    }
    let carrier = |refresh: &RefreshSettings| config.carriers.get(usize::from(refresh.issuer.0));
    let bounces = config.refresh.iter().any(|refresh| carrier(refresh) == Some(&Carrier::Path));
    Ok(Gateway {
        revocations,
        trusted_origins: config.trusted_origins.clone(),
        clear_site_data: config.clear_site_data,
        paths: config.paths,
        head_limits: HeadLimits {
            header_bytes_max: config.limits.header_bytes_max,
            headers_max: config.limits.headers_max,
        },
        tokens: Arc::clone(&state.tokens),
        refresher: Arc::clone(&state.refresher),
        denials: Arc::clone(&state.denials),
        replays: Replays::new(config.issuers.len()),
        clock,
        waits,
        issuer_names: config.issuers.iter().map(|issuer| Arc::clone(&issuer.name)).collect(),
        backend_cookies: config.backend_cookies.clone(),
        carriers: config.carriers.clone(),
        cookies: config.cookies.clone(),
        seals: carriers::seals(config)?,
        held: carriers::held(config, store)?,
        limits: config.session,
        handed_out: HandedOut::default(),
        endpoints: Endpoints::new(
            config.gateway_path.clone(),
            bounces,
            config.issuers.len(),
            &state.metrics,
        ),
        upstreams: upstreams.to_vec(),
        managed: Managed::new(&config.managed_headers),
        streams: Arc::clone(&state.streams),
        kept_pages: Told::new(config.routes.len()),
        route_metrics: config.routes.iter().map(|route| state.metrics.route(&route.name)).collect(),
        unrouted: state.metrics.route(&Arc::from("-")),
        metrics: Arc::clone(&state.metrics),
        request_ids: RequestIds::new(u64::from_be_bytes(random_bytes()?)),
        access_log: config.log.access,
        observer,
        routes,
    })
}

fn random_bytes<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| StartError::NoRandom)?;
    Ok(bytes)
}

fn tcp(bound: &Bound) -> SocketAddr {
    match &bound.address {
        Address::Tcp(address) => *address,
        Address::Unix(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}
