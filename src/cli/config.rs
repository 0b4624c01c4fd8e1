//! `evergate config`: the effective configuration in its long form.

use std::process::ExitCode;

use super::{ConfigFile, file};

pub fn config(args: &ConfigFile) -> ExitCode {
    match file::load(args) {
        Ok((_, loaded)) => {
            print!("{}", loaded.long_form());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
