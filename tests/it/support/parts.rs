//! Programs: the real binary, and what `./dev test` installs (an OpenID provider, Radicale,
//! Chromium's driver). A part that is missing fails the test with a sentence; nothing is skipped.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;

use super::eventually;
use super::keys::unique;

/// A path below the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The path of an installed part.
pub fn installed(path: &str) -> PathBuf {
    let path = repository(path);
    assert!(path.exists(), "{} is missing: `./dev test` installs it", path.display());
    path
}

/// An empty folder of its own below `target/`, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let path = repository("target/tests").join(unique());
        fs::create_dir_all(&path).expect("target/ is ours");
        Folder(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running program; killed when dropped, with everything it started. Its output goes to a file, so that no reader has to keep
/// up with it.
pub struct Program {
    child: Child,
    log: PathBuf,
    _folder: Folder,
}

impl Program {
    pub fn start(command: &mut Command) -> Program {
        let folder = Folder::new();
        let log = folder.0.join("output");
        let output = File::create(&log).expect("the folder is ours");
        let errors = output.try_clone().expect("a second handle");
        // A group of its own, so that what it starts (a browser) dies with it.
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Program { child, log, _folder: folder }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has written so far, on both streams.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("its output")).to_string()
    }

    /// Waits for a line that contains `text`; returns what follows on that line.
    pub async fn says(&mut self, text: &str) -> String {
        self.says_within(text, Duration::from_secs(30)).await
    }

    /// [`Program::says`] for programs that take their time.
    pub async fn says_within(&mut self, text: &str, wait: Duration) -> String {
        let until = tokio::time::Instant::now() + wait;
        while tokio::time::Instant::now() < until {
            let output = self.output();
            let found = output.split_inclusive('\n').find_map(|line| line.split_once(text));
            if let Some((_, rest)) = found.filter(|(_, rest)| rest.ends_with('\n')) {
                return rest.trim_end().to_string();
            }
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("ended with {status} before it said {text:?}:\n{output}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never said {text:?}:\n{}", self.output());
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill is there").success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("still runs:\n{}", self.output());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ =
            Command::new("kill").args(["-s", "KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// A port for a program that must be told one. Below those that the system hands out by itself, so
/// that no other test's port 0 takes it before the program does.
pub async fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_240 + u16::try_from(std::process::id() % 15_000).expect("small");
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if tokio::net::TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}

/// Waits until something listens on this port.
pub async fn listening(port: u16) {
    eventually("the program listens", async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
}
