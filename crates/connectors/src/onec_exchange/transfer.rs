//! Transfers of one endpoint: receives parts of files and imports whole files.
//!
//! One transfer at a time; a new one replaces it. The state is in memory only: after a restart 1C
//! gets an error and starts a new transfer. Imports run in tasks, because they may take longer than
//! a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use lifecycle::Tasks;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::file_name::FileName;
use super::sessions::ExchangeClient;
use super::spool::{MAX_FILES, ReceivedPart, Spool};
use super::{
    Context, DeliverUpload, ExchangeEndpoint, ExchangeError, ImportedFile, MAX_PART_BYTES, Upload,
};

/// Longest wait before 1C gets a response. Shorter than the listener's limit for handlers and the
/// usual timeouts of 1C and proxies.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest wait of a part for the request before it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// State of an import.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ImportProgress {
    Done(ImportedFile),
    Running,
}

type ImportOutcome = Option<Result<ImportedFile, String>>;

/// Transfer state of one endpoint.
pub(super) struct Transfers {
    source_index: usize,
    source_name: String,
    max_bytes: u64,
    spool: Spool,
    deliver: DeliverUpload,
    tasks: Tasks,
    /// Held by each writer of the spool, and by an import until its end.
    write_lock: Arc<Semaphore>,
    transfer: Arc<Mutex<Option<Transfer>>>,
}

/// Uploads since the last `mode=init`.
struct Transfer {
    owner: ExchangeClient,
    received_bytes: u64,
    /// The last part and the name of its file.
    last_part: Option<(FileName, ReceivedPart)>,
    files: HashMap<FileName, FileState>,
}

/// One file of a transfer.
enum FileState {
    Receiving,
    /// An archive that is unpacked. The next part begins a new archive.
    Unpacked,
    /// A file whose import failed. The import may be repeated; the next part replaces the file.
    Failed,
    /// A file whose import is running or has succeeded.
    Imported(watch::Receiver<ImportOutcome>),
}

impl Transfers {
    pub(super) fn new(endpoint: &ExchangeEndpoint, context: &Context) -> Self {
        Self {
            source_index: endpoint.source_index,
            source_name: endpoint.name.clone(),
            max_bytes: endpoint.config.max_bytes,
            spool: Spool::new(&endpoint.spool),
            deliver: Arc::clone(&context.deliver),
            tasks: context.tasks.clone(),
            write_lock: Arc::new(Semaphore::new(1)),
            transfer: Arc::default(),
        }
    }

    /// Begins a transfer and discards the files of an earlier one.
    pub(super) async fn begin(&self, client: ExchangeClient) -> Result<(), ExchangeError> {
        let _permit = self.acquire_lock(RESPONSE_TIMEOUT).await?;
        *self.transfer.lock() = None;
        self.spool.clear().await.map_err(|e| {
            warn!(source = self.source_name, error = %e, "failed to clear the spool of {}: {e}", self.source_name);
            ExchangeError::new("cannot begin a transfer: the spool directory is not writable")
        })?;
        *self.transfer.lock() = Some(Transfer {
            owner: client,
            received_bytes: 0,
            last_part: None,
            files: HashMap::new(),
        });
        info!(
            source = self.source_name,
            "1C began a transfer to {}", self.source_name
        );
        Ok(())
    }

    /// Receives one part of a file.
    ///
    /// Only a complete part counts. If the response is lost, 1C sends the part again without
    /// marking it as a repeat. A part that equals the previous part of the same file is therefore
    /// ignored. If a file really contained the same part twice in a row, the second would be lost.
    /// That does not happen: XML and archives do not repeat 512 KiB. A repeat with another part in
    /// between is not detected here; the file is then broken and is rejected by its parser.
    pub(super) async fn receive(
        &self,
        client: ExchangeClient,
        name: &FileName,
        body: Body,
    ) -> Result<(), ExchangeError> {
        let _permit = self.acquire_lock(LOCK_TIMEOUT).await?;
        let (remaining, is_new_file) = self.remaining_bytes(client, name)?;
        if is_new_file {
            self.spool.remove(name).await?;
        }
        let part = self
            .spool
            .receive(body, remaining.min(MAX_PART_BYTES))
            .await?;
        let last_part = Some((name.clone(), part));
        if !is_new_file
            && self
                .transfer
                .lock()
                .as_ref()
                .is_some_and(|transfer| transfer.last_part == last_part)
        {
            info!(
                source = self.source_name,
                file = name.as_str(),
                "repeated part ignored"
            );
            return Ok(());
        }
        self.spool.append(name).await?;
        if let Some(transfer) = self.transfer.lock().as_mut() {
            transfer.received_bytes += part.bytes;
            transfer.last_part = last_part;
            transfer.files.insert(name.clone(), FileState::Receiving);
        }
        Ok(())
    }

