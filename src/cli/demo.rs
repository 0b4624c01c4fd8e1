//! `evergate demo`: a gateway, an app and an auth backend on loopback, to look at or to check.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::{Demo as Arguments, RUNTIME, colour_on_stderr};
use crate::demo::config_file::Written;
use crate::demo::events::{Bus, GatewayEvent};
use crate::demo::{Demo, Options, script};
use crate::proxy::observe::{Event, Observer};
use crate::server::{self, Running};
use crate::{config, log};

/// Access tokens of the page: long enough to watch, short enough to wait for.
const TOKEN_LIFE: Duration = Duration::from_secs(20);
/// And of the script, which waits for several of them.
const SCRIPT_TOKEN_LIFE: Duration = Duration::from_secs(6);
const DRAIN: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C, or until the script has ended.
pub fn demo(args: &Arguments) -> ExitCode {
    let level = if args.verbose { tracing::Level::INFO } else { tracing::Level::ERROR };
    log::install(log::Format::detect(), level, args.verbose);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code =
        runtime.block_on(async { if args.script { scripted().await } else { shown(args).await } });
    runtime.shutdown_timeout(DRAIN);
    code.unwrap_or_else(|error| failed(error.as_ref()))
}

type Failure = Box<dyn std::error::Error>;

/// Everything up and running, for a browser.
async fn shown(args: &Arguments) -> Result<ExitCode, Failure> {
    let demo = Demo::start(Options { port: args.port, token_life: TOKEN_LIFE }).await?;
    let (path, written) = demo.write_config(Path::new("."))?;
    match written {
        Written::New => println!("wrote {}", path.display()),
        Written::Kept => println!("{} is there already and was used", path.display()),
        Written::Replaced(old) => {
            println!("wrote {} (what was there is now {})", path.display(), old.display());
        }
    }
    let running = gateway(&demo, &path).await?;
    println!("\n  Open  http://{}/\n", demo.addresses.gateway);
    println!("alice (staff) and root (admin) can log in; their passwords are on the page.");
    println!("Metrics: http://{}/metrics   Stop: Ctrl-C", running.admin_address());
    tokio::signal::ctrl_c().await?;
    running.shutdown(DRAIN).await;
    Ok(ExitCode::SUCCESS)
}

/// The same steps without a browser. Free ports, short tokens, a directory of its own: nothing stays.
async fn scripted() -> Result<ExitCode, Failure> {
    let directory = scratch()?;
    let demo = Demo::start(Options { port: 0, token_life: SCRIPT_TOKEN_LIFE }).await?;
    let (path, _) = demo.write_config(&directory)?;
    let running = gateway(&demo, &path).await?;
    let passed =
        script::run(demo.addresses.gateway, &demo.controls, |claim| println!("{claim}")).await;
    running.shutdown(DRAIN).await;
    std::fs::remove_dir_all(&directory)?;
    Ok(if passed? { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME) })
}

fn scratch() -> std::io::Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("evergate-demo-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

async fn gateway(demo: &Demo, file: &Path) -> Result<Running, Failure> {
    let loaded =
        config::load(file).map_err(|diagnostics| diagnostics.render(colour_on_stderr()))?;
    let running = server::start(loaded.config, Some(observer(demo.events().clone()))).await?;
    demo.gateway_is(demo.addresses.gateway);
    Ok(running)
}

/// Tells the front page what the gateway says.
fn observer(bus: Bus) -> Observer {
    Arc::new(move |event: Event<'_>| {
        bus.gateway(match event {
            Event::Verified { route, cached } => {
                GatewayEvent::Verified { route: route.into(), cached }
            }
            Event::RefreshStarted { trigger } => {
                GatewayEvent::RefreshStarted { trigger: trigger.into() }
            }
            Event::RefreshFinished { result, shared_by, took_ms } => {
                GatewayEvent::RefreshFinished { result: result.into(), shared_by, ms: took_ms }
            }
            Event::Delivered => GatewayEvent::Delivered,
            Event::Answered { route, reason, status } => {
                GatewayEvent::Decision { route: route.into(), reason: reason.into(), status }
            }
        });
    })
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(RUNTIME)
}
