//! `evergate schema`: the JSON schema of `gateway.yaml`, for editors.

use std::process::ExitCode;

use crate::config;

pub fn schema() -> ExitCode {
    print!("{}", config::schema());
    ExitCode::SUCCESS
}