    /// Returns the number of bytes that the transfer may still receive, and true if the part begins
    /// a new file under the name of a file that was imported before.
    fn remaining_bytes(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<(u64, bool), ExchangeError> {
        let mut current = self.transfer.lock();
        let transfer = check_owner(current.as_mut(), client)?;
        if transfer.files.len() >= MAX_FILES && !transfer.files.contains_key(name) {
            return Err(ExchangeError::new(format!(
                "a transfer may contain at most {MAX_FILES} files"
            )));
        }
        let is_new_file = match transfer.files.get(name) {
            Some(FileState::Unpacked | FileState::Failed | FileState::Imported(_)) => true,
            Some(FileState::Receiving) | None => false,
        };
        let remaining = self.max_bytes.saturating_sub(transfer.received_bytes);
        if remaining == 0 {
            let limit = self.max_bytes;
            return Err(ExchangeError::new(format!(
                "the transfer is larger than {limit} bytes"
            )));
        }
        Ok((remaining, is_new_file))
    }

    /// Imports a file, or returns the state of its import. An imported file is not imported again.
    pub(super) async fn import(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<ImportProgress, ExchangeError> {
        let running = self.running_import(client, name)?;
        let mut outcome = match running {
            Some(outcome) => outcome,
            None => self.start_import(client, name).await?,
        };
        let result = timeout(RESPONSE_TIMEOUT, outcome.wait_for(Option::is_some)).await;
        let message = match result {
            Err(_elapsed) => return Ok(ImportProgress::Running),
            Ok(Ok(finished)) => match finished.as_ref() {
                Some(Ok(imported)) => return Ok(ImportProgress::Done(imported.clone())),
                Some(Err(text)) => text.clone(),
                None => return Ok(ImportProgress::Running),
            },
            Ok(Err(_gone)) => "the import was interrupted, send the file again".to_owned(),
        };
        if let Some(transfer) = self.transfer.lock().as_mut() {
            transfer.files.insert(name.clone(), FileState::Failed);
        }
        Err(ExchangeError::new(message))
    }

    fn running_import(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<Option<watch::Receiver<ImportOutcome>>, ExchangeError> {
        let mut current = self.transfer.lock();
        let files = &check_owner(current.as_mut(), client)?.files;
        // An archive that arrived later may contain another file of that name.
        let has_new_archive = files
            .iter()
            .any(|(name, file)| name.is_zip() && matches!(file, FileState::Receiving));
        match files.get(name) {
            Some(FileState::Imported(outcome))
                if !has_new_archive || outcome.borrow().is_none() =>
            {
                Ok(Some(outcome.clone()))
            }
            Some(
                FileState::Receiving
                | FileState::Unpacked
                | FileState::Failed
                | FileState::Imported(_),
            )
            | None => Ok(None),
        }
    }

    /// Starts a task that unpacks the new archives and delivers the file.
    async fn start_import(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<watch::Receiver<ImportOutcome>, ExchangeError> {
        let permit = self.acquire_lock(RESPONSE_TIMEOUT).await?;
        // Another request may have started the same import in the meantime.
        if let Some(outcome) = self.running_import(client, name)? {
            return Ok(outcome);
        }
        let (sender, outcome) = watch::channel(None);
        if let Some(transfer) = self.transfer.lock().as_mut() {
            transfer.last_part = None;
            transfer
                .files
                .insert(name.clone(), FileState::Imported(outcome.clone()));
        }
        let job = ImportJob {
            source_index: self.source_index,
            max_bytes: self.max_bytes,
            spool: self.spool.clone(),
            deliver: Arc::clone(&self.deliver),
            transfer: Arc::clone(&self.transfer),
            name: name.clone(),
        };
        let (tasks, source) = (self.tasks.clone(), self.source_name.clone());
        self.tasks.spawn_short_lived(async move {
            let result = tokio::select! {
                biased;
                () = tasks.stopping() => return,
                result = job.run() => result,
            };
            if let Ok(imported) = &result {
                let (file, message) = (job.name.as_str(), &imported.message);
                info!(source, file, "imported file {file} from 1C: {message}");
            }
            // Before the result is published, so that the client's next request need not wait.
            drop(permit);
            sender.send_replace(Some(result));
        });
        Ok(outcome)
    }

    async fn acquire_lock(
        &self,
        max_wait: Duration,
    ) -> Result<OwnedSemaphorePermit, ExchangeError> {
        let acquiring = Arc::clone(&self.write_lock).acquire_owned();
        match timeout(max_wait, acquiring).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ExchangeError::new(
                "the previous request is still being processed, try again later",
            )),
        }
    }
}

/// Returns the transfer if it belongs to this client.
fn check_owner(
    transfer: Option<&mut Transfer>,
    client: ExchangeClient,
) -> Result<&mut Transfer, ExchangeError> {
    let transfer = transfer
        .ok_or_else(|| ExchangeError::new("no transfer has begun, start with mode=init"))?;
    match (transfer.owner, client) {
        (ExchangeClient::Session(owner_id), ExchangeClient::Session(client_id))
            if owner_id != client_id =>
        {
            Err(ExchangeError::new(
                "another exchange has begun in the meantime, start again with mode=init",
            ))
        }
        (
            ExchangeClient::Session(_) | ExchangeClient::Login,
            ExchangeClient::Session(_) | ExchangeClient::Login,
        ) => Ok(transfer),
    }
}

/// One import of a file.
struct ImportJob {
    source_index: usize,
    max_bytes: u64,
    spool: Spool,
    deliver: DeliverUpload,
    transfer: Arc<Mutex<Option<Transfer>>>,
    name: FileName,
}

impl ImportJob {
    async fn run(&self) -> Result<ImportedFile, String> {
        let message = |error| match error {
            ExchangeError::Message(text) => text,
            ExchangeError::NoCredentials
            | ExchangeError::WrongLogin
            | ExchangeError::SessionEnded => "the file is not available".to_owned(),
        };
        for archive in self.pending_archives() {
            match self.spool.unpack(&archive, self.max_bytes).await {
                Ok(inner_names) => self.record_archive(archive, FileState::Unpacked, &inner_names),
                Err(error) => {
                    self.record_archive(archive, FileState::Failed, &[]);
                    return Err(message(error));
                }
            }
        }
        if !self.spool.contains(&self.name).await {
            return Err(format!("the file {} was not sent", self.name.as_str()));
        }
        let upload = Upload {
            source_index: self.source_index,
            path: self.spool.path(&self.name),
            name: self.name.as_str().to_owned(),
        };
        (self.deliver)(upload).await
    }

    /// Returns the archives that have arrived since the last import.
    fn pending_archives(&self) -> Vec<FileName> {
        let current = self.transfer.lock();
        let files = current.iter().flat_map(|transfer| &transfer.files);
        let archives = files.filter(|(name, file)| {
            name.is_zip() && matches!(file, FileState::Receiving | FileState::Failed)
        });
        archives.map(|(name, _)| name.clone()).collect()
    }

    /// Records the state of an archive. Its files replace earlier files of the same names.
    fn record_archive(&self, archive: FileName, state: FileState, inner_names: &[FileName]) {
        let mut current = self.transfer.lock();
        if let Some(transfer) = current.as_mut() {
            transfer.files.insert(archive, state);
            transfer
                .files
                .retain(|name, _| *name == self.name || !inner_names.contains(name));
        }
    }
}
