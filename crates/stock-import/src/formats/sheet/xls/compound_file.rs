//! Compound file: the file system of sectors inside an XLS file.
//!
//! Every sector number is validated, so a damaged file causes neither endless loops nor unbounded
//! allocations.
//!
//! Source: [MS-CFB], Open Specifications, 2024.

use super::records::{u16_at, u32_at, usize_at};

/// Directory entry of a compound file.
pub(super) struct CompoundFileEntry {
    name: String,
    start: usize,
    length: usize,
}

impl CompoundFileEntry {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = usize::from(u16_at(bytes, 64)?).min(64);
        let units = bytes.get(..length)?.chunks_exact(2);
        let units: Vec<_> = units.map_while(|two| u16_at(two, 0)).collect();
        let name = String::from_utf16_lossy(&units)
            .trim_end_matches('\0')
            .to_owned();
        Some(Self {
            name,
            start: usize_at(bytes, 116)?,
            length: usize_at(bytes, 120)?,
        })
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// A compound file: a file system of sectors, with a table of each sector's successor.
pub(super) struct CompoundFile<'a> {
    file: &'a [u8],
    sector_size: usize,
    fat: Vec<u32>,
    /// Streams shorter than this are stored in mini sectors.
    mini_stream_cutoff: usize,
    mini_fat: Vec<u32>,
    pub(super) entries: Vec<CompoundFileEntry>,
}

const MINI_SECTOR_SIZE: usize = 64;

impl<'a> CompoundFile<'a> {
    /// Parses the header, the tables and the directory; `None` if they are damaged.
    pub(super) fn parse(file: &'a [u8]) -> Option<Self> {
        const HEADER_FAT_ENTRIES: usize = 109;
        let sector_size = match u16_at(file, 30)? {
            9 => 512,
            12 => 4_096,
            _ => return None,
        };
        let mut compound_file = Self {
            file,
            sector_size,
            fat: Vec::new(),
            mini_stream_cutoff: usize_at(file, 56)?,
            mini_fat: Vec::new(),
            entries: Vec::new(),
        };
        let mut fat_sectors: Vec<usize> = (0..HEADER_FAT_ENTRIES)
            .filter_map(|at| usize_at(file, 76 + at * 4))
            .collect();
        // Further FAT sectors are listed in a chain of sectors; the last entry of each sector is
        // the next sector of the chain.
        let mut next_list = usize_at(file, 68)?;
        let entries_per_sector = sector_size / 4 - 1;
        for _ in 0..file.len() / sector_size {
            let Some(bytes) = compound_file.sector(next_list) else {
                break;
            };
            fat_sectors.extend((0..entries_per_sector).filter_map(|at| usize_at(bytes, at * 4)));
            next_list = usize_at(bytes, entries_per_sector * 4)?;
        }
        // The file cannot have more FAT sectors than sectors.
        let fat_sector_count = usize_at(file, 44)?.min(file.len() / sector_size);
        for list in fat_sectors.into_iter().take(fat_sector_count) {
            compound_file
                .fat
                .extend(u32_values(compound_file.sector(list)?));
        }
        let directory = compound_file.read_chain(usize_at(file, 48)?)?;
        compound_file.entries = directory
            .chunks_exact(128)
            .map(CompoundFileEntry::parse)
            .collect::<Option<Vec<_>>>()?;
        if usize_at(file, 64)? > 0 {
            compound_file.mini_fat = u32_values(&compound_file.read_chain(usize_at(file, 60)?)?);
        }
        Some(compound_file)
    }

    /// Returns a sector. The last one of the file may be shorter than the others.
    fn sector(&self, at: usize) -> Option<&'a [u8]> {
        let start = at.checked_add(1)?.checked_mul(self.sector_size)?;
        let end = start.checked_add(self.sector_size)?.min(self.file.len());
        self.file.get(start..end).filter(|bytes| !bytes.is_empty())
    }

    fn read_chain(&self, start: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for at in sector_chain(start, &self.fat)? {
            bytes.extend_from_slice(self.sector(at)?);
        }
        Some(bytes)
    }

    pub(super) fn read_stream(&self, entry: &CompoundFileEntry) -> Option<Vec<u8>> {
        let bytes = if entry.length >= self.mini_stream_cutoff {
            self.read_chain(entry.start)?
        } else {
            let mini_stream = self.read_chain(self.entries.first()?.start)?;
            let mut bytes = Vec::new();
            for at in sector_chain(entry.start, &self.mini_fat)? {
                let start = at.checked_mul(MINI_SECTOR_SIZE)?;
                let end = start.checked_add(MINI_SECTOR_SIZE)?.min(mini_stream.len());
                // The last mini sector may be shorter than the others.
                bytes.extend_from_slice(mini_stream.get(start..end)?);
            }
            bytes
        };
        bytes.get(..entry.length).map(<[u8]>::to_vec)
    }
}

fn u32_values(bytes: &[u8]) -> Vec<u32> {
    let chunks = bytes.chunks_exact(4);
    chunks.map_while(|four| u32_at(four, 0)).collect()
}

/// Returns a chain of sectors; `None` if it leaves the file or is cyclic.
fn sector_chain(start: usize, fat: &[u32]) -> Option<Vec<usize>> {
    const END: u32 = 0xffff_fffe;
    let mut at = start;
    let mut found = Vec::new();
    loop {
        let successor = *fat.get(at)?;
        if found.len() == fat.len() {
            return None;
        }
        found.push(at);
        if successor == END {
            return Some(found);
        }
        at = usize::try_from(successor).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_cyclic_and_out_of_bounds_chains() {
        const END: u32 = 0xffff_fffe;
        assert_eq!(sector_chain(1, &[END, 2, 0]), Some(vec![1, 2, 0]));
        assert_eq!(sector_chain(0, &[1, 0, END]), None);
        assert_eq!(sector_chain(0, &[7, END]), None);
        assert_eq!(sector_chain(5, &[END]), None);
    }
}
