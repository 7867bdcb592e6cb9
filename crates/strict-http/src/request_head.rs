//! Validation of a request head as raw bytes, before a parser can hide its ambiguities.
//!
//! Request smuggling needs two programs that read the same bytes differently. Every ambiguous
//! head is therefore rejected. Pure: no I/O, no time.

use axum::http::StatusCode;
use thiserror::Error;

use super::error_response::ErrorResponse;
use super::server_limits::ServerLimits;

/// Longest rest of a request line without its target, in bytes: method, two spaces, version.
const REQUEST_LINE_EXTRA: usize = 64;

/// Framing of a request body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// A fixed length in bytes; 0 without a body.
    Length(u64),
    /// Chunked transfer encoding.
    Chunked,
}

/// Reason for rejecting a head.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(super) enum HeadError {
    #[error("a line of the request head does not end with CR LF")]
    InvalidLineEnd,
    #[error("the request head contains a control character")]
    ControlCharacter,
    #[error("the request line is not `method target version` with single spaces")]
    RequestLine,
    #[error("the HTTP version is not HTTP/1.1 or HTTP/1.0")]
    Version,
    #[error("a header field is not `name: value` on one line")]
    InvalidField,
    #[error("the request has both Content-Length and Transfer-Encoding")]
    ConflictingFraming,
    #[error("Content-Length is not exactly one plain number")]
    ContentLength,
    #[error("Transfer-Encoding is not exactly `chunked`, or the request is not HTTP/1.1")]
    TransferEncoding,
    #[error("a GET or HEAD request has a body")]
    UnexpectedBody,
    #[error("Host is not exactly one plain host name")]
    Host,
    #[error("the host in the request target differs from the Host field")]
    HostMismatch,
    #[error("the request target is longer than {0} bytes")]
    UriTooLong(usize),
    #[error("the request head is longer than {0} bytes")]
    TooLarge(usize),
    #[error("the request head has more than {0} fields")]
    TooManyFields(usize),
    #[error("the methods CONNECT and TRACE are not supported")]
    Method,
    #[error("the request head did not arrive in time")]
    TimedOut,
}

impl HeadError {
    /// Returns the response for the client.
    pub(super) fn response(self) -> ErrorResponse {
        let (status, code, _) = self.classify();
        ErrorResponse::new(status, code, self.to_string())
    }

    /// Returns the label `reason` of the metric `http_refused`.
    pub(super) fn reason(self) -> &'static str {
        let (.., reason) = self.classify();
        reason
    }

    /// Returns the status and the code of the response, and the label of the metric.
    fn classify(self) -> (StatusCode, &'static str, &'static str) {
        let malformed = |reason| (StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", reason);
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        match self {
            Self::UriTooLong(_) => (StatusCode::URI_TOO_LONG, "URI_TOO_LONG", "uri_too_long"),
            Self::TooLarge(_) | Self::TooManyFields(_) => {
                (too_large, "HEAD_TOO_LARGE", "head_too_large")
            }
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "method",
            ),
            Self::TimedOut => (
                StatusCode::REQUEST_TIMEOUT,
                "HEAD_TIMED_OUT",
                "head_timed_out",
            ),
            Self::InvalidLineEnd
            | Self::ControlCharacter
            | Self::RequestLine
            | Self::InvalidField => malformed("malformed"),
            Self::Version => malformed("version"),
            Self::ConflictingFraming
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::UnexpectedBody => malformed("framing"),
            Self::Host | Self::HostMismatch => malformed("host"),
        }
    }
}

/// Scanner for the end of a head that arrives in pieces. It looks at each byte once.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    scanned: usize,
    in_fields: bool,
}

