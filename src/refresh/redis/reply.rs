//! What scripts answer, and what is sealed inside.

use std::time::Duration;

use zeroize::Zeroizing;

use super::super::hash::TokenHash;
use super::super::sessions::SessionId;
use super::super::store::{Life, Stored, StoredHead};
use super::steps::{alias_key, record_key};
use crate::policy::secret::Secret;
use crate::store::Sealer;

/// life, generation, refresh generation, head, cooling, failures, rotated, life left, and the
/// confirmations' generations and ages in turn. Times in ms; -1: none.
pub(super) type Record = (String, u64, u64, Vec<u8>, i64, u32, i64, i64, Vec<u64>);
/// A record, how long it lives (ms), and aliases whose keys want to be prolonged.
pub(super) type Found = (Record, u64, Vec<String>);

/// A value in the store was not put there by us, or was moved.
#[derive(Debug)]
pub(super) struct Foreign;

/// Reads a record and opens its head.
pub(super) fn stored(sealer: &Sealer, id: SessionId, record: Record) -> Result<Stored, Foreign> {
    let (life, generation, refresh_generation, head, cooling, failures, rotated, left, shown) =
        record;
    let life = match life.as_str() {
        "live" => Life::Live,
        "dead" => Life::Dead,
        "ended" => Life::Ended,
        _ => return Err(Foreign),
    };
    let head = match life {
        Life::Live if !head.is_empty() => {
            let place = place(id, generation, refresh_generation);
            Some(sealer.open(&place, &head).and_then(|plain| unpacked(&plain)).ok_or(Foreign)?)
        }
        // Live with a generation and no head: somebody took it away.
        Life::Live if generation > 0 => return Err(Foreign),
        Life::Live | Life::Dead | Life::Ended => None,
    };
    let confirmations = shown.chunks_exact(2).filter_map(|pair| match pair {
        [generation, age] => Some((*generation, Duration::from_millis(*age))),
        _ => None,
    });
    Ok(Stored {
        life,
        generation,
        refresh_generation,
        head,
        confirmations: confirmations.collect(),
        cooling: told(cooling),
        failures,
        rotated: told(rotated),
        life_left: told(left),
    })
}

/// Seals a head for its record and its generations. `None`: no random bytes.
pub(super) fn sealed(
    sealer: &Sealer,
    id: SessionId,
    generations: (u64, u64),
    head: &StoredHead,
) -> Option<Vec<u8>> {
    let (access, refresh) = (head.access.expose(), head.refresh.expose());
    let mut plain = Zeroizing::new(Vec::with_capacity(4 + access.len() + refresh.len()));
    plain.extend(u32::try_from(access.len()).ok()?.to_be_bytes());
    plain.extend(access.as_bytes());
    plain.extend(refresh.as_bytes());
    sealer.seal(&place(id, generations.0, generations.1), &plain)
}

/// An alias's value: scripts read it, so it is marked and not sealed.
pub(super) fn alias_value(sealer: &Sealer, hash: TokenHash, id: SessionId, gen_: u64) -> String {
    let value = format!("{}:{gen_}", id.0.to_hex());
    let mark = sealer.mark(&alias_key(hash), &value);
    format!("{value}:{mark}")
}

/// What [`alias_value`] wrote for this hash.
pub(super) fn alias(sealer: &Sealer, hash: TokenHash, held: &str) -> Option<(SessionId, u64)> {
    let (value, mark) = held.rsplit_once(':')?;
    let (id, generation) = value.split_once(':')?;
    let id = SessionId(TokenHash::from_hex(id)?);
    let generation = generation.parse().ok()?;
    sealer.is_marked(&alias_key(hash), value, mark).then_some((id, generation))
}

/// As a record lists its aliases.
pub(super) fn listed(hash: TokenHash, generation: u64) -> String {
    format!("{}:{generation}", hash.to_hex())
}

/// What [`listed`] wrote.
pub(super) fn unlisted(text: &str) -> Option<(TokenHash, u64)> {
    let (hash, generation) = text.split_once(':')?;
    Some((TokenHash::from_hex(hash)?, generation.parse().ok()?))
}

/// A sealed head opens in its own record and under its own generations only: an older head, put
/// back, would show a spent token to the backend.
fn place(id: SessionId, generation: u64, refresh_generation: u64) -> String {
    format!("{}#{generation}.{refresh_generation}", record_key(id))
}

fn unpacked(plain: &[u8]) -> Option<StoredHead> {
    let (length, rest) = plain.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (access, refresh) = rest.split_at_checked(length)?;
    let secret = |bytes| std::str::from_utf8(bytes).ok().map(Secret::new);
    Some(StoredHead { access: secret(access)?, refresh: secret(refresh)? })
}

fn told(ms: i64) -> Option<Duration> {
    u64::try_from(ms).ok().map(Duration::from_millis)
}
