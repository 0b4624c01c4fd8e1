//! `evergate run`: start, tell systemd, wait for a signal, drain.

use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, RUNTIME, file};
use crate::config::{Config, LogFormat};
use crate::log;
use crate::server::{self, Running};

/// After the drain, what still runs gets this long before the process ends anyway.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Runs the gateway until a signal ends it.
pub fn run(args: &ConfigFile) -> ExitCode {
    let config = match file::load(args) {
        Ok((_, loaded)) => loaded.config,
        Err(code) => return code,
    };
    install_logger(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads)
        .thread_name("evergate")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::from(RUNTIME);
        }
    };
    let drain = config.shutdown_drain;
    let code = runtime.block_on(async move {
        // Before any socket is bound: a signal that comes early must not kill the process.
        let Some(signals) = Signals::listen() else { return ExitCode::from(RUNTIME) };
        match server::start(config, None).await {
            Ok(running) => serve(running, signals, drain).await,
            Err(error) => {
                tracing::error!(%error, "cannot start");
                ExitCode::from(RUNTIME)
            }
        }
    });
    runtime.shutdown_timeout(RUNTIME_END);
    code
}

fn install_logger(config: &Config) {
    let format = match config.log.format {
        Some(LogFormat::Json) => log::Format::Json,
        Some(LogFormat::Text) => log::Format::Text,
        None => log::Format::detect(),
    };
    log::install(format, config.log.level, true);
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Option<Signals> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        match kinds.map(signal) {
            [Ok(terminate), Ok(interrupt), Ok(hangup)] => {
                Some(Signals { terminate, interrupt, hangup })
            }
            _ => {
                tracing::error!("cannot listen for signals");
                None
            }
        }
    }
}

/// SIGTERM drains; a second one, or SIGINT at any time, ends at once. SIGHUP is not a reload yet.
async fn serve(running: Running, signals: Signals, drain: Duration) -> ExitCode {
    let Signals { mut terminate, mut interrupt, mut hangup } = signals;
    for (name, address) in running.addresses() {
        tracing::info!(listener = %name, %address, "listening");
    }
    tracing::info!(address = %running.admin_address(), "admin listening");
    notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => return ended_at_once(),
            _ = hangup.recv() => {
                tracing::warn!("SIGHUP ignored: reload is not supported yet; restart instead");
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    tracing::info!(drain_s = drain.as_secs(), "draining");
    tokio::select! {
        finished = running.shutdown(drain) => {
            if finished {
                tracing::info!("drained");
            } else {
                tracing::warn!("drain time is over, ending with requests still open");
            }
            ExitCode::SUCCESS
        }
        () = either(&mut terminate, &mut interrupt) => ended_at_once(),
    }
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

fn ended_at_once() -> ExitCode {
    tracing::warn!("ending at once");
    ExitCode::SUCCESS
}

/// Tells systemd; a process that systemd did not start has nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
