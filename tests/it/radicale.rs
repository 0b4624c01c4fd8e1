//! A real app that was not written for us: Radicale, a calendar server that believes
//! `X-Remote-User`, behind the gateway.

use std::process::Command;

use super::support::client::ask;
use super::support::parts::{Folder, Program, free_port, installed, listening, repository};
use super::support::*;

struct Radicale {
    backend: Backend,
    gateway: Gateway,
    port: u16,
    _program: Program,
    _storage: Folder,
}

const CALENDAR: &str = "<?xml version=\"1.0\"?>\n<C:mkcalendar xmlns:D=\"DAV:\" \
    xmlns:C=\"urn:ietf:params:xml:ns:caldav\"><D:set><D:prop>\
    <D:displayname>Team</D:displayname></D:prop></D:set></C:mkcalendar>";

const EVENT: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Evergate//Test//EN\r\n\
    BEGIN:VEVENT\r\nUID:meeting-1\r\nDTSTAMP:20260101T090000Z\r\nDTSTART:20260102T090000Z\r\n\
    DTEND:20260102T100000Z\r\nSUMMARY:Meeting\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

impl Radicale {
    async fn start() -> Radicale {
        let (port, storage) = (free_port().await, Folder::new());
        let mut command = Command::new(installed("target/parts/radicale/bin/python"));
        command.args(["-m", "radicale", "--config"]).arg(repository("tests/parts/radicale/config"));
        command.arg("--server-hosts").arg(format!("127.0.0.1:{port}"));
        command.arg("--storage-filesystem-folder").arg(&storage.0);
        let program = Program::start(&mut command);
        listening(port).await;
        let (backend, upstream) = (Backend::start().await, Upstream::start().await);
        let yaml = "
listen: 127.0.0.1:0
admin: { address: \"127.0.0.1:0\" }
upstream: http://UPSTREAM
issuer: { url: \"http://BACKEND\", audience: legacy-app }
refresh: { url: \"http://BACKEND/token\" }
identity_headers: { X-Remote-User: \"{claims.user}\" }
routes: [ { path: /* } ]
"
        .replace("UPSTREAM", &format!("127.0.0.1:{port}"));
        let gateway = Gateway::start(&world::place(&yaml, &backend, &upstream)).await;
        Radicale { backend, gateway, port, _program: program, _storage: storage }
    }

    async fn send(&self, ask: Ask) -> Reply {
        ask.send(self.gateway.address).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_creates_a_calendar_and_an_event_through_the_gateway() {
    let app = Radicale::start().await;
    let alice = app.backend.token("alice").sign();

    let made = ask("MKCALENDAR", "/alice/team/").body(CALENDAR).access(&alice);
    let made = app.send(made).await;
    let put = ask("PUT", "/alice/team/meeting-1.ics").body(EVENT).access(&alice);
    let put = app.send(put.header("Content-Type", "text/calendar")).await;
    let got = app.send(get("/alice/team/meeting-1.ics").access(&alice)).await;

    assert_eq!((made.status, put.status, got.status), (201, 201, 200));
    assert!(got.text().contains("SUMMARY:Meeting"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calendar_is_renewed_under_an_expired_token_and_its_body_arrives() {
    let app = Radicale::start().await;
    let pair = app.backend.login("alice", Token::expired);

    let made = app.send(ask("MKCALENDAR", "/alice/team/").body(CALENDAR).pair(&pair)).await;

    assert_eq!(made.status, 201);
    assert!(made.new_pair().is_some());
    assert_eq!(app.backend.counts().grants, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_header_does_not_get_in() {
    let app = Radicale::start().await;
    let (alice, bob) = (app.backend.token("alice").sign(), app.backend.token("bob").sign());
    let made = app.send(ask("MKCALENDAR", "/alice/team/").body(CALENDAR).access(&alice)).await;
    assert_eq!(made.status, 201);

    for name in ["X-Remote-User", "x_remote_user", "X.Remote.User"] {
        let stranger = app.send(get("/alice/team/").header(name, "alice")).await;
        let other = app.send(get("/alice/team/").access(&bob).header(name, "alice")).await;
        assert_eq!((stranger.status, other.status), (401, 403), "{name}");
    }
    // What the gateway keeps away: the app itself believes whoever asks.
    let direct = get("/alice/team/").header("X-Remote-User", "alice");
    let direct = direct.send(([127, 0, 0, 1], app.port).into()).await;
    assert_ne!(direct.status, 403, "else this test would show nothing");
}
