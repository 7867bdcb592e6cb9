//! Files of a transfer, on disk.
//!
//! Nothing here is synced: after a crash 1C begins anew, and what is left is wiped.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::Failure;
use super::file_name::FileName;
use crate::lifecycle::run_blocking;
use crate::sources::archive::{Archive, MemberKind};
use crate::sources::formats::FormatError;
use crate::sources::private;

/// Most files of one transfer that are kept.
pub(super) const MAX_FILES: usize = 1_000;

/// How many times its packed size an archive may fill.
const MAX_GROWTH: u64 = 10;

/// A part that has arrived whole and is not yet part of anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Part {
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
}

/// Where the files of one transfer lie.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    files: PathBuf,
    part: PathBuf,
}

impl Spool {
    pub(super) fn new(directory: &Path) -> Self {
        // Below a directory of its own, so that a spool set to the wrong place wipes nothing.
        Self {
            files: directory.join("transfer"),
            part: directory.join("part"),
        }
    }

    /// Throws away what an earlier transfer has left.
    pub(super) async fn wipe(&self) -> io::Result<()> {
        let files = self.files.clone();
        run_blocking(move || {
            match fs::remove_dir_all(&files) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(()) | Err(_) => {}
            }
            private::create_directory(&files)
        })
        .await
    }

    pub(super) fn path(&self, name: &FileName) -> PathBuf {
        name.below(&self.files)
    }

    /// Takes a part to disk, piece by piece.
    pub(super) async fn receive(&self, body: Body, max_bytes: u64) -> Result<Part, Failure> {
        check_length(&body, max_bytes)?;
        let options = tokio::fs::OpenOptions::from(private::emptying());
        let mut file = options.open(&self.part).await.map_err(|e| unwritten(&e))?;
        let mut body = body;
        let mut digest = Sha256::new();
        let mut bytes = 0;
        while let Some(piece) = next(&mut body, &mut bytes, max_bytes).await? {
            digest.update(&piece);
            file.write_all(&piece).await.map_err(|e| unwritten(&e))?;
        }
        file.flush().await.map_err(|e| unwritten(&e))?;
        Ok(Part {
            bytes,
            digest: digest.finalize().into(),
        })
    }

    /// Puts the part that was received last at the end of a file: all of it or nothing.
    pub(super) async fn append(&self, name: &FileName) -> Result<(), Failure> {
        let (part, target) = (self.part.clone(), self.path(name));
        run_blocking(move || append(&part, &target))
            .await
            .map_err(|e| unwritten(&e))
    }

    pub(super) async fn remove(&self, name: &FileName) -> Result<(), Failure> {
        match tokio::fs::remove_file(self.path(name)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(unwritten(&e)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn has(&self, name: &FileName) -> bool {
        tokio::fs::metadata(self.path(name))
            .await
            .is_ok_and(|found| found.is_file())
    }

    /// Unpacks the XML files of an archive beside it, and returns their names.
    pub(super) async fn unpack(
        &self,
        archive: &FileName,
        max_bytes: u64,
    ) -> Result<Vec<FileName>, Failure> {
        let (spool, archive) = (self.clone(), archive.clone());
        run_blocking(move || unpack(&spool, &archive, max_bytes.saturating_mul(MAX_GROWTH))).await
    }
}

/// Reads a body that nobody wants, so that its sender hears the answer.
pub(super) async fn discard(mut body: Body, max_bytes: u64) -> Result<(), Failure> {
    check_length(&body, max_bytes)?;
    let mut bytes = 0;
    while next(&mut body, &mut bytes, max_bytes).await?.is_some() {}
    Ok(())
}

async fn next(
    body: &mut Body,
    bytes: &mut u64,
    max_bytes: u64,
) -> Result<Option<bytes::Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let broken = "the part did not arrive whole, it has to be sent again";
        let frame = frame.map_err(|_| Failure::new(broken))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        *bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if *bytes > max_bytes {
            return Err(too_large(max_bytes));
        }
        return Ok(Some(piece));
    }
    Ok(None)
}

fn check_length(body: &Body, max_bytes: u64) -> Result<(), Failure> {
    if body.size_hint().lower() > max_bytes {
        Err(too_large(max_bytes))
    } else {
        Ok(())
    }
}

fn too_large(max_bytes: u64) -> Failure {
    Failure::new(format!(
        "the part is too large, at most {max_bytes} bytes are taken"
    ))
}

/// The cause goes to the log with the rest of the sentence; it names no more than our disk.
fn unwritten(error: &io::Error) -> Failure {
    Failure::new(format!("the file cannot be kept here: {}", error.kind()))
}

fn append(part: &Path, target: &Path) -> io::Result<()> {
    if let Some(directory) = target.parent() {
        private::create_directory(directory)?;
    }
    let mut file = private::creating().append(true).open(target)?;
    let length = file.metadata()?.len();
    let appended = File::open(part).and_then(|mut part| io::copy(&mut part, &mut file));
    if let Err(error) = appended {
        // A disk that is full takes half of it; the part is sent again, so no half may stay.
        file.set_len(length)?;
        return Err(error);
    }
    Ok(())
}

fn unpack(spool: &Spool, name: &FileName, max_bytes: u64) -> Result<Vec<FileName>, Failure> {
    let archive = name.as_str();
    let broken = |e: &dyn std::fmt::Display| {
        Failure::new(format!("the archive {archive} cannot be unpacked: {e}"))
    };
    let file = File::open(spool.path(name)).map_err(|e| broken(&e))?;
    let failed = |error: FormatError| match error {
        FormatError::Io(error) => unwritten(&error),
        other => broken(&other),
    };
    let mut zip = Archive::open(archive, file, max_bytes).map_err(failed)?;
    let mut unpacked = Vec::new();
    for member in zip.members().map_err(failed)? {
        if member.kind != MemberKind::File {
            continue;
        }
        let inner = FileName::parse(&member.name)?;
        if !inner.is_xml() {
            continue;
        }
        if unpacked.len() >= MAX_FILES {
            return Err(broken(&format!("it holds more than {MAX_FILES} XML files")));
        }
        let mut file = create(&spool.path(&inner)).map_err(|e| unwritten(&e))?;
        zip.unpack(&member, &mut file).map_err(failed)?;
        unpacked.push(inner);
    }
    Ok(unpacked)
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        private::create_directory(directory)?;
    }
    private::create_file(path)
}
