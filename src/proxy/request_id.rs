//! A name for each request, in its response, its log line and its error page.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest id accepted from a trusted proxy.
const BYTES_MAX: usize = 64;

/// Up to 64 visible ASCII bytes, kept inline: naming a request allocates nothing.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; BYTES_MAX],
    len: u8,
}

/// Makes ids: a random prefix for the process and a counter. Unique, not secret.
pub struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new(random: u64) -> RequestIds {
        RequestIds { prefix: random, next: AtomicU64::new(0) }
    }

    /// 32 hexadecimal digits.
    pub fn next(&self) -> RequestId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0u8; BYTES_MAX];
        let digits = hex(self.prefix).into_iter().chain(hex(count));
        for (byte, digit) in bytes.iter_mut().zip(digits) {
            *byte = digit;
        }
        RequestId { bytes, len: 32 }
    }
}

fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|i| DIGITS[(number >> (60 - 4 * i) & 15) as usize])
}

impl RequestId {
    /// An id that a trusted proxy chose; `None` if it is empty, too long or has other bytes than
    /// letters, digits, `-`, `_`, `.`.
    pub fn from_trusted(value: &[u8]) -> Option<RequestId> {
        let fits = !value.is_empty()
            && value.len() <= BYTES_MAX
            && value.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
        if !fits {
            return None;
        }
        let mut bytes = [0u8; BYTES_MAX];
        bytes.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        Some(RequestId { bytes, len: value.len() as u8 })
    }

    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_share_the_processs_prefix_and_count_up() {
        let ids = RequestIds::new(0xabc);
        assert_eq!(ids.next().as_str(), "0000000000000abc0000000000000000");
        assert_eq!(ids.next().as_str(), "0000000000000abc0000000000000001");
    }

    #[test]
    fn a_trusted_proxys_id_is_taken_only_if_it_is_plain() {
        let taken = |value: &[u8]| RequestId::from_trusted(value).map(|id| id.as_str().to_owned());
        assert_eq!(taken(b"abc-1_2.Z").as_deref(), Some("abc-1_2.Z"));
        assert_eq!(taken(b""), None);
        assert_eq!(taken(b"a\"b"), None);
        assert_eq!(taken(&[b'a'; 65]), None);
    }
}
