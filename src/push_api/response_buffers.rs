//! Buffers of responses, which are used again.
//!
//! A response has more than 100 kB. The allocator would map memory for each one and unmap it
//! afterwards, which costs more than to fill it.

use std::sync::Arc;

use bytes::Bytes;
use market_api::push::wire::FilledBuffer;
use parking_lot::Mutex;

/// Most buffers that are kept: as many as responses are being sent at once on a busy service.
const MAX_KEPT: usize = 64;

/// Largest buffer that is kept, in bytes. A response with 1000 SKUs of usual length needs half.
const MAX_KEPT_BYTES: usize = 256 * 1024;

/// Unused buffers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ResponseBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl ResponseBuffers {
    /// Returns a buffer with any content; an empty one if none is unused.
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// Returns the response. Its buffer comes back when the response is sent.
    pub(super) fn lend(&self, filled: FilledBuffer) -> Bytes {
        Bytes::from_owner(LentBuffer {
            filled,
            buffers: self.clone(),
        })
    }
}

struct LentBuffer {
    filled: FilledBuffer,
    buffers: ResponseBuffers,
}

impl AsRef<[u8]> for LentBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.filled.buffer[..self.filled.len]
    }
}

impl Drop for LentBuffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.filled.buffer);
        if buffer.len() <= MAX_KEPT_BYTES {
            let mut kept = self.buffers.0.lock();
            if kept.len() < MAX_KEPT {
                kept.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: usize) -> FilledBuffer {
        FilledBuffer {
            buffer: vec![7; bytes],
            len: 2,
        }
    }

    #[test]
    fn a_sent_response_returns_its_buffer() {
        let buffers = ResponseBuffers::default();
        let response = buffers.lend(filled(10));
        assert_eq!((&*response, buffers.take().len()), (&[7, 7][..], 0));
        drop(response);
        assert_eq!((buffers.take().len(), buffers.take().len()), (10, 0));
    }

    #[test]
    fn keeps_few_buffers_of_usual_size() {
        let buffers = ResponseBuffers::default();
        drop(buffers.lend(filled(MAX_KEPT_BYTES + 1)));
        assert_eq!(buffers.take().len(), 0);
        let responses: Vec<Bytes> = (0..=MAX_KEPT).map(|_| buffers.lend(filled(10))).collect();
        drop(responses);
        assert_eq!(buffers.0.lock().len(), MAX_KEPT);
    }
}
