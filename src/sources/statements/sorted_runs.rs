//! External sort of records by key: a buffer in memory, and sorted runs in a temporary file.
//!
//! Records of equal keys keep the order in which they were added.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::records::{SpoolReader, put_record, record_lengths};

/// Bytes of the buffer. A run is about as long.
pub(super) const SORT_BUFFER: usize = 16 * 1024 * 1024;

const WRITE_BYTES: usize = 256 * 1024;

/// Position of a record in the buffer. The first bytes of the key decide most comparisons.
#[derive(Clone, Copy, Debug)]
struct RecordPosition {
    prefix: u64,
    offset: usize,
}

/// Collector of records that are to be sorted.
#[derive(Debug)]
pub(super) struct RunSorter {
    directory: PathBuf,
    buffer_bytes: usize,
    records: Vec<u8>,
    positions: Vec<RecordPosition>,
    file: Option<File>,
    written: u64,
    // Ends of the runs in the file.
    run_ends: Vec<u64>,
}

impl RunSorter {
    /// Creates an empty sorter, whose file is in `directory`.
    pub(super) fn new(directory: &Path, buffer_bytes: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            buffer_bytes,
            records: Vec::new(),
            positions: Vec::new(),
            file: None,
            written: 0,
            run_ends: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, key: &[u8], payload: &[u8]) -> io::Result<()> {
        self.positions.push(RecordPosition {
            prefix: key_prefix(key),
            offset: self.records.len(),
        });
        put_record(&mut self.records, key, payload);
        let positions = self.positions.len() * size_of::<RecordPosition>();
        if self.records.len() + positions >= self.buffer_bytes {
            self.write_run()?;
        }
        Ok(())
    }

    fn sort(&mut self) {
        let records = &self.records;
        self.positions.sort_unstable_by(|one, other| {
            let keys = || key_at(records, one.offset).cmp(key_at(records, other.offset));
            let order = one.prefix.cmp(&other.prefix).then_with(keys);
            order.then_with(|| one.offset.cmp(&other.offset))
        });
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.directory)?,
        };
        let mut out = BufWriter::with_capacity(WRITE_BYTES, file);
        for position in &self.positions {
            out.write_all(record_at(&self.records, position.offset))?;
        }
        self.written += self.records.len() as u64;
        self.run_ends.push(self.written);
        self.file = Some(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.records.clear();
        self.positions.clear();
        Ok(())
    }

    /// Sorts what is left. The last run stays in memory.
    pub(super) fn finish(mut self) -> SortedRecords {
        self.sort();
        let mut runs = Vec::new();
        if let Some(file) = self.file.map(Arc::new) {
            let mut begin = 0;
            for end in self.run_ends {
                let reader = SpoolReader::of_file(Arc::clone(&file), begin, end);
                runs.push(Run::new(RunRecords::File(reader)));
                begin = end;
            }
        }
        runs.push(Run::new(RunRecords::Memory {
            records: self.records,
            positions: self.positions,
            next: 0,
        }));
        SortedRecords {
            runs,
            heap: Vec::new(),
            is_started: false,
        }
    }
}

