//! Listening sockets, the connections on them, and their end.
//!
//! Sockets are bound here, before anything runs, so that a taken port is an error at start and port
//! 0 can be used; Pingora's own listener service then accepts on the bound descriptor. Connections
//! are counted, so that a drain ends as soon as the last one has gone. Each has a [`Switch`], by which
//! an open stream can be cut from outside.

mod frames;
mod switch;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::{Listeners, ServerAddress};
use pingora::protocols::Stream;
use pingora::server::{Fds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::switch::{Goodbye, Switch, switch_of};

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: String,
    source: io::Error,
}

/// A bound socket that nobody accepts on yet.
#[derive(Debug)]
pub struct Bound {
    pub address: Address,
    fd: OwnedFd,
}

impl Address {
    /// Binds; a stale Unix socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// The address is taken, not ours, or not permitted.
    pub fn bind(&self) -> Result<Bound, BindError> {
        let (address, fd) = match self {
            Address::Tcp(address) => bind_tcp(*address),
            Address::Unix(path) => bind_unix(path),
        }
        .map_err(|source| BindError { address: self.to_string(), source })?;
        Ok(Bound { address, fd })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<(Address, OwnedFd)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((Address::Tcp(bound), listener.into()))
}

fn bind_unix(path: &Path) -> io::Result<(Address, OwnedFd)> {
    use std::os::unix::net::{UnixListener, UnixStream};
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok((Address::Unix(path.to_owned()), listener.into()))
}

/// Counts open connections and waits for the last one.
#[derive(Clone, Debug)]
pub struct Connections(watch::Sender<usize>);

impl Default for Connections {
    fn default() -> Self {
        Connections(watch::Sender::new(0))
    }
}

impl Connections {
    pub fn open(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until no connection is open, at most `limit`. True if none is left.
    pub async fn closed(&self, limit: Duration) -> bool {
        let mut open = self.0.subscribe();
        tokio::time::timeout(limit, open.wait_for(|open| *open == 0)).await.is_ok()
    }

    fn enter(&self) -> Entered<'_> {
        self.0.send_modify(|open| *open += 1);
        Entered(self)
    }
}

struct Entered<'a>(&'a Connections);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

impl Bound {
    /// Accepts connections for `app` until `shutdown` turns true.
    pub fn serve<A>(
        self,
        app: Arc<A>,
        connections: Connections,
        shutdown: ShutdownWatch,
    ) -> JoinHandle<()>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let mut listeners = Listeners::new();
        let (key, address) = match &self.address {
            Address::Tcp(address) => {
                (address.to_string(), ServerAddress::Tcp(address.to_string(), None))
            }
            Address::Unix(path) => {
                let path = path.display().to_string();
                (path.clone(), ServerAddress::Uds(path, None))
            }
        };
        listeners.add_address(address);
        let mut bound = Fds::new();
        bound.add(key.clone(), self.fd.into_raw_fd());
        let mut service = Service::with_listeners(key, listeners, Counted { app, connections });
        tokio::spawn(async move {
            service.start_service(Some(Arc::new(Mutex::new(bound))), shutdown, 1).await;
        })
    }
}

/// The app, with its connections counted.
struct Counted<A> {
    app: Arc<A>,
    connections: Connections,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Counted<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _entered = self.connections.enter();
        self.app.process_new(switch::with_switch(stream), shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
