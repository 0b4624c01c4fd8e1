//! Which `gateway.yaml` is meant, read and checked.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CONFIGURATION, ConfigFile, colour_on_stderr};
use crate::config::{self, Loaded};

/// Where the configuration is looked for, in this order.
const PLACES: [&str; 2] = ["./gateway.yaml", "/etc/evergate/gateway.yaml"];

/// The file that is meant: the one named, else the first that is there.
pub fn path(args: &ConfigFile) -> Option<PathBuf> {
    let found = || PLACES.iter().map(Path::new).find(|path| path.is_file());
    args.file.clone().or_else(|| found().map(Path::to_owned))
}

/// Loads the configuration; errors are printed to stderr.
///
/// # Errors
/// The exit code for a configuration that is missing or wrong.
pub fn load(args: &ConfigFile) -> Result<(PathBuf, Loaded), ExitCode> {
    let Some(path) = path(args) else {
        eprintln!("error: there is no configuration: neither {}", PLACES.join(" nor "));
        return Err(ExitCode::from(CONFIGURATION));
    };
    match config::load(&path) {
        Ok(loaded) => Ok((path, loaded)),
        Err(diagnostics) => {
            eprint!("{}", diagnostics.render(colour_on_stderr()));
            Err(ExitCode::from(CONFIGURATION))
        }
    }
}