/// Returns the first 8 bytes of a key, in an order that does not contradict that of the keys.
fn key_prefix(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

fn record_at(records: &[u8], offset: usize) -> &[u8] {
    let record = &records[offset..];
    let (key, payload) = record_lengths(record).unwrap_or_default();
    &record[..8 + key + payload]
}

fn key_at(records: &[u8], offset: usize) -> &[u8] {
    let record = &records[offset..];
    let (key, _) = record_lengths(record).unwrap_or_default();
    &record[8..8 + key]
}

#[derive(Debug)]
enum RunRecords {
    File(SpoolReader),
    Memory {
        records: Vec<u8>,
        positions: Vec<RecordPosition>,
        // Records before this position were read; the one before it is the current one.
        next: usize,
    },
}

/// One sorted run with its current record.
#[derive(Debug)]
struct Run {
    records: RunRecords,
    prefix: u64,
}

impl Run {
    fn new(records: RunRecords) -> Self {
        Self { records, prefix: 0 }
    }

    fn advance(&mut self) -> io::Result<bool> {
        match &mut self.records {
            RunRecords::File(reader) => {
                let found = reader.advance()?;
                if found {
                    self.prefix = key_prefix(reader.key());
                }
                Ok(found)
            }
            RunRecords::Memory {
                positions, next, ..
            } => {
                let Some(position) = positions.get(*next) else {
                    return Ok(false);
                };
                self.prefix = position.prefix;
                *next += 1;
                Ok(true)
            }
        }
    }

    fn rewind(&mut self) {
        match &mut self.records {
            RunRecords::File(reader) => reader.rewind(),
            RunRecords::Memory { next, .. } => *next = 0,
        }
    }

    fn key(&self) -> &[u8] {
        match &self.records {
            RunRecords::File(reader) => reader.key(),
            RunRecords::Memory {
                records,
                positions,
                next,
            } => key_at(records, positions[*next - 1].offset),
        }
    }

    fn payload(&self) -> &[u8] {
        match &self.records {
            RunRecords::File(reader) => reader.payload(),
            RunRecords::Memory {
                records,
                positions,
                next,
            } => {
                let record = record_at(records, positions[*next - 1].offset);
                let (key, _) = record_lengths(record).unwrap_or_default();
                &record[8 + key..]
            }
        }
    }
}

/// Sorted records of all runs, merged as they are read.
#[derive(Debug)]
pub(super) struct SortedRecords {
    runs: Vec<Run>,
    // Binary heap of the numbers of runs that have a record; the first has the smallest key.
    heap: Vec<usize>,
    is_started: bool,
}

impl SortedRecords {
    /// Moves to the next record. Returns false at the end.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        if !self.is_started {
            self.is_started = true;
            for number in 0..self.runs.len() {
                if self.runs[number].advance()? {
                    self.heap.push(number);
                }
            }
            for index in (0..self.heap.len() / 2).rev() {
                self.sift_down(index);
            }
        } else if let Some(first) = self.heap.first().copied() {
            if !self.runs[first].advance()? {
                self.heap.swap_remove(0);
            }
            self.sift_down(0);
        }
        Ok(!self.heap.is_empty())
    }

    /// Returns to the beginning.
    pub(super) fn rewind(&mut self) {
        self.heap.clear();
        self.is_started = false;
        self.runs.iter_mut().for_each(Run::rewind);
    }

    /// Returns the key of the current record; `None` before the first and after the last one.
    pub(super) fn key(&self) -> Option<&[u8]> {
        self.heap.first().map(|first| self.runs[*first].key())
    }

    /// Returns the payload of the current record.
    pub(super) fn payload(&self) -> &[u8] {
        self.heap
            .first()
            .map_or(&[], |first| self.runs[*first].payload())
    }

    fn sift_down(&mut self, from: usize) {
        let mut parent = from;
        loop {
            let mut child = 2 * parent + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.is_before(child + 1, child) {
                child += 1;
            }
            if !self.is_before(child, parent) {
                return;
            }
            self.heap.swap(child, parent);
            parent = child;
        }
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        let (one, other) = (self.heap[one], self.heap[other]);
        let (a, b) = (&self.runs[one], &self.runs[other]);
        // An earlier run has the earlier records.
        let order = a.prefix.cmp(&b.prefix).then_with(|| a.key().cmp(b.key()));
        order.then(one.cmp(&other)) == Ordering::Less
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sorted(records: &[(String, u32)], buffer_bytes: usize) -> Vec<(String, u32)> {
        let directory = tempfile::tempdir().unwrap();
        let mut sorter = RunSorter::new(directory.path(), buffer_bytes);
        for (key, payload) in records {
            sorter.push(key.as_bytes(), &payload.to_le_bytes()).unwrap();
        }
        let mut sorted = sorter.finish();
        let mut found = Vec::new();
        for _ in 0..2 {
            sorted.rewind();
            found.clear();
            while sorted.advance().unwrap() {
                let key = std::str::from_utf8(sorted.key().unwrap()).unwrap();
                let payload = u32::from_le_bytes(*sorted.payload().first_chunk().unwrap());
                found.push((key.to_owned(), payload));
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        found
    }

    proptest! {
        #[test]
        fn sorts_like_a_stable_sort_in_memory(
            keys in proptest::collection::vec("[ab]{0,10}|[а-в]{1,3}", 0..60),
            buffer_bytes in 1_usize..600,
        ) {
            let records: Vec<(String, u32)> = keys.into_iter().zip(0..).collect();
            let mut expected = records.clone();
            expected.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(sorted(&records, buffer_bytes), expected);
        }
    }
}
