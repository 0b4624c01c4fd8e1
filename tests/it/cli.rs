//! The commands that explain: which route and why, and what a token is worth.

use super::support::gateway::{Binary, evergate};
use super::support::parts::{Folder, Program};
use super::support::*;

/// A file as an operator has it, and a folder for tokens.
struct Desk {
    backend: Backend,
    binary: Binary,
    folder: Folder,
}

impl Desk {
    async fn new() -> Desk {
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let binary = Binary::with(&world::place(STANDARD, &backend, &upstream));
        Desk { backend, binary, folder: Folder::new() }
    }

    fn token(&self, token: &str) -> String {
        self.folder.write("token", token).display().to_string()
    }

    /// Exit code and output of `evergate ARGUMENTS -c FILE`.
    async fn says(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut program =
            Program::start(evergate().args(arguments).arg("-c").arg(&self.binary.file));
        (program.ended().await.code(), program.output())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_test_tells_who_wins_why_others_lost_and_what_the_app_would_see() {
    let desk = Desk::new().await;
    let file = desk.token(&desk.backend.token("alice").sign());

    let (code, output) =
        desk.says(&["routes", "test", "GET", "http://app.test/page?x=1", "--token", &file]).await;

    assert_eq!(code, Some(0), "{output}");
    assert!(output.starts_with("path      /page\n"), "{output}");
    for name in ["/auth/*", "/static/*", "/optional/*", "/admin/*", "/*"] {
        let lines: Vec<&str> =
            output.lines().filter(|l| l.split_whitespace().nth(1) == Some(name)).collect();
        assert_eq!(lines.len(), 1, "{name}: {output}");
    }
    assert!(output.contains("token valid\nforward   as alice\n"), "{output}");
    assert!(output.contains("header    x-forwarded-user: alice\n"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_test_says_what_would_be_answered() {
    let desk = Desk::new().await;
    let file = desk.token(&desk.backend.token("alice").sign());
    let html = ["-H", "Accept: text/html"];
    let token = ["--token", &file];
    for (target, more, expected) in [
        ("/page", &[][..], "answer    no_credentials (JSON)\n"),
        ("/page", &html[..], "answer    no_credentials (redirect to the login page)\n"),
        ("/admin/x", &token[..], "answer    missing_role (JSON)\n"),
        ("/a//b", &[][..], "answer    ambiguous_path: double slash\n"),
        ("/static/x", &[][..], "forward   without identity\n"),
        (
            "/_evergate/session",
            &[][..],
            "path      /_evergate/session\nserve     gateway:session\n",
        ),
        ("/_evergate/refresh", &[][..], "answer    method_not_allowed, Allow: POST\n"),
        ("/_evergate/x", &[][..], "answer    no_route\n"),
    ] {
        let arguments = [&["routes", "test", "GET", target][..], more].concat();
        let (code, output) = desk.says(&arguments).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.ends_with(expected), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_explains_a_token_and_never_prints_its_signature() {
    let desk = Desk::new().await;
    for (token, code, verdict) in [
        (desk.backend.token("alice"), 0, "verdict good: "),
        (desk.backend.token("alice").expired(), 1, "verdict expired: "),
        (desk.backend.token("alice").claim("aud", "other"), 1, "verdict wrong_audience: "),
    ] {
        let signed = token.sign();
        let (ended, output) = desk.says(&["token", &desk.token(&signed)]).await;

        assert_eq!(ended, Some(code), "{output}");
        for part in ["\"alg\": \"ES256\"", "\"sub\": \"alice\"", "\nexp ", "\nkey ", verdict] {
            assert!(output.contains(part), "{part}: {output}");
        }
        let signature = signed.rsplit('.').next().expect("three parts");
        assert!(!output.contains(signature), "{output}");
    }
}