impl HeadScanner {
    /// Returns the length of the head when it is complete. `bytes` must start with the bytes of
    /// the previous call.
    pub(super) fn find_end(
        &mut self,
        bytes: &[u8],
        limits: &ServerLimits,
    ) -> Result<Option<usize>, HeadError> {
        while let Some(&byte) = bytes.get(self.scanned) {
            let at = self.scanned;
            let after_cr = at > 0 && bytes[at - 1] == b'\r';
            match byte {
                b'\n' if !after_cr => return Err(HeadError::InvalidLineEnd),
                b'\n' if at == 1 => return Err(HeadError::RequestLine),
                b'\n' if bytes[..at].ends_with(b"\r\n\r") => return Ok(Some(at + 1)),
                b'\n' => self.in_fields = true,
                _ if after_cr => return Err(HeadError::InvalidLineEnd),
                b'\r' | b'\t' => {}
                _ if byte.is_ascii_control() => return Err(HeadError::ControlCharacter),
                _ => {}
            }
            self.scanned += 1;
            if !self.in_fields && self.scanned > limits.max_uri_bytes + REQUEST_LINE_EXTRA {
                return Err(HeadError::UriTooLong(limits.max_uri_bytes));
            }
            if self.scanned >= limits.max_header_bytes {
                return Err(HeadError::TooLarge(limits.max_header_bytes));
            }
        }
        Ok(None)
    }
}

/// Validates a complete head as found by [`HeadScanner::find_end`]: all lines end with CR LF, and
/// the last line is empty.
pub(super) fn validate(head: &[u8], limits: &ServerLimits) -> Result<Framing, HeadError> {
    let lines = head.split(|&b| b == b'\n');
    let mut lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = RequestLine::parse(lines.next().unwrap_or_default(), limits)?;
    let mut fields = FramingFields::default();
    for field in lines.take_while(|l| !l.is_empty()) {
        fields.add(field, limits)?;
    }
    if matches!(line.method, b"CONNECT" | b"TRACE") {
        return Err(HeadError::Method);
    }
    fields.check_host(&line)?;
    fields.framing(&line)
}

struct RequestLine<'a> {
    method: &'a [u8],
    authority: Option<&'a [u8]>,
    is_http_1_1: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8], limits: &ServerLimits) -> Result<Self, HeadError> {
        let mut parts = line.split(|&b| b == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(HeadError::RequestLine);
        };
        if target.len() > limits.max_uri_bytes {
            return Err(HeadError::UriTooLong(limits.max_uri_bytes));
        }
        let is_http_1_1 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(HeadError::Version),
        };
        let is_plain = target.iter().all(|&b| b.is_ascii_graphic() && b != b'#');
        if !is_token(method) || target.is_empty() || !is_plain {
            return Err(HeadError::RequestLine);
        }
        let authority = match (method, target) {
            (b"CONNECT", _) | (_, [b'/', ..]) | (b"OPTIONS", b"*") => None,
            _ => Some(absolute_authority(target).ok_or(HeadError::RequestLine)?),
        };
        Ok(Self {
            method,
            authority,
            is_http_1_1,
        })
    }
}

/// Returns the authority of an absolute-form target: the part between `http://` and the path.
fn absolute_authority(target: &[u8]) -> Option<&[u8]> {
    let scheme = target.iter().position(|&b| b == b':')?;
    let (name, rest) = target.split_at(scheme);
    if !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"https") {
        return None;
    }
    rest.strip_prefix(b"://")?
        .split(|b| matches!(b, b'/' | b'?'))
        .next()
}

#[derive(Default)]
struct FramingFields<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
}

