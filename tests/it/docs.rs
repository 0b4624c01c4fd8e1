//! docs/backends.md, taken at its word: each file in it is accepted, and each answer in it is judged
//! as it says.

use evergate::config;
use evergate::policy::secret::Secret;
use evergate::policy::time::Now;
use evergate::refresh::{Ask, AuthBackend, HttpBackend, Outcome, RefreshSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const BACKENDS: &str = include_str!("../../docs/backends.md");

/// One section about a backend: its name, its `gateway.yaml`, its answers and what each of them means.
struct Section {
    name: &'static str,
    file: String,
    answers: Vec<(&'static str, String)>,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = BACKENDS.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("## ") {
            sections.push(Section { name, file: String::new(), answers: Vec::new() });
        }
        let (Some(kind), Some(section)) = (line.strip_prefix("```"), sections.last_mut()) else {
            continue;
        };
        let block =
            lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n"));
        match kind {
            "yaml" => section.file = block.collect(),
            "http over" | "http kept" => section.answers.push((kind, block.collect())),
            _ => panic!("{}: a block of {kind}", section.name),
        }
    }
    sections
}

/// The only refresh settings of a file.
fn settings(section: &Section) -> RefreshSettings {
    let env = |name: &str| match name {
        "CLIENT_SECRET" | "JWT_SECRET" => Some("a secret of more than thirty-two bytes".to_owned()),
        _ => None,
    };
    let loaded = config::from_str(section.name, &section.file, &env)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(loaded.warnings.to_string(), "", "{}", section.name);
    let [settings] = loaded.config.refresh.as_slice() else { panic!("{}", section.name) };
    settings.clone()
}

/// Asks a server that answers with this.
async fn ask(mut settings: RefreshSettings, answer: &str) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.url = format!("http://{}/token", listener.local_addr().unwrap());
    let (head, body) = answer.split_once("\n\n").unwrap();
    let body = body.trim_end();
    let head = head.replace('\n', "\r\n");
    let length = body.len();
    let answer = format!("{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 4096];
        assert!(connection.read(&mut asked).await.unwrap() > 0);
        connection.write_all(answer.as_bytes()).await.unwrap();
        // Until the client has closed: its request may come in two parts.
        while connection.read(&mut asked).await.is_ok_and(|read| read > 0) {}
    });
    // An error means that another test was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let backend = HttpBackend::new(&settings).unwrap();
    let refresh = Ask { refresh: Secret::new("R"), access: None };
    let outcome = backend.renew(&refresh, Now::default()).await;
    server.abort();
    outcome
}

#[test]
fn each_known_backend_has_a_file_that_is_accepted_without_a_word() {
    let sections = sections();
    assert_eq!(sections.len(), 6);
    for section in &sections {
        assert!(section.file.starts_with("# gateway.yaml\n"), "{}", section.name);
        settings(section);
    }
}

#[tokio::test]
async fn each_answer_of_a_known_backend_means_what_its_page_says() {
    let mut judged = 0;
    for section in sections() {
        for (kind, answer) in &section.answers {
            let outcome = ask(settings(&section), answer).await;
            let over = outcome == Outcome::Refused;
            assert_eq!(over, *kind == "http over", "{}: {outcome:?} for\n{answer}", section.name);
            assert!(!matches!(outcome, Outcome::Renewed(_)), "{answer}");
            judged += 1;
        }
    }
    assert!(judged > 15, "only {judged} answers");
}
