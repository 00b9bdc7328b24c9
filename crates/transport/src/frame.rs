//! How messages stand on the wire.
//!
//! ```text
//! stream:    preface (8 bytes) once each way, then frames
//! preface:   "crdtlnk" version(u8)
//! frame:     length(u32, big-endian: bytes of the message) lane(u8) message
//! datagram:  lane(u8) message
//! ```

use crate::lane::Lane;

/// Version of this format.
const LINK_VERSION: u8 = 0;
/// Opens the stream of a link in each direction.
pub(crate) const PREFACE: [u8; 8] = [b'c', b'r', b'd', b't', b'l', b'n', b'k', LINK_VERSION];
/// Bytes before each message of a stream.
pub(crate) const HEADER_BYTES: usize = 5;
/// Bytes before the message of a datagram.
pub(crate) const DATAGRAM_HEADER_BYTES: usize = 1;

/// Why a header was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FrameError {
    /// A lane that does not exist.
    Lane,
    /// The message is above the bound.
    TooLarge { bytes: usize },
}

/// The header of a message. `bytes` was checked against a bound far below 4 GiB.
pub(crate) fn header(lane: Lane, bytes: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(bytes).expect("messages are bounded far below 4 GiB").to_be_bytes();
    [length[0], length[1], length[2], length[3], lane.to_byte()]
}

/// Reads a header, and checks the length before anybody allocates for it.
pub(crate) fn read_header(header: [u8; HEADER_BYTES], bytes_max: usize) -> Result<(Lane, usize), FrameError> {
    let [a, b, c, d, lane] = header;
    let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    let lane = Lane::from_byte(lane).ok_or(FrameError::Lane)?;
    if bytes > bytes_max {
        return Err(FrameError::TooLarge { bytes });
    }
    Ok((lane, bytes))
}

/// Reads a datagram: its lane and its message.
pub(crate) fn read_datagram(datagram: &[u8]) -> Result<(Lane, &[u8]), FrameError> {
    let (lane, message) = datagram.split_first().ok_or(FrameError::Lane)?;
    Ok((Lane::from_byte(*lane).ok_or(FrameError::Lane)?, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_are_bounded() {
        for (lane, bytes) in [(Lane::Replica, 0), (Lane::Membership, 1_000)] {
            assert_eq!(read_header(header(lane, bytes), 1_000), Ok((lane, bytes)));
        }
        assert_eq!(read_header(header(Lane::Replica, 1_001), 1_000), Err(FrameError::TooLarge { bytes: 1_001 }));
        assert_eq!(read_header([0xff; HEADER_BYTES], 1_000), Err(FrameError::Lane));
        assert_eq!(read_datagram(&[]), Err(FrameError::Lane));
        assert_eq!(read_datagram(&[1, 7]), Ok((Lane::Membership, [7].as_slice())));
    }
}
