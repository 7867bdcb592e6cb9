//! Bounded unpacking of zip and gzip, for files, workbooks and transfers of 1C.
//!
//! A zip states the length and the checksum of each file. [`Archive::unpack`] reads a file to its
//! end and so verifies both. Callers must not use the output before it has returned `Ok`.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom, Write};

use encoding_rs::IBM866;
use zip::ZipArchive;
use zip::result::ZipError;

use super::formats::FormatError;

/// Limit for the unpacked size of one file, in bytes.
///
/// A million products in the most verbose format of 1C are about 1 GiB.
pub(crate) const MAX_UNPACKED: u64 = 4 * 1024 * 1024 * 1024;

/// Limit for the ratio of unpacked to packed size. Deflate reaches 1032 only with zeros.
pub(crate) const MAX_RATIO: u64 = 1_000;

/// Unpacked size in bytes below which the ratio is not checked: a small file cannot exhaust
/// memory or disk.
const RATIO_EXEMPT_BYTES: u64 = 10 * 1024 * 1024;

/// Limit for the number of files in an archive. Exports with pictures have tens of thousands.
const MAX_ENTRIES: usize = 200_000;

/// Counter of the bytes unpacked from an archive, with their limits.
#[derive(Debug)]
pub(crate) struct Budget {
    packed: u64,
    unpacked: u64,
    limit: u64,
}

impl Budget {
    /// Creates a budget of `limit` unpacked bytes for an archive of `packed` bytes.
    pub(crate) fn new(packed: u64, limit: u64) -> Self {
        Self {
            packed,
            unpacked: 0,
            limit,
        }
    }

    fn charge(&mut self, bytes: u64, name: &str) -> Result<(), FormatError> {
        self.unpacked += bytes;
        let Self { packed, limit, .. } = *self;
        if self.unpacked > limit {
            return Err(FormatError::Unusable(format!(
                "the files up to '{name}' unpack to more than {limit} bytes, the limit for one \
                 archive: send fewer or smaller files in it"
            )));
        }
        if self.unpacked > packed.saturating_mul(MAX_RATIO).max(RATIO_EXEMPT_BYTES) {
            return Err(FormatError::Unusable(format!(
                "'{name}': the archive unpacks to more than {MAX_RATIO} times its packed size of \
                 {packed} bytes, which a stock list never does: pack it again"
            )));
        }
        Ok(())
    }

    /// Copies a file to its end and returns its length in bytes.
    ///
    /// # Errors
    /// The file is damaged or exceeds the budget, or writing to `to` fails.
    pub(crate) fn copy(
        &mut self,
        from: &mut dyn Read,
        to: &mut dyn Write,
        name: &str,
    ) -> Result<u64, FormatError> {
        let mut buffer = vec![0; 64 * 1024];
        let mut length = 0;
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(unpacking_failure(name, e)),
            };
            length += read as u64;
            self.charge(read as u64, name)?;
            to.write_all(buffer.get(..read).unwrap_or_default())?;
        }
    }
}

/// A zip archive that is unpacked within a [`Budget`].
pub struct Archive<R> {
    zip: ZipArchive<R>,
    name: String,
    budget: Budget,
}

/// Kind of an archive entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemberKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link. Its content is a path.
    Link,
}

/// An entry in the directory of an archive.
#[derive(Debug)]
pub struct Member {
    index: usize,
    /// Name for messages, with control characters replaced.
    pub name: String,
    /// Kind of the entry.
    pub kind: MemberKind,
    /// Name as the archive spells it.
    pub raw_name: Vec<u8>,
    /// Length in bytes, as the archive states it.
    pub length: u64,
    /// Offset of the entry's header in the archive, in bytes.
    pub header_start: u64,
}

impl<R: Read + Seek> Archive<R> {
    /// Opens an archive and allows `limit` bytes to be unpacked from it. `name` is for messages.
    ///
    /// # Errors
    /// The input is not a zip archive, is damaged, or lists too many files.
    pub fn open(name: &str, mut input: R, limit: u64) -> Result<Self, FormatError> {
        let packed = input.seek(SeekFrom::End(0))?;
        input.rewind()?;
        let zip = ZipArchive::new(input).map_err(|e| zip_failure(name, e))?;
        if zip.len() > MAX_ENTRIES {
            return Err(FormatError::Unusable(format!(
                "'{name}' lists {} files, the limit is {MAX_ENTRIES}: pack fewer files",
                zip.len()
            )));
        }
        Ok(Self {
            zip,
            name: name.to_owned(),
            budget: Budget::new(packed, limit),
        })
    }

