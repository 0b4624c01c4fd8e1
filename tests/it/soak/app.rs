//! The app behind the gateways: it checks that each request comes with the identity of whoever sent
//! it, and reflects that identity, so that the browser can check it too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::tally::Tally;
use crate::support::wire::{self, Guard, Head, Stream};

/// The header in which a browser says who it is; no gateway knows it.
pub const CLAIMED: &str = "X-Soak";
/// The first word of every body, before the identity.
pub const YOU_ARE: &str = "you are ";

pub struct App {
    pub address: SocketAddr,
    _guard: Guard,
}

impl App {
    pub async fn start(tally: Arc<Tally>) -> App {
        let (address, guard) = wire::listen(move |stream| {
            let tally = tally.clone();
            async move {
                // An error here is a gateway that went away, which is part of the run.
                let _ = serve(stream, &tally).await;
            }
        })
        .await;
        App { address, _guard: guard }
    }
}

async fn serve(mut stream: Stream, tally: &Tally) -> std::io::Result<()> {
    while let Some(head) = wire::read_head(&mut stream).await? {
        wire::read_body(&mut stream, &head).await?;
        tally.add("app: requests");
        check(&head, tally);
        if let Some(ms) = head.word(1).strip_prefix("/slow/") {
            tokio::time::sleep(Duration::from_millis(ms.parse().expect("milliseconds"))).await;
        }
        let identity = head.all("x-forwarded-user").join(" and ");
        let body = format!("{YOU_ARE}{identity}\n{}", ".".repeat(1000));
        stream.write_all(&wire::response(200, &[], body.as_bytes())).await?;
    }
    Ok(())
}

fn check(head: &Head, tally: &Tally) {
    let claimed = head.get(CLAIMED).unwrap_or_default();
    let email = format!("{claimed}@example.org");
    let right = head.all("x-forwarded-user") == [claimed]
        && head.all("x-forwarded-email") == [email.as_str()]
        && head.all("x-forwarded-groups") == ["staff"];
    if !right {
        tally.wrong("another identity at the app", format!("{:?}", head.headers));
    }
    if head.all("cookie").iter().any(|line| line.contains("__Host-")) {
        tally.wrong("a gateway cookie at the app", format!("{:?}", head.headers));
    }
}
