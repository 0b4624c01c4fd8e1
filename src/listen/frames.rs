//! How far a WebSocket's frames have been written to a client (RFC 6455 §5.2).
//!
//! Only lengths are followed, so that it is known whether something may be said between two frames.
//! Nothing is kept of what they carry. What is no response to a WebSocket handshake is followed no
//! further: then nothing may be said.

/// A status line up to its code: `HTTP/1.1 101`.
const STATUS_AT: std::ops::Range<usize> = 9..12;
/// The longest head of a frame: two bytes, a length of eight, a mask of four.
const FRAME_HEAD_MAX: usize = 14;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 0x08;
const MASKED: u8 = 0x80;

/// What has been written since the answer to a handshake was let go.
#[derive(Debug)]
pub struct Frames(State);

#[derive(Debug)]
enum State {
    /// In a response's head; the bytes of it so far, and its last four.
    Head {
        taken: usize,
        status: [u8; 3],
        last: [u8; 4],
    },
    /// In a frame's head.
    Frame {
        taken: usize,
        head: [u8; FRAME_HEAD_MAX],
    },
    Payload {
        left: u64,
        closes: bool,
    },
    /// The app has said goodbye itself, or these are no frames.
    Over,
}

impl Default for Frames {
    fn default() -> Frames {
        Frames(HEAD)
    }
}

const HEAD: State = State::Head { taken: 0, status: [0; 3], last: [0; 4] };
const FRAME: State = State::Frame { taken: 0, head: [0; FRAME_HEAD_MAX] };

impl Frames {
    /// These bytes have been written, too.
    pub fn written(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = rest;
            match &mut self.0 {
                State::Head { taken, status, last } => {
                    if STATUS_AT.contains(taken) {
                        status.rotate_left(1);
                        status[2] = first;
                    }
                    *taken = taken.saturating_add(1);
                    last.rotate_left(1);
                    last[3] = first;
                    if last == b"\r\n\r\n" {
                        self.0 = after_head(*status);
                    }
                }
                State::Frame { taken, head } => {
                    if let Some(place) = head.get_mut(*taken) {
                        *place = first;
                    }
                    *taken += 1;
                    if let Some((left, closes)) = payload(*taken, head) {
                        self.0 = after_payload(left, closes);
                    }
                }
                State::Payload { left, closes } => {
                    // Its first byte has been taken off already.
                    let skipped = (*left - 1).min(rest.len() as u64);
                    bytes = rest.get(skipped as usize..).unwrap_or_default();
                    self.0 = after_payload(*left - 1 - skipped, *closes);
                }
                State::Over => return,
            }
        }
    }

    /// The last frame is whole, and another one may follow.
    pub fn may_say_goodbye(&self) -> bool {
        matches!(self.0, State::Frame { taken: 0, .. })
    }
}

/// The head of a 101 is followed by frames, that of another 1xx by one more head.
fn after_head(status: [u8; 3]) -> State {
    match &status {
        b"101" => FRAME,
        [b'1', _, _] => HEAD,
        _ => State::Over,
    }
}

fn after_payload(left: u64, closes: bool) -> State {
    match (left, closes) {
        (0, true) => State::Over,
        (0, false) => FRAME,
        (left, closes) => State::Payload { left, closes },
    }
}

/// The payload's length once a frame's head is whole, and whether it is a close frame.
fn payload(taken: usize, head: &[u8; FRAME_HEAD_MAX]) -> Option<(u64, bool)> {
    let [kind, short, long @ ..] = head;
    let (length_bytes, length) = match short & !MASKED {
        126 => (2, u64::from(u16::from_be_bytes([long[0], long[1]]))),
        127 => {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&long[..8]);
            (8, u64::from_be_bytes(bytes))
        }
        short => (0, u64::from(short)),
    };
    let mask_bytes = if short & MASKED == 0 { 0 } else { 4 };
    let whole = taken >= 2 && taken == 2 + length_bytes + mask_bytes;
    whole.then_some((length, kind & OPCODE == CLOSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn frame(kind: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut bytes = vec![kind];
        match length {
            0..=125 => bytes.push(mask | length as u8),
            126..=0xffff => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0xff; 4].iter().take(if masked { 4 } else { 0 }));
        // As if it were a frame itself.
        bytes.extend([CLOSE | 0x80, 0].iter().cycle().take(length));
        bytes
    }

    /// After which of these bytes something may be said.
    fn gaps(bytes: &[u8]) -> Vec<usize> {
        let mut frames = Frames::default();
        let mut gaps = Vec::new();
        for (index, byte) in bytes.iter().enumerate() {
            frames.written(&[*byte]);
            gaps.extend(frames.may_say_goodbye().then_some(index + 1));
        }
        gaps
    }

    #[test]
    fn something_may_be_said_between_frames_only() {
        let mut bytes = SWITCHING.to_vec();
        let mut expected = vec![bytes.len()];
        for (length, masked) in [
            (0, false),
            (1, false),
            (125, true),
            (126, false),
            (0, true),
            (0xffff, false),
            (0x1_0000, true),
        ] {
            bytes.extend(frame(0x82, length, masked));
            expected.push(bytes.len());
        }
        assert_eq!(gaps(&bytes), expected);
    }

    #[test]
    fn how_the_bytes_are_cut_makes_no_difference() {
        let bytes =
            [SWITCHING, &frame(0x01, 300, false), &frame(0x89, 3, false), &frame(0x80, 0, false)]
                .concat();
        let gaps = gaps(&bytes);
        for first in 0..=bytes.len() {
            let (head, rest) = bytes.split_at(first);
            for second in (0..=rest.len()).step_by(7) {
                let (middle, tail) = rest.split_at(second);
                let (mut frames, mut written) = (Frames::default(), 0);
                for piece in [head, middle, tail] {
                    frames.written(piece);
                    written += piece.len();
                    assert_eq!(
                        frames.may_say_goodbye(),
                        gaps.contains(&written),
                        "{first} {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn after_the_app_s_own_goodbye_there_is_nothing_to_say() {
        let bytes =
            [SWITCHING, &frame(0x81, 2, false), &frame(0x88, 2, false), &frame(0x81, 0, false)];
        assert_eq!(gaps(&bytes.concat()).len(), 2);
    }

    #[test]
    fn only_what_follows_a_101_are_frames() {
        let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(gaps(&[early, SWITCHING].concat()), [early.len() + SWITCHING.len()]);
        for other in ["200 OK", "502 Bad Gateway", "101"] {
            let bytes = format!("HTTP/1.1 {other}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
            assert_eq!(gaps(bytes.as_bytes()).len(), usize::from(other == "101"), "{other}");
        }
    }
}