    /// Returns the names of all entries, as the archive spells them.
    pub fn raw_names(&self) -> impl Iterator<Item = &[u8]> {
        self.zip.file_names_raw()
    }

    /// Returns all entries in the order of the archive.
    ///
    /// # Errors
    /// The archive is damaged.
    pub fn members(&mut self) -> Result<Vec<Member>, FormatError> {
        let mut members = Vec::with_capacity(self.zip.len());
        for index in 0..self.zip.len() {
            let file = self.zip.by_index_raw(index);
            let file = file.map_err(|e| zip_failure(&self.name, e))?;
            let kind = match (file.is_dir(), file.is_symlink()) {
                (true, _) => MemberKind::Directory,
                (false, true) => MemberKind::Link,
                (false, false) => MemberKind::File,
            };
            members.push(Member {
                index,
                name: decode_name(file.name_raw()),
                kind,
                raw_name: file.name_raw().to_vec(),
                length: file.size(),
                header_start: file.header_start(),
            });
        }
        Ok(members)
    }

    /// Unpacks a file to its end.
    ///
    /// # Errors
    /// The file is damaged, has a password, differs in length from what the archive states, or
    /// exceeds the budget; or writing to `to` fails.
    pub fn unpack(&mut self, member: &Member, to: &mut dyn Write) -> Result<(), FormatError> {
        let name = &member.name;
        let file = self.zip.by_index(member.index);
        let mut file = file.map_err(|e| zip_failure(name, e))?;
        // One more byte is enough to detect a file that is longer than stated.
        let mut bounded = (&mut file).take(member.length.saturating_add(1));
        if self.budget.copy(&mut bounded, to, name)? != member.length {
            let reason = "it is not as long as the archive states";
            return Err(broken_archive(name, reason));
        }
        Ok(())
    }

    /// Returns the reader of the archive.
    pub fn into_inner(self) -> R {
        self.zip.into_inner()
    }
}

/// Decodes a file name: UTF-8, or else the code page of Russian DOS, which Windows writes too.
fn decode_name(name: &[u8]) -> String {
    let text = match std::str::from_utf8(name) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => IBM866.decode_without_bom_handling(name).0,
    };
    text.replace(char::is_control, "\u{fffd}")
}

/// Tells a damaged archive from a failing device.
fn unpacking_failure(name: &str, error: io::Error) -> FormatError {
    // Errors of the operating system have a number; those of the decompressor have none.
    if error.raw_os_error().is_some() {
        return FormatError::Io(error);
    }
    broken_archive(name, &error.to_string())
}

fn zip_failure(name: &str, error: ZipError) -> FormatError {
    match error {
        ZipError::Io(e) => unpacking_failure(name, e),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
            FormatError::Unusable(format!(
                "'{name}' is encrypted with a password: save it without one, or leave it out of the \
                 archive"
            ))
        }
        ZipError::UnsupportedArchive(reason) => FormatError::Unusable(format!(
            "'{name}' uses a zip feature that is not supported ({reason}): pack it again with default \
            options"
        )),
        other => broken_archive(name, &other.to_string()),
    }
}

fn broken_archive(name: &str, reason: &str) -> FormatError {
    FormatError::broken(format!("'{name}' in its archive"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_limits_size_and_ratio() {
        let mut budget = Budget::new(u64::MAX, 2);
        budget.charge(2, "a").unwrap();
        budget.charge(1, "a").unwrap_err();
        let mut budget = Budget::new(RATIO_EXEMPT_BYTES / MAX_RATIO, MAX_UNPACKED);
        budget.charge(RATIO_EXEMPT_BYTES, "a").unwrap();
        assert!(
            budget
                .charge(MAX_RATIO, "a")
                .unwrap_err()
                .to_string()
                .contains("1000 times")
        );
    }

    #[test]
    fn decodes_names_of_russian_dos() {
        assert_eq!(
            decode_name(b"\xae\xe1\xe2\xa0\xe2\xaa\xa8.csv"),
            "остатки.csv"
        );
        assert_eq!(decode_name("остатки.csv".as_bytes()), "остатки.csv");
        assert_eq!(decode_name(b"a\n.csv"), "a\u{fffd}.csv");
    }
}
