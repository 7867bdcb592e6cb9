//! Uploaded files of a transfer, on disk.
//!
//! Nothing is synced to disk: after a crash 1C starts a new transfer, and the remains are deleted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use lifecycle::run_blocking;
use sha2::{Digest, Sha256};
use stock_import::archive::{Archive, MemberKind};
use stock_import::formats::FormatError;
use tokio::io::AsyncWriteExt;

use super::ExchangeError;
use super::file_name::FileName;
use crate::private_files;

/// Most files of one transfer.
pub(super) const MAX_FILES: usize = 1_000;

/// Limit of the unpacked size, as a multiple of the limit of a transfer.
const MAX_UNPACK_RATIO: u64 = 10;

/// A complete part that is not yet appended to its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ReceivedPart {
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// Directory for the files of one transfer.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    files_directory: PathBuf,
    part_file: PathBuf,
}

impl Spool {
    pub(super) fn new(directory: &Path) -> Self {
        // A subdirectory, so that a wrongly configured spool directory does not lose other files.
        Self {
            files_directory: directory.join("transfer"),
            part_file: directory.join("part"),
        }
    }

    /// Deletes the files of an earlier transfer.
    pub(super) async fn clear(&self) -> io::Result<()> {
        let files = self.files_directory.clone();
        run_blocking(move || {
            match fs::remove_dir_all(&files) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
            private_files::create_directory(&files)
        })
        .await
    }

    pub(super) fn path(&self, name: &FileName) -> PathBuf {
        name.path_in(&self.files_directory)
    }

    /// Writes a part to disk, chunk by chunk.
    pub(super) async fn receive(
        &self,
        body: Body,
        max_bytes: u64,
    ) -> Result<ReceivedPart, ExchangeError> {
        check_length(&body, max_bytes)?;
        let options = tokio::fs::OpenOptions::from(private_files::truncate_options());
        let mut file = options
            .open(&self.part_file)
            .await
            .map_err(|e| write_error(&e))?;
        let mut body = body;
        let mut digest = Sha256::new();
        let mut bytes = 0;
        while let Some(chunk) = next_chunk(&mut body, &mut bytes, max_bytes).await? {
            digest.update(&chunk);
            file.write_all(&chunk).await.map_err(|e| write_error(&e))?;
        }
        file.flush().await.map_err(|e| write_error(&e))?;
        Ok(ReceivedPart {
            bytes,
            digest: digest.finalize().into(),
        })
    }

    /// Appends the part that was received last to a file, completely or not at all.
    pub(super) async fn append(&self, name: &FileName) -> Result<(), ExchangeError> {
        let (part, target) = (self.part_file.clone(), self.path(name));
        run_blocking(move || append_file(&part, &target))
            .await
            .map_err(|e| write_error(&e))
    }

    pub(super) async fn remove(&self, name: &FileName) -> Result<(), ExchangeError> {
        match tokio::fs::remove_file(self.path(name)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(write_error(&e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn contains(&self, name: &FileName) -> bool {
        tokio::fs::metadata(self.path(name))
            .await
            .is_ok_and(|found| found.is_file())
    }

    /// Unpacks the XML files of an archive into the spool and returns their names.
    pub(super) async fn unpack(
        &self,
        archive: &FileName,
        max_bytes: u64,
    ) -> Result<Vec<FileName>, ExchangeError> {
        let (spool, archive) = (self.clone(), archive.clone());
        run_blocking(move || {
            unpack_xml_files(&spool, &archive, max_bytes.saturating_mul(MAX_UNPACK_RATIO))
        })
        .await
    }
}

/// Reads and discards a body, so that its sender reads the response.
pub(super) async fn discard_body(mut body: Body, max_bytes: u64) -> Result<(), ExchangeError> {
    check_length(&body, max_bytes)?;
    let mut bytes = 0;
    while next_chunk(&mut body, &mut bytes, max_bytes)
        .await?
        .is_some()
    {}
    Ok(())
}

async fn next_chunk(
    body: &mut Body,
    bytes: &mut u64,
    max_bytes: u64,
) -> Result<Option<bytes::Bytes>, ExchangeError> {
    while let Some(frame) = body.frame().await {
        let message = "the part did not arrive completely, send it again";
        let frame = frame.map_err(|_| ExchangeError::new(message))?;
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        *bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if *bytes > max_bytes {
            return Err(too_large(max_bytes));
        }
        return Ok(Some(chunk));
    }
    Ok(None)
}

fn check_length(body: &Body, max_bytes: u64) -> Result<(), ExchangeError> {
    if body.size_hint().lower() > max_bytes {
        Err(too_large(max_bytes))
    } else {
        Ok(())
    }
}

fn too_large(max_bytes: u64) -> ExchangeError {
    ExchangeError::new(format!(
        "the part is too large, at most {max_bytes} bytes are accepted"
    ))
}

/// 1C gets only the kind of the error, so the message does not contain paths of this machine.
fn write_error(error: &io::Error) -> ExchangeError {
    ExchangeError::new(format!("the file cannot be stored: {}", error.kind()))
}

fn append_file(part: &Path, target: &Path) -> io::Result<()> {
    if let Some(directory) = target.parent() {
        private_files::create_directory(directory)?;
    }
    let mut file = private_files::create_options().append(true).open(target)?;
    let length = file.metadata()?.len();
    let result = File::open(part).and_then(|mut part| io::copy(&mut part, &mut file));
    if let Err(error) = result {
        // A full disk may have stored half of the part. 1C sends the part again, so the half must
        // go.
        file.set_len(length)?;
        return Err(error);
    }
    Ok(())
}

fn unpack_xml_files(
    spool: &Spool,
    name: &FileName,
    max_bytes: u64,
) -> Result<Vec<FileName>, ExchangeError> {
    let archive = name.as_str();
    let unpack_error = |e: &dyn std::fmt::Display| {
        ExchangeError::new(format!("the archive {archive} cannot be unpacked: {e}"))
    };
    let file = File::open(spool.path(name)).map_err(|e| unpack_error(&e))?;
    let format_error = |error: FormatError| match error {
        FormatError::Io(error) => write_error(&error),
        other => unpack_error(&other),
    };
    let mut zip = Archive::open(archive, file, max_bytes).map_err(format_error)?;
    let mut unpacked = Vec::new();
    for entry in zip.members().map_err(format_error)? {
        if entry.kind != MemberKind::File {
            continue;
        }
        let inner_name = FileName::parse(&entry.name)?;
        if !inner_name.is_xml() {
            continue;
        }
        if unpacked.len() >= MAX_FILES {
            return Err(unpack_error(&format!(
                "it contains more than {MAX_FILES} XML files"
            )));
        }
        let mut file =
            create_file_in_directory(&spool.path(&inner_name)).map_err(|e| write_error(&e))?;
        zip.unpack(&entry, &mut file).map_err(format_error)?;
        unpacked.push(inner_name);
    }
    Ok(unpacked)
}

fn create_file_in_directory(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        private_files::create_directory(directory)?;
    }
    private_files::create_file(path)
}
