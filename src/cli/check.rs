//! `evergate check`: all errors at once, the warnings, and the open doors each time.

use std::process::ExitCode;

use super::{ConfigFile, colour_on_stderr, file};
use crate::config::PublicRoute;

pub fn check(args: &ConfigFile) -> ExitCode {
    let (path, loaded) = match file::load(args) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if !loaded.warnings.is_empty() {
        eprintln!("{}", loaded.warnings.render(colour_on_stderr()));
    }
    print!("{}", open_doors(&loaded.public_routes));
    println!("{}: no errors, {} routes", path.display(), loaded.config.routes.len());
    ExitCode::SUCCESS
}

fn open_doors(public: &[PublicRoute]) -> String {
    if public.is_empty() {
        return "no route is public\n".to_owned();
    }
    let mut text = "public routes, on which no token is looked at:\n".to_owned();
    for route in public {
        text.push_str("  ");
        text.push_str(&route.name);
        if let Some(over) = &route.overrides {
            text.push_str(&format!("  (an exception to {over})"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_doors_name_what_they_are_an_exception_to() {
        let public = [
            PublicRoute { name: "/static/*".into(), overrides: Some("/*".into()) },
            PublicRoute { name: "a.example/x".into(), overrides: None },
        ];
        let expected = "public routes, on which no token is looked at:\n  \
                        /static/*  (an exception to /*)\n  a.example/x\n";
        assert_eq!(open_doors(&public), expected);
        assert_eq!(open_doors(&[]), "no route is public\n");
    }
}
