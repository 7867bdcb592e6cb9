//! Checking how a chunked body is framed, beside hyper, which reads it.
//!
//! hyper takes control characters in a chunk's extension; another program may read them as the
//! end of a line. Pure: no I/O, no time.

use thiserror::Error;

/// The rule that a chunked body breaks.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum ChunkFault {
    #[error("a chunk's size is not a hexadecimal number of at most 16 digits")]
    Size,
    #[error("a chunk's extension or a trailer contains a control character")]
    Control,
    #[error("a line of a chunked body ends without CR LF")]
    LineEnd,
}

/// Follows a chunked body that arrives in pieces.
#[derive(Debug)]
pub(super) struct Chunks {
    // Bytes before the first chunk: the head.
    skipped: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Size { digits: u8, value: u64 },
    AfterSize { value: u64 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

const FIRST: Place = Place::Size {
    digits: 0,
    value: 0,
};

impl Chunks {
    /// Begins after a head of that many bytes.
    pub(super) fn after(head_bytes: usize) -> Self {
        Self {
            skipped: head_bytes,
            place: FIRST,
        }
    }

    /// Checks the next piece; of a faulty one, says how many bytes come before the fault.
    pub(super) fn check(&mut self, piece: &[u8]) -> Result<(), (usize, ChunkFault)> {
        let head = piece.len().min(self.skipped);
        self.skipped -= head;
        let mut rest = &piece[head..];
        while let Some((&byte, after)) = rest.split_first() {
            if let Place::Data { left } = self.place {
                let passed = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - passed as u64;
                self.place = if left == 0 {
                    Place::DataCr
                } else {
                    Place::Data { left }
                };
                rest = &rest[passed..];
                continue;
            }
            self.place =
                next(self.place, byte).map_err(|fault| (piece.len() - rest.len(), fault))?;
            rest = after;
        }
        Ok(())
    }
}

#[expect(
    clippy::match_same_arms,
    reason = "one arm for each rule of the grammar"
)]
fn next(place: Place, byte: u8) -> Result<Place, ChunkFault> {
    let is_control = byte.is_ascii_control() && byte != b'\t';
    let line_end = |expected: u8, next: Place| {
        if byte == expected {
            Ok(next)
        } else {
            Err(ChunkFault::LineEnd)
        }
    };
    match (place, byte) {
        (Place::Size { digits: 1.., value }, b'\r') => Ok(Place::SizeLf { value }),
        (Place::Size { digits: 1.., value }, b';') => Ok(Place::Extension { value }),
        (Place::Size { digits: 1.., value }, b' ' | b'\t') => Ok(Place::AfterSize { value }),
        (Place::Size { digits, value }, _) => {
            let digit = char::from(byte).to_digit(16).filter(|_| digits < 16);
            let digit = digit.ok_or(ChunkFault::Size)?;
            Ok(Place::Size {
                digits: digits + 1,
                value: value * 16 + u64::from(digit),
            })
        }
        (Place::AfterSize { value } | Place::Extension { value }, b'\r') => {
            Ok(Place::SizeLf { value })
        }
        (Place::AfterSize { value }, b';') => Ok(Place::Extension { value }),
        (Place::AfterSize { .. }, b' ' | b'\t') => Ok(place),
        (Place::AfterSize { .. }, _) => Err(ChunkFault::Size),
        (Place::SizeLf { value: 0 }, _) => line_end(b'\n', Place::TrailerStart),
        (Place::SizeLf { value }, _) => line_end(b'\n', Place::Data { left: value }),
        (Place::Data { .. } | Place::Done, _) => Ok(place),
        (Place::DataCr, _) => line_end(b'\r', Place::DataLf),
        (Place::DataLf, _) => line_end(b'\n', FIRST),
        (Place::TrailerStart, b'\r') => Ok(Place::LastLf),
        (Place::Trailer, b'\r') => Ok(Place::TrailerLf),
        (Place::Extension { .. } | Place::TrailerStart | Place::Trailer, _) if is_control => {
            Err(ChunkFault::Control)
        }
        (Place::Extension { .. }, _) => Ok(place),
        (Place::TrailerStart | Place::Trailer, _) => Ok(Place::Trailer),
        (Place::TrailerLf, _) => line_end(b'\n', Place::TrailerStart),
        (Place::LastLf, _) => line_end(b'\n', Place::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(body: &[u8]) -> Result<Place, ChunkFault> {
        let mut chunks = Chunks::after(4);
        chunks
            .check(b"HEAD")
            .and_then(|()| chunks.check(body))
            .map_err(|(_, fault)| fault)?;
        Ok(chunks.place)
    }

    #[test]
    fn plain_chunks_pass_and_doubtful_ones_do_not() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "a;x=\"\ty\"\r\n0123456789\r\n00\r\nT: r\r\nU: s\r\n\r\n",
            "3 ; x\r\n\r\n\0\r\n0;\r\n\r\n",
            "000000000000000F\r\n123456789012345\r\n0\r\n\r\nGET / \0",
        ] {
            assert_eq!(verdict(body.as_bytes()), Ok(Place::Done), "{body:?}");
        }
        for (body, fault) in [
            ("3;x\0y\r\nabc\r\n", ChunkFault::Control),
            ("3;x\ny\r\nabc\r\n", ChunkFault::Control),
            ("3;x\x7f\r\n", ChunkFault::Control),
            ("3;x\x1b\r\n", ChunkFault::Control),
            ("0\r\nT: \0\r\n\r\n", ChunkFault::Control),
            ("0\r\n\0", ChunkFault::Control),
            ("3;x\rabc", ChunkFault::LineEnd),
            ("3\r\nabcd\r\n", ChunkFault::LineEnd),
            ("3\r\nabc\n", ChunkFault::LineEnd),
            ("0\r\nT: r\rU", ChunkFault::LineEnd),
            ("\r\n", ChunkFault::Size),
            (";x\r\n", ChunkFault::Size),
            ("+3\r\n", ChunkFault::Size),
            ("0x3\r\n", ChunkFault::Size),
            ("3 3\r\n", ChunkFault::Size),
            ("3\n", ChunkFault::Size),
            ("00000000000000001\r\n", ChunkFault::Size),
        ] {
            assert_eq!(verdict(body.as_bytes()), Err(fault), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing_and_no_bytes_panic(
            body in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), Just(0), any::<u8>()
            ], 0..60),
            cut in 0_usize..60,
        ) {
            let cut = cut.min(body.len());
            let mut chunks = Chunks::after(0);
            let mut pieces = chunks.check(&body[..cut]);
            if pieces.is_ok() {
                pieces = chunks.check(&body[cut..]).map_err(|(at, fault)| (cut + at, fault));
            }
            prop_assert_eq!(pieces, Chunks::after(0).check(&body));
        }
    }
}