impl<'a> FramingFields<'a> {
    fn add(&mut self, line: &'a [u8], limits: &ServerLimits) -> Result<(), HeadError> {
        self.count += 1;
        if self.count > limits.max_header_fields {
            return Err(HeadError::TooManyFields(limits.max_header_fields));
        }
        let colon = line.iter().position(|&b| b == b':');
        let colon = colon.ok_or(HeadError::InvalidField)?;
        // A space before the colon, or a folded line, makes the name an invalid token.
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) {
            return Err(HeadError::InvalidField);
        }
        let (slot, duplicate_error) = if name.eq_ignore_ascii_case(b"host") {
            (&mut self.host, HeadError::Host)
        } else if name.eq_ignore_ascii_case(b"content-length") {
            (&mut self.length, HeadError::ContentLength)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            (&mut self.encoding, HeadError::TransferEncoding)
        } else {
            return Ok(());
        };
        match slot.replace(value) {
            Some(_) => Err(duplicate_error),
            None => Ok(()),
        }
    }

    fn check_host(&self, line: &RequestLine<'_>) -> Result<(), HeadError> {
        let Some(host) = self.host else {
            return (!line.is_http_1_1).then_some(()).ok_or(HeadError::Host);
        };
        let plain = |b: &u8| b.is_ascii_graphic() && !b"/@?#,\\\"<>".contains(b);
        if host.is_empty() || !host.iter().all(plain) {
            return Err(HeadError::Host);
        }
        match line.authority {
            Some(authority) if !authority.eq_ignore_ascii_case(host) => {
                Err(HeadError::HostMismatch)
            }
            _ => Ok(()),
        }
    }

    fn framing(&self, line: &RequestLine<'_>) -> Result<Framing, HeadError> {
        let framing = match (self.length, self.encoding) {
            (Some(_), Some(_)) => return Err(HeadError::ConflictingFraming),
            (None, None) => return Ok(Framing::Length(0)),
            (Some(length), None) => Framing::Length(parse_length(length)?),
            (None, Some(coding)) if line.is_http_1_1 && coding.eq_ignore_ascii_case(b"chunked") => {
                Framing::Chunked
            }
            (None, Some(_)) => return Err(HeadError::TransferEncoding),
        };
        if matches!(line.method, b"GET" | b"HEAD") && framing != Framing::Length(0) {
            return Err(HeadError::UnexpectedBody);
        }
        Ok(framing)
    }
}

/// Parses at most 18 digits, so that no program's 64-bit integer overflows.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let plain = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(value).ok().filter(|_| plain);
    let length = digits.and_then(|digits| digits.parse().ok());
    length.ok_or(HeadError::ContentLength)
}

fn is_token(name: &[u8]) -> bool {
    let is_tchar = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty() && name.iter().all(is_tchar)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn validate_bytes(head: &[u8]) -> Result<Option<Framing>, HeadError> {
        let limits = ServerLimits::default();
        let end = HeadScanner::default().find_end(head, &limits)?;
        end.map(|end| validate(&head[..end], &limits)).transpose()
    }

    #[test]
    fn accepts_plain_requests_with_their_framing() {
        for (head, framing) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing::Length(0)),
            ("GET /?a=1 HTTP/1.0\r\n\r\n", Framing::Length(0)),
            (
                "POST /s HTTP/1.1\r\nhost:a:80\r\ncontent-length: 20\t\r\n\r\n",
                Framing::Length(20),
            ),
            (
                "PUT /s HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
            ),
            (
                "GET HTTP://A:1/x HTTP/1.1\r\nHost: a:1\r\n\r\n",
                Framing::Length(0),
            ),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
                Framing::Length(0),
            ),
        ] {
            assert_eq!(validate_bytes(head.as_bytes()), Ok(Some(framing)), "{head}");
        }
    }

    #[test]
    fn limits_head_size_to_the_byte() {
        let limits = ServerLimits::default();
        let head = |pad: usize| {
            let mut head = b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec();
            head.resize(pad - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert!(validate_bytes(&head(limits.max_header_bytes)).is_ok());
        let error = HeadError::TooLarge(limits.max_header_bytes);
        assert_eq!(
            validate_bytes(&head(limits.max_header_bytes + 1)),
            Err(error)
        );
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_the_result(cut in 0_usize..60) {
            let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET";
            let (limits, mut scanner) = (ServerLimits::default(), HeadScanner::default());
            let cut = cut.min(head.len());
            let early = scanner.find_end(&head[..cut], &limits).unwrap();
            prop_assert_eq!(early.or(scanner.find_end(head, &limits).unwrap()), Some(head.len() - 6));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let result = validate(&bytes, &ServerLimits::default());
            prop_assert!(result.is_ok() || result.is_err());
            prop_assert!(validate_bytes(&bytes).is_ok() || validate_bytes(&bytes).is_err());
        }
    }
}
