//! One request on one connection, as a browser behind a load balancer makes it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::World;
use super::fleet::NOTICED_AFTER;
use super::tally::now;
use crate::support::wire;
use crate::support::{Ask, Reply};

/// Longer than anything may take: the wait for a refresh, the app, a restart.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Before the next gateway is tried.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// Sends to one gateway after another until one takes it. A request on which the connection broke is
/// not sent again: it may have been at work.
pub async fn balanced(
    world: &World,
    who: &str,
    from: IpAddr,
    first: usize,
    ask: &Ask,
) -> Option<Reply> {
    let mut gateway = first;
    loop {
        let since = now();
        world.backend.families().visits(who, gateway);
        let lost = match connect(from, world.fleet.address(gateway)).await {
            Some(stream) => match timeout(ANSWER_MAX, exchange(stream, &ask.bytes())).await {
                Ok(Some(reply)) => {
                    world.answered(who, gateway, now() - since, &reply);
                    return Some(reply);
                }
                Ok(None) => true,
                Err(_) => {
                    world.tally.wrong("no answer", format!("{who}: gateway {gateway}"));
                    return None;
                }
            },
            None => false,
        };
        match world.fleet.trouble(gateway, since) {
            None => {
                world.tally.wrong("connection lost", format!("{who}: gateway {gateway}"));
                return None;
            }
            Some(trouble) if lost && !trouble.killed && since + NOTICED_AFTER < trouble.from => {
                world.tally.wrong("cut by a graceful restart", world.tally.story(who));
                return None;
            }
            Some(trouble) if lost => {
                if trouble.killed {
                    world.backend.families().caught(who);
                }
                world.tally.add("browsers: requests cut by a restart");
                world.tally.note(who, format!("cut by gateway {gateway}"));
                return None;
            }
            Some(_) => {
                gateway = (gateway + 1) % world.fleet.len();
                sleep(NEXT_AFTER).await;
            }
        }
    }
}

/// Sends, and hangs up `after` so long, whatever has come by then.
pub async fn hung_up(from: IpAddr, to: SocketAddr, bytes: &[u8], after: Duration) {
    if let Some(stream) = connect(from, to).await {
        let _ = timeout(after, exchange(stream, bytes)).await;
    }
}

/// `None`: nobody listens there.
pub async fn connect(from: IpAddr, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Every browser has an address of its own, as in the world: the gateway counts by address.
    socket.bind((from, 0).into()).expect("loopback has many addresses");
    socket.connect(to).await.ok()
}

/// `None`: the connection broke before the whole answer was there.
pub async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Option<Reply> {
    stream.write_all(bytes).await.ok()?;
    let mut stream = BufReader::new(stream);
    let head = wire::read_head(&mut stream).await.ok()??;
    let status: u16 = head.word(1).parse().ok()?;
    let body = match status {
        204 => Vec::new(),
        _ => wire::read_body(&mut stream, &head).await.ok()?,
    };
    Some(Reply { status, head, body })
}
