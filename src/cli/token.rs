//! `evergate token FILE|-`: explains a token. Never prints the signature.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use super::{RUNTIME, Token as Arguments, file};
use crate::clock;
use crate::config::Config;
use crate::token::explain::Explanation;
use crate::token::{TokenLimits, Tokens, Verdict};

/// A token file may hold this much.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Prints header, claims, times, key and verdict; fails if the token is not good.
pub fn token(args: &Arguments) -> ExitCode {
    let (_, loaded) = match file::load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let explained = read(&args.token)
        .map_err(|error| format!("cannot read {}: {error}", args.token.display()))
        .and_then(|token| explain(&loaded.config, &token));
    match explained {
        Ok(explanation) => {
            print!("{}", text(&explanation));
            match explanation.verdict {
                Verdict::Good(_) => ExitCode::SUCCESS,
                Verdict::Expired(_) | Verdict::Bad(_) | Verdict::KeysUnavailable { .. } => {
                    ExitCode::from(RUNTIME)
                }
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(RUNTIME)
        }
    }
}

/// The token in a file, or on standard input for `-`; white space around it does not count.
pub fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text.trim().to_owned())
}

/// A verifier of this configuration, for one question.
pub fn tokens(config: &Config) -> Result<std::sync::Arc<Tokens>, String> {
    let limits = TokenLimits {
        token_bytes_max: config.limits.token_bytes_max,
        verified_tokens_max: config.limits.verified_tokens_max,
    };
    Tokens::new(config.issuers.clone(), limits).map_err(|error| error.to_string())
}

/// Runs one asynchronous question to its end.
pub fn block_on<T>(question: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| error.to_string())?.block_on(question))
}

fn explain(config: &Config, token: &str) -> Result<Explanation, String> {
    let tokens = tokens(config)?;
    block_on(tokens.explain(token, clock::now()))
}

fn text(explanation: &Explanation) -> String {
    let json = |object: &Option<_>| match object {
        Some(object) => serde_json::to_string_pretty(object).unwrap_or_default(),
        None => "not readable: not base64url of a JSON object".to_owned(),
    };
    let mut out =
        format!("header  {}\nclaims  {}\n", json(&explanation.header), json(&explanation.claims));
    for time in &explanation.times {
        out.push_str(&format!("{:<7} {} ({})\n", time.claim, time.iso, time.relative));
    }
    match &explanation.issuer {
        Some(issuer) => out.push_str(&format!(
            "issuer  {} ({}), audience {}, algorithms {}\n",
            issuer.name,
            issuer.url,
            issuer.audience.join(" or "),
            issuer.algorithms.join(" "),
        )),
        None => out.push_str("issuer  none of the configured ones\n"),
    }
    out.push_str(&format!("key     {}\n", explanation.key.as_deref().unwrap_or("none")));
    let verdict = match &explanation.verdict {
        Verdict::Good(_) => "good",
        Verdict::Expired(_) => "expired",
        Verdict::Bad(reason) => reason.word(),
        Verdict::KeysUnavailable { .. } => "keys_unavailable",
    };
    out.push_str(&format!("verdict {verdict}: {}\n", explanation.detail));
    out
}
