//! The real binary: exit codes, signals, and what it writes.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::support::gateway::{Binary, evergate};
use super::support::parts::{Program, free_port, listening};
use super::support::*;

pub struct Process {
    pub backend: Backend,
    pub upstream: Upstream,
    pub address: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    pub program: Program,
    binary: Binary,
}

impl Process {
    async fn start() -> Process {
        Process::with("log: { format: json }").await
    }

    /// With more keys at the top.
    pub async fn with(keys: &str) -> Process {
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let (port, admin) = (free_port().await, free_port().await);
        let yaml = STANDARD
            .replacen("listen: 127.0.0.1:0", &format!("{keys}\nlisten: 127.0.0.1:{port}"), 1)
            .replacen("127.0.0.1:0", &format!("127.0.0.1:{admin}"), 1);
        let yaml = format!("{yaml}  - {{ path: /quiet, auth: public, access_log: false }}\n");
        let binary = Binary::with(&world::place(&yaml, &backend, &upstream));
        let program = binary.start("run");
        listening(port).await;
        let [address, admin] = [port, admin].map(|port| ([127, 0, 0, 1], port).into());
        Process { backend, upstream, address, admin, program, binary }
    }

    /// The JSON lines of its log with this target.
    fn lines(&self, target: &str) -> Vec<serde_json::Value> {
        let output = self.program.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &serde_json::Value| line["target"] == target).collect()
    }

    /// Sends a request that the app answers after `ms`, and waits until the app has it.
    async fn under_way(&self, ms: u32) -> wire::Stream {
        let token = self.backend.token("alice").sign();
        let before = self.upstream.record.count();
        let mut stream = client::connect(self.address).await;
        let ask = get(&format!("/slow/{ms}")).access(&token);
        stream.write_all(&ask.bytes()).await.expect("sent");
        eventually("the app has it", async || self.upstream.record.count() > before).await;
        stream
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_requests_under_way_finish_and_takes_no_new_ones() {
    let mut process = Process::start().await;
    let mut slow = process.under_way(2000).await;

    process.program.signal("TERM");
    eventually("nobody listens", async || {
        tokio::net::TcpStream::connect(process.address).await.is_err()
    })
    .await;
    let ready = get("/readyz").send(process.admin).await;
    let reply = client::read_reply(&mut slow, "GET").await;

    assert_eq!((ready.status, ready.text().as_str()), (503, "draining\n"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    assert_eq!(process.program.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_or_a_sigint_ends_at_once() {
    for second in ["TERM", "INT"] {
        let mut process = Process::start().await;
        let _slow = process.under_way(60_000).await;

        process.program.signal("TERM");
        sleep(Duration::from_millis(300)).await;
        assert!(!process.program.has_ended(), "it waits for the request");
        process.program.signal(second);

        let status = tokio::time::timeout(Duration::from_secs(3), process.program.ended()).await;
        let status = status.expect("it ends at once");
        assert!(status.code() == Some(0) || status.signal().is_none(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_is_ignored_with_a_log_line() {
    let mut process = Process::start().await;

    process.program.signal("HUP");
    sleep(Duration::from_millis(300)).await;

    assert!(!process.program.has_ended());
    let reply = get("/static/x").send(process.address).await;
    assert_eq!(reply.status, 200);
    assert!(process.program.output().contains("SIGHUP"), "{}", process.program.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_has_the_decision_and_no_secret() {
    let mut process = Process::start().await;
    let pair = process.backend.login("alice", Token::expired);
    let reply = get("/page?key=private").pair(&pair).send(process.address).await;
    let new = reply.new_pair().expect("cookies");
    let id = reply.head.get("x-request-id").expect("an id").to_string();
    get("/admin/").pair(&new).fetch().send(process.address).await;

    let line = process.program.says(&id).await;
    process.program.says("missing_role").await;

    assert!(!line.is_empty());
    let output = process.program.output();
    for secret in [&pair.access, &pair.refresh, &new.access, &new.refresh, "s3cret", "key=private"]
    {
        assert!(!output.contains(secret), "{secret} is in the log:\n{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_line_names_the_refresh_token_as_the_audit_line_does() {
    let process = Process::start().await;
    let pair = process.backend.login("alice", Token::expired);
    get("/page").pair(&pair).send(process.address).await;
    eventually("both lines", async || {
        [process.lines("access").len(), process.lines("audit").len()] == [1, 1]
    })
    .await;

    let [access, audit] = ["access", "audit"].map(|target| process.lines(target).remove(0));

    assert_eq!(
        (access["token"].as_str().map(str::len), &access["token"]),
        (Some(8), &audit["old"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_line_has_these_fields_and_no_others() {
    let process = Process::start().await;
    let token = process.backend.token("alice").sign();
    post("/page?q=1", "12345").access(&token).send(process.address).await;
    // A line is written after its answer has left: wait, or the second may overtake the first.
    eventually("a line", async || process.lines("access").len() == 1).await;
    get("/admin/x").access(&token).fetch().send(process.address).await;
    eventually("two lines", async || process.lines("access").len() == 2).await;

    let lines = process.lines("access");

    let fields = |line: &serde_json::Value| -> Vec<String> {
        line.as_object().expect("an object").keys().cloned().collect()
    };
    let common = "client decision duration_ms level message method path reason request_bytes \
                  request_id response_bytes route status target timestamp";
    let mut passed: Vec<&str> = common.split_whitespace().chain(["user"]).collect();
    passed.sort_unstable();
    assert_eq!(fields(&lines[0]), passed);
    assert_eq!(fields(&lines[1]), common.split_whitespace().collect::<Vec<_>>());
    let values = |line: &serde_json::Value| {
        ["client", "method", "path", "status", "route", "decision", "reason", "user"]
            .map(|field| line[field].to_string().replace('"', ""))
            .join(" ")
    };
    assert_eq!(values(&lines[0]), "127.0.0.1 POST /page 200 /* forward ok alice");
    assert_eq!(values(&lines[1]), "127.0.0.1 GET /admin/x 403 /admin/* answer missing_role null");
    assert_eq!((&lines[0]["request_bytes"], &lines[0]["response_bytes"]), (&5.into(), &5.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_leaves_one_audit_line_that_links_two_hashes() {
    let process = Process::start().await;
    let pair = process.backend.login("alice", Token::expired);
    assert_eq!(get("/page").pair(&pair).send(process.address).await.status, 200);
    eventually("a line", async || !process.lines("audit").is_empty()).await;

    let lines = process.lines("audit");

    assert_eq!(lines.len(), 1, "{lines:?}");
    for hash in ["old", "new"] {
        let hash = lines[0][hash].as_str().expect("text");
        assert!(hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()), "{hash}");
    }
    assert_ne!(lines[0]["old"], lines[0]["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn access_lines_have_a_switch_of_their_own_and_ignore_the_level() {
    for (log, access, listening) in
        [("{ format: json, level: error }", 1, false), ("{ format: json, access: false }", 0, true)]
    {
        let process = Process::with(&format!("log: {log}")).await;
        for target in ["/static/x", "/quiet"] {
            assert_eq!(get(target).send(process.address).await.status, 200);
        }
        sleep(Duration::from_millis(300)).await;
        assert_eq!(process.lines("access").len(), access, "{log}");
        assert_eq!(process.program.output().contains("listening"), listening, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_format_text_is_for_people() {
    let mut process = Process::with("log: { format: text }").await;
    assert_eq!(get("/static/x").send(process.address).await.status, 200);

    let rest = process.program.says("method=\"GET\" path=\"/static/x\"").await;

    assert!(rest.contains("status=200"), "{rest}");
    assert_eq!(process.lines("access").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_as_many_as_the_file_says() {
    let workers = async |threads: usize| {
        let process = Process::with(&format!("threads: {threads}")).await;
        let tasks = format!("/proc/{}/task", process.program.id());
        std::fs::read_dir(tasks).expect("it runs").count()
    };

    // The runtime adds one now and then for what blocks.
    let more = workers(12).await - workers(2).await;
    assert!((8..=12).contains(&more), "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_is_how_long_a_request_may_take_to_end() {
    let mut process = Process::with("shutdown: { drain: 200ms }").await;
    let _slow = process.under_way(60_000).await;

    process.program.signal("TERM");

    let ended = tokio::time::timeout(Duration::from_secs(5), process.program.ended()).await;
    assert_eq!(ended.expect("it does not wait for the request").code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_asks_the_running_gateway() {
    let mut process = Process::start().await;
    eventually("keys are there", async || {
        process.binary.start("healthcheck").ended().await.code() == Some(0)
    })
    .await;

    process.program.signal("TERM");
    process.program.ended().await;

    assert_eq!(process.binary.start("healthcheck").ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_ends_with_78_and_says_where() {
    let binary = Binary::with("listen: 127.0.0.1:0\nupstrem: http://127.0.0.1:1\n");
    for argument in ["run", "check"] {
        let mut program = binary.start(argument);
        assert_eq!(program.ended().await.code(), Some(78), "{argument}");
        let output = program.output();
        assert!(output.contains("gateway.yaml:2:1"), "{output}");
        assert!(output.contains("upstream"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_ends_with_2_and_a_missing_file_with_78() {
    let mut wrong = Program::start(evergate().arg("walk"));
    let mut missing = Program::start(evergate().args(["check", "-c", "no-such-file.yaml"]));

    assert_eq!(wrong.ended().await.code(), Some(2));
    assert_eq!(missing.ended().await.code(), Some(78));
    assert!(missing.output().contains("no-such-file.yaml"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_ends_with_1_and_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let yaml = STANDARD.replacen("127.0.0.1:0", &address, 1);
    let binary = Binary::with(&world::place(&yaml, &backend, &upstream));

    let mut program = binary.start("run");

    assert_eq!(program.ended().await.code(), Some(1));
    assert!(program.output().contains(&address), "{}", program.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_configuration_passes_the_check_and_its_public_routes_are_listed() {
    let (backend, upstream) = (Backend::start().await, Upstream::start().await);
    let binary = Binary::with(&world::place(STANDARD, &backend, &upstream));

    let mut program = binary.start("check");

    assert_eq!(program.ended().await.code(), Some(0), "{}", program.output());
    assert!(program.output().contains("/static/*"), "{}", program.output());
}
