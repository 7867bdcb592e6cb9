//! Records of a key and a payload in memory or in a temporary file: spools and sorted runs.
//!
//! A temporary file has no name, so a crash leaves nothing behind. It is never synced.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that a spool keeps in memory before it begins a file.
const SPOOL_MEMORY: usize = 256 * 1024;

/// Bytes that are read from a file at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of the two lengths before a record.
const HEADER: usize = 8;

/// Appends a record.
pub(super) fn put_record(out: &mut Vec<u8>, key: &[u8], payload: &[u8]) {
    for part in [key, payload] {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(key);
    out.extend_from_slice(payload);
}

/// Returns the lengths of the key and the payload of the record that begins with these bytes.
pub(super) fn record_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let (key, rest) = bytes.split_first_chunk()?;
    let (payload, _) = rest.split_first_chunk()?;
    let length =
        |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
    Some((length(key), length(payload)))
}

/// Sequence of records that is written once and then read.
#[derive(Debug)]
pub(in crate::sources) struct SpoolWriter {
    directory: PathBuf,
    buffer: Vec<u8>,
    file: Option<File>,
    written: u64,
}

impl SpoolWriter {
    /// Creates an empty spool, whose file is in `directory`.
    pub(in crate::sources) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            buffer: Vec::new(),
            file: None,
            written: 0,
        }
    }

    pub(in crate::sources) fn push(&mut self, key: &[u8], payload: &[u8]) -> io::Result<()> {
        put_record(&mut self.buffer, key, payload);
        if self.buffer.len() >= SPOOL_MEMORY {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.directory)?,
        };
        file.write_all(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.file = Some(file);
        Ok(())
    }

    /// Ends the writing.
    pub(in crate::sources) fn finish(mut self) -> io::Result<SpoolReader> {
        if self.file.is_some() {
            self.flush()?;
        }
        Ok(match self.file {
            Some(file) => SpoolReader::of_file(Arc::new(file), 0, self.written),
            None => SpoolReader::of_memory(self.buffer),
        })
    }
}

/// Reader of records in order. [`SpoolReader::advance`] moves to the first one.
#[derive(Debug)]
pub(in crate::sources) struct SpoolReader {
    file: Option<Arc<File>>,
    // Range of the file that is read.
    begin: u64,
    end: u64,
    position: u64,
    // All bytes, unless there is a file.
    buffer: Vec<u8>,
    // Unread bytes of the buffer begin here.
    next: usize,
    key: (usize, usize),
    payload: (usize, usize),
}

impl SpoolReader {
    fn of_memory(buffer: Vec<u8>) -> Self {
        Self {
            file: None,
            begin: 0,
            end: 0,
            position: 0,
            buffer,
            next: 0,
            key: (0, 0),
            payload: (0, 0),
        }
    }

    pub(super) fn of_file(file: Arc<File>, begin: u64, end: u64) -> Self {
        Self {
            file: Some(file),
            begin,
            end,
            position: begin,
            ..Self::of_memory(Vec::new())
        }
    }

    /// Returns to the beginning.
    pub(super) fn rewind(&mut self) {
        self.position = self.begin;
        self.next = 0;
        if self.file.is_some() {
            self.buffer.clear();
        }
    }

    /// Moves to the next record. Returns false at the end.
    pub(in crate::sources) fn advance(&mut self) -> io::Result<bool> {
        if !self.fill(HEADER)? {
            return Ok(false);
        }
        let lengths = record_lengths(&self.buffer[self.next..]);
        let (key, payload) = lengths.ok_or(io::ErrorKind::UnexpectedEof)?;
        if !self.fill(HEADER + key + payload)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let key_at = self.next + HEADER;
        self.key = (key_at, key_at + key);
        self.payload = (key_at + key, key_at + key + payload);
        self.next = key_at + key + payload;
        Ok(true)
    }

    pub(in crate::sources) fn key(&self) -> &[u8] {
        &self.buffer[self.key.0..self.key.1]
    }

    pub(in crate::sources) fn payload(&self) -> &[u8] {
        &self.buffer[self.payload.0..self.payload.1]
    }

    /// Makes at least `length` unread bytes available. Returns false if there are none left.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        let unread = self.buffer.len() - self.next;
        if unread >= length {
            return Ok(true);
        }
        let left = self.end - self.position;
        let Some(file) = self.file.as_ref().filter(|_| left > 0) else {
            return Ok(false);
        };
        self.buffer.drain(..self.next);
        self.next = 0;
        let wanted = READ_BYTES.max(length - unread);
        let wanted = usize::try_from(left).map_or(wanted, |left| left.min(wanted));
        self.buffer.resize(unread + wanted, 0);
        file.read_exact_at(&mut self.buffer[unread..], self.position)?;
        self.position += wanted as u64;
        Ok(self.buffer.len() >= length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reader: &mut SpoolReader) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        while reader.advance().unwrap() {
            found.push((reader.key().to_vec(), reader.payload().to_vec()));
        }
        found
    }

    #[test]
    fn spool_returns_its_records_twice() {
        let directory = tempfile::tempdir().unwrap();
        // In memory, in a file, and with a record that is longer than the buffer.
        for (records, length) in [(0, 0), (3, 5), (60_000, 7), (3, 300_000)] {
            let mut spool = SpoolWriter::new(directory.path());
            let mut expected = Vec::new();
            for number in 0..records {
                let (key, payload) = (format!("{number}").into_bytes(), vec![7; length]);
                spool.push(&key, &payload).unwrap();
                expected.push((key, payload));
            }
            let mut reader = spool.finish().unwrap();
            assert_eq!(read(&mut reader), expected);
            reader.rewind();
            assert_eq!(read(&mut reader), expected);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
