//! The command line: what can be asked for, and which exit code answers.
//!
//! Each subcommand is a file of this room with one function from its arguments to an
//! [`std::process::ExitCode`]. Answers go to stdout, everything about them to stderr.

mod file;
mod run;
mod check;
mod config;
mod routes;
mod routes_test;
mod token;
mod schema;
mod healthcheck;
#[cfg(feature = "demo")]
mod demo;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// It could not be done.
pub const RUNTIME: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 2;
/// The configuration was wrong (`EX_CONFIG` of `sysexits.h`).
pub const CONFIGURATION: u8 = 78;

/// A reverse-proxy authentication gateway: people who are logged in never notice that tokens
/// expire, people who are not never get through.
#[derive(Debug, Parser)]
#[command(name = "evergate", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway.
    Run(ConfigFile),
    /// Check the configuration and print everything that is wrong with it.
    Check(ConfigFile),
    /// Print the configuration in its long form: every default, secrets redacted.
    Config(ConfigFile),
    /// Print the routes in the order in which they match, or explain one request.
    Routes(Routes),
    /// Explain a token: header, claims, which key, verdict.
    Token(Token),
    /// Print the JSON schema of the configuration.
    Schema,
    /// Ask a running gateway whether it is ready.
    Healthcheck(ConfigFile),
    /// Try everything out: a legacy app, an auth backend and the gateway, in one process.
    #[cfg(feature = "demo")]
    Demo(Demo),
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration; without it `./gateway.yaml`, then `/etc/evergate/gateway.yaml`.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Routes {
    #[command(flatten)]
    pub config: ConfigFile,
    #[command(subcommand)]
    pub command: Option<RoutesCommand>,
}

#[derive(Debug, Subcommand)]
pub enum RoutesCommand {
    /// Tell which route takes a request, why others do not, and what is decided.
    Test(RoutesTest),
}

#[derive(Debug, Args)]
pub struct RoutesTest {
    #[command(flatten)]
    pub config: ConfigFile,
    /// Such as GET.
    pub method: String,
    /// A whole URL, or a path.
    pub url: String,
    /// A file with the access token, `-` for stdin.
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// A request header; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Token {
    #[command(flatten)]
    pub config: ConfigFile,
    /// A file with the token, `-` for stdin.
    #[arg(value_name = "FILE|-")]
    pub token: PathBuf,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Port of the page; the four after it are used too.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Run the demo's steps without a browser and print what passed.
    #[arg(long)]
    pub script: bool,
    /// Show the gateway's log.
    #[arg(long)]
    pub verbose: bool,
}

/// Does what the arguments ask for; the first is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do for a message that cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    // One line a subcommand.
    match cli.command {
        Command::Check(args) => check::check(&args),
        Command::Config(args) => config::config(&args),
        Command::Routes(Routes { config, command: None }) => routes::table(&config),
        Command::Schema => schema::schema(),
        Command::Run(args) => run::run(&args),
        Command::Routes(Routes { command: Some(RoutesCommand::Test(args)), .. }) => {
            routes_test::routes_test(&args)
        }
        Command::Token(args) => token::token(&args),
        Command::Healthcheck(args) => healthcheck::healthcheck(&args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&args),
    }
}

/// Colours only where a person reads, and has not asked for none (<https://no-color.org>).
fn colour_on_stderr() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
