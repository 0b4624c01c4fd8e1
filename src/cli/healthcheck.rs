//! `evergate healthcheck`: asks a running gateway's `/readyz`, for container health checks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::{ConfigFile, RUNTIME, file};

const LIMIT: Duration = Duration::from_secs(3);
/// One line an issuer; more is not read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Success if the gateway of this configuration is ready; else its reasons on stderr.
pub fn healthcheck(args: &ConfigFile) -> ExitCode {
    let address = match file::load(args) {
        Ok((_, loaded)) => loaded.config.admin,
        Err(code) => return code,
    };
    match ask(address) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(answer) => {
            let reasons = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            eprint!("not ready\n{reasons}");
            ExitCode::from(RUNTIME)
        }
        Err(error) => {
            eprintln!("no gateway answers at {address}: {error}");
            ExitCode::from(RUNTIME)
        }
    }
}

/// One request by hand: the answer is a status line and a few words, no client is needed for it.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
