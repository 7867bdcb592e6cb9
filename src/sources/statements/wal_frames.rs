//! Committed pages in SQLite's write-ahead log.
//!
//! The log begins with a header, whose salts change each time the log is begun again. Each frame has
//! the number and the content of a page, and a checksum over everything from the header to it. The
//! last frame of a transaction says how many pages the database has. What follows the last valid
//! frame of a transaction is not committed. Source: <https://sqlite.org/fileformat2.html#walformat>

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// Begin of the header; its last bit is set if the checksums use big-endian words.
const MAGIC: u32 = 0x377f_0682;

/// End of the last committed transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WalPosition {
    salts: [u8; 8],
    offset: u64,
    checksum: WalChecksum,
}

/// Committed pages of a log, or of its part after a position.
#[derive(Debug, Default)]
pub(super) struct CommittedPages {
    /// True if it is the part after the position. Otherwise the log was begun again since, and what
    /// it had before is not known here.
    pub(super) continues: bool,
    /// Position of the latest content of each page in the log.
    pub(super) pages: BTreeMap<u32, u64>,
    /// End of the last committed transaction; `None` if the log has none.
    pub(super) end: Option<WalPosition>,
}

impl WalPosition {
    /// Returns the bytes of the log up to here.
    pub(super) fn bytes(self) -> u64 {
        self.offset
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct WalChecksum {
    is_big_endian: bool,
    sums: [u32; 2],
}

impl WalChecksum {
    fn add(&mut self, bytes: &[u8]) {
        let (pairs, _) = bytes.as_chunks::<8>();
        let [mut first, mut second] = self.sums;
        for pair in pairs {
            let [one, other] = [word(&pair[..4]), word(&pair[4..])].map(|it| {
                if self.is_big_endian {
                    u32::from_be_bytes(it)
                } else {
                    u32::from_le_bytes(it)
                }
            });
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(other).wrapping_add(first);
        }
        self.sums = [first, second];
    }

    fn is(&self, stored: &[u8]) -> bool {
        self.sums == [&stored[..4], &stored[4..8]].map(|it| u32::from_be_bytes(word(it)))
    }
}

fn word(bytes: &[u8]) -> [u8; 4] {
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// Reads the committed pages of a log after a position, or all if the log was begun again.
pub(super) fn committed_pages(
    log: &File,
    page_bytes: usize,
    after: Option<WalPosition>,
) -> io::Result<CommittedPages> {
    let mut header = [0; HEADER_BYTES];
    if log.metadata()?.len() < HEADER_BYTES as u64 {
        return Ok(CommittedPages::default());
    }
    log.read_exact_at(&mut header, 0)?;
    let Some(begin) = begin_of_log(&header, page_bytes) else {
        return Ok(CommittedPages::default());
    };
    let after = after.filter(|after| after.salts == begin.salts);
    let mut position = after.unwrap_or(begin);
    let mut found = CommittedPages {
        continues: after.is_some(),
        pages: BTreeMap::new(),
        end: after,
    };
    // Pages of a transaction whose end was not read yet.
    let mut open = Vec::new();
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    while read_whole(log, &mut frame, position.offset)? {
        let (head, content) = frame.split_at(FRAME_HEADER_BYTES);
        position.checksum.add(&head[..8]);
        position.checksum.add(content);
        if head[8..16] != position.salts || !position.checksum.is(&head[16..24]) {
            break;
        }
        let page = u32::from_be_bytes(word(&head[..4]));
        open.push((page, position.offset + FRAME_HEADER_BYTES as u64));
        position.offset += frame.len() as u64;
        if u32::from_be_bytes(word(&head[4..8])) > 0 {
            found.pages.extend(open.drain(..));
            found.end = Some(position);
        }
    }
    Ok(found)
}

fn begin_of_log(header: &[u8; HEADER_BYTES], page_bytes: usize) -> Option<WalPosition> {
    let magic = u32::from_be_bytes(word(&header[..4]));
    let mut checksum = WalChecksum {
        is_big_endian: magic & 1 == 1,
        sums: [0, 0],
    };
    checksum.add(&header[..24]);
    let has_page_bytes = u32::from_be_bytes(word(&header[8..12])) as usize == page_bytes;
    let is_valid = magic & !1 == MAGIC && has_page_bytes && checksum.is(&header[24..32]);
    let mut salts = [0; 8];
    salts.copy_from_slice(&header[16..24]);
    is_valid.then_some(WalPosition {
        salts,
        offset: HEADER_BYTES as u64,
        checksum,
    })
}

/// Returns false if the file ends before.
fn read_whole(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
