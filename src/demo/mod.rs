//! `evergate demo`: the gateway, an app and an auth backend in one process, on loopback only.
//!
//! The gateway is the real one and runs from a file that is written next to you; everything else is
//! here. [`Demo::start`] binds and serves the app, the auth backend and the front page, so that their
//! addresses are known; the caller writes the configuration ([`Demo::write_config`]), starts a
//! gateway from it, passes the gateway's events to [`Demo::events`], and says where it listens
//! ([`Demo::gateway_is`]). Then people look at it, or [`script::run`] does.
//!
//! This room must never become part of the gateway: nothing outside `cli` uses it, and it uses of the
//! gateway only the clock and plain types. It knows the gateway as everybody does: by HTTP.

pub mod events;
pub mod users;
pub mod tokens;
pub mod sessions;
pub mod controls;
pub mod html;
pub mod auth_backend;
pub mod login;
pub mod legacy_app;
pub mod forge;
pub mod front;
pub mod http_client;
pub mod config_file;
pub mod script;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::auth_backend::AuthBackend;
use self::config_file::{Addresses, Written};
use self::controls::Controls;
use self::events::Bus;
use self::front::Front;
use self::tokens::{Signer, TokenError};

/// How the demo is to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The gateway's port. The app, the auth backend, the front page and the admin listener take the
    /// four after it; with 0 each takes a free one.
    pub port: u16,
    /// How long access tokens live, in whole seconds.
    pub token_life: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { port: 8080, token_life: Duration::from_secs(20) }
    }
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("cannot listen on {address} for {what}: {source}; choose others with --port")]
    Listen { what: &'static str, address: SocketAddr, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("too many files named gateway-demo.kept-N.yaml; remove some")]
    TooManyKept,
    #[error("cannot set up the HTTP client: {0}")]
    Client(reqwest::Error),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The app, the auth backend and the front page, running. Dropping it stops them.
pub struct Demo {
    pub addresses: Addresses,
    pub controls: Arc<Controls>,
    front: Arc<Front>,
    tasks: Vec<JoinHandle<()>>,
}

impl Demo {
    /// Binds and serves everything but the gateway, on the current Tokio runtime.
    ///
    /// # Errors
    /// A port is taken, or the machine has no randomness.
    pub async fn start(options: Options) -> Result<Demo, DemoError> {
        let after = |offset| match options.port {
            0 => 0,
            port => port.saturating_add(offset),
        };
        // The gateway's own two are only tried here, so that a taken port is told before anything runs.
        let (gateway, _) = listen("the gateway", options.port).await?;
        let (app, app_listener) = listen("the app", after(1)).await?;
        let (auth, auth_listener) = listen("the auth backend", after(2)).await?;
        let (front, front_listener) = listen("the front page", after(3)).await?;
        let (admin, _) = listen("the admin listener", after(4)).await?;

        let signer = Signer::new(format!("http://{auth}"))?;
        let controls = Arc::new(Controls::new(signer, Bus::new(), options.token_life));
        let backend = Arc::new(AuthBackend::new(Arc::clone(&controls)));
        let page = Arc::new(Front::new(Arc::clone(&backend), http_client::http_client()?));
        let tasks = vec![
            serve(app_listener, legacy_app::router(legacy_app::Pace::default())),
            serve(auth_listener, auth_backend::router(backend)),
            serve(front_listener, front::router(Arc::clone(&page))),
        ];
        let addresses = Addresses { gateway, admin, app, auth, front };
        Ok(Demo { addresses, controls, front: page, tasks })
    }

    /// Writes `gateway-demo.yaml` into `directory`; tells where it is and what became of an old one.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn write_config(&self, directory: &Path) -> Result<(PathBuf, Written), DemoError> {
        config_file::write(directory, &config_file::text(&self.addresses))
    }

    /// Where the gateway's events go.
    pub fn events(&self) -> &Bus {
        &self.controls.events
    }

    /// The gateway runs and listens here.
    pub fn gateway_is(&self, address: SocketAddr) {
        self.front.gateway_is(address);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Binds a port on loopback, or any free one for port 0.
async fn listen(what: &'static str, port: u16) -> Result<(SocketAddr, TcpListener), DemoError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |source| DemoError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((bound, listener))
}

fn serve(listener: TcpListener, router: Router) -> JoinHandle<()> {
    tokio::spawn(async move {
        // axum retries what accept can recover from; it never returns an error.
        let _ = axum::serve(listener, router).await;
    })
}
