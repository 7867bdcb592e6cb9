//! Validation of the framing of a chunked body, in addition to hyper, which decodes it.
//!
//! hyper accepts control characters in a chunk extension; another program may read them as the
//! end of a line. Pure: no I/O, no time.

use thiserror::Error;

/// Rule that a chunked body breaks.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum ChunkError {
    #[error("a chunk's size is not a hexadecimal number of at most 16 digits")]
    InvalidSize,
    #[error("a chunk's extension or a trailer contains a control character")]
    ControlCharacter,
    #[error("a line of a chunked body does not end with CR LF")]
    InvalidLineEnd,
}

/// Validator of a chunked body that arrives in pieces.
#[derive(Debug)]
pub(super) struct ChunkValidator {
    // Bytes of the request head, which precede the first chunk.
    head_bytes_left: usize,
    state: ChunkState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ChunkState {
    Size { digits: u8, value: u64 },
    AfterSize { value: u64 },
    Extension { value: u64 },
    SizeLf { value: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

const CHUNK_START: ChunkState = ChunkState::Size {
    digits: 0,
    value: 0,
};

impl ChunkValidator {
    /// Creates a validator that skips a head of `head_bytes` bytes.
    pub(super) fn after_head(head_bytes: usize) -> Self {
        Self {
            head_bytes_left: head_bytes,
            state: CHUNK_START,
        }
    }

    /// Validates the next piece. The error contains the number of valid bytes before it.
    pub(super) fn check(&mut self, piece: &[u8]) -> Result<(), (usize, ChunkError)> {
        let head_bytes = piece.len().min(self.head_bytes_left);
        self.head_bytes_left -= head_bytes;
        let mut rest = &piece[head_bytes..];
        while let Some((&byte, following)) = rest.split_first() {
            if let ChunkState::Data { remaining } = self.state {
                let data_bytes = rest
                    .len()
                    .min(usize::try_from(remaining).unwrap_or(usize::MAX));
                let remaining = remaining - data_bytes as u64;
                self.state = if remaining == 0 {
                    ChunkState::DataCr
                } else {
                    ChunkState::Data { remaining }
                };
                rest = &rest[data_bytes..];
                continue;
            }
            self.state =
                next_state(self.state, byte).map_err(|error| (piece.len() - rest.len(), error))?;
            rest = following;
        }
        Ok(())
    }
}

#[expect(clippy::match_same_arms, reason = "one arm per rule of the grammar")]
fn next_state(state: ChunkState, byte: u8) -> Result<ChunkState, ChunkError> {
    let is_control = byte.is_ascii_control() && byte != b'\t';
    let line_end = |expected: u8, next_state: ChunkState| {
        if byte == expected {
            Ok(next_state)
        } else {
            Err(ChunkError::InvalidLineEnd)
        }
    };
    match (state, byte) {
        (ChunkState::Size { digits: 1.., value }, b'\r') => Ok(ChunkState::SizeLf { value }),
        (ChunkState::Size { digits: 1.., value }, b';') => Ok(ChunkState::Extension { value }),
        (ChunkState::Size { digits: 1.., value }, b' ' | b'\t') => {
            Ok(ChunkState::AfterSize { value })
        }
        (ChunkState::Size { digits, value }, _) => {
            let digit = char::from(byte).to_digit(16).filter(|_| digits < 16);
            let digit = digit.ok_or(ChunkError::InvalidSize)?;
            Ok(ChunkState::Size {
                digits: digits + 1,
                value: value * 16 + u64::from(digit),
            })
        }
        (ChunkState::AfterSize { value } | ChunkState::Extension { value }, b'\r') => {
            Ok(ChunkState::SizeLf { value })
        }
        (ChunkState::AfterSize { value }, b';') => Ok(ChunkState::Extension { value }),
        (ChunkState::AfterSize { .. }, b' ' | b'\t') => Ok(state),
        (ChunkState::AfterSize { .. }, _) => Err(ChunkError::InvalidSize),
        (ChunkState::SizeLf { value: 0 }, _) => line_end(b'\n', ChunkState::TrailerStart),
        (ChunkState::SizeLf { value }, _) => line_end(b'\n', ChunkState::Data { remaining: value }),
        (ChunkState::Data { .. } | ChunkState::Done, _) => Ok(state),
        (ChunkState::DataCr, _) => line_end(b'\r', ChunkState::DataLf),
        (ChunkState::DataLf, _) => line_end(b'\n', CHUNK_START),
        (ChunkState::TrailerStart, b'\r') => Ok(ChunkState::LastLf),
        (ChunkState::Trailer, b'\r') => Ok(ChunkState::TrailerLf),
        (ChunkState::Extension { .. } | ChunkState::TrailerStart | ChunkState::Trailer, _)
            if is_control =>
        {
            Err(ChunkError::ControlCharacter)
        }
        (ChunkState::Extension { .. }, _) => Ok(state),
        (ChunkState::TrailerStart | ChunkState::Trailer, _) => Ok(ChunkState::Trailer),
        (ChunkState::TrailerLf, _) => line_end(b'\n', ChunkState::TrailerStart),
        (ChunkState::LastLf, _) => line_end(b'\n', ChunkState::Done),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_body(body: &[u8]) -> Result<ChunkState, ChunkError> {
        let mut validator = ChunkValidator::after_head(4);
        validator
            .check(b"HEAD")
            .and_then(|()| validator.check(body))
            .map_err(|(_, error)| error)?;
        Ok(validator.state)
    }

    #[test]
    fn accepts_plain_chunks_and_rejects_ambiguous_ones() {
        for body in [
            "0\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "a;x=\"\ty\"\r\n0123456789\r\n00\r\nT: r\r\nU: s\r\n\r\n",
            "3 ; x\r\n\r\n\0\r\n0;\r\n\r\n",
            "000000000000000F\r\n123456789012345\r\n0\r\n\r\nGET / \0",
        ] {
            assert_eq!(
                check_body(body.as_bytes()),
                Ok(ChunkState::Done),
                "{body:?}"
            );
        }
        for (body, error) in [
            ("3;x\0y\r\nabc\r\n", ChunkError::ControlCharacter),
            ("3;x\ny\r\nabc\r\n", ChunkError::ControlCharacter),
            ("3;x\x7f\r\n", ChunkError::ControlCharacter),
            ("3;x\x1b\r\n", ChunkError::ControlCharacter),
            ("0\r\nT: \0\r\n\r\n", ChunkError::ControlCharacter),
            ("0\r\n\0", ChunkError::ControlCharacter),
            ("3;x\rabc", ChunkError::InvalidLineEnd),
            ("3\r\nabcd\r\n", ChunkError::InvalidLineEnd),
            ("3\r\nabc\n", ChunkError::InvalidLineEnd),
            ("0\r\nT: r\rU", ChunkError::InvalidLineEnd),
            ("\r\n", ChunkError::InvalidSize),
            (";x\r\n", ChunkError::InvalidSize),
            ("+3\r\n", ChunkError::InvalidSize),
            ("0x3\r\n", ChunkError::InvalidSize),
            ("3 3\r\n", ChunkError::InvalidSize),
            ("3\n", ChunkError::InvalidSize),
            ("00000000000000001\r\n", ChunkError::InvalidSize),
        ] {
            assert_eq!(check_body(body.as_bytes()), Err(error), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_the_result(
            body in proptest::collection::vec(prop_oneof![
                Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), Just(0), any::<u8>()
            ], 0..60),
            cut in 0_usize..60,
        ) {
            let cut = cut.min(body.len());
            let mut validator = ChunkValidator::after_head(0);
            let mut pieces = validator.check(&body[..cut]);
            if pieces.is_ok() {
                pieces = validator.check(&body[cut..]).map_err(|(at, error)| (cut + at, error));
            }
            prop_assert_eq!(pieces, ChunkValidator::after_head(0).check(&body));
        }
    }
}
