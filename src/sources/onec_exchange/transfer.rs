use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::file_name::FileName;
use super::sessions::ExchangeClient;
use super::spool::{MAX_FILES, ReceivedPart, Spool};
use super::{
    Context, DeliverUpload, ExchangeEndpoint, ExchangeError, ImportedFile, MAX_PART_BYTES, Upload,
};
use crate::lifecycle::Tasks;

/// How long 1C waits for an answer before it is told to come again. Shorter than the listener's
/// limit for handlers, and than what 1C and the proxies before us allow.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a part waits for the one before it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How far an import has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ImportProgress {
    Done(ImportedFile),
    Running,
}

type ImportOutcome = Option<Result<ImportedFile, String>>;

/// The transfers of one door: one at a time. Where it stands is kept in memory only; 1C, told
/// that nothing was begun, begins anew.
pub(super) struct Transfers {
    source_index: usize,
    source_name: String,
    max_bytes: u64,
    spool: Spool,
    deliver: DeliverUpload,
    tasks: Tasks,
    /// Held by whoever writes to the spool, and by an import to its end.
    write_lock: Arc<Semaphore>,
    transfer: Arc<Mutex<Option<Transfer>>>,
}

/// What has been sent since the last `mode=init`.
struct Transfer {
    owner: ExchangeClient,
    received_bytes: u64,
    /// The last part, and of which file.
    last_part: Option<(FileName, ReceivedPart)>,
    files: HashMap<FileName, FileState>,
}

/// One file of a transfer.
enum FileState {
    Receiving,
    /// An archive whose files lie beside it. A part that comes now begins another.
    Unpacked,
    /// What could not be taken. It may be asked for again; a part that comes now replaces it.
    Failed,
    /// Being taken, or taken.
    Imported(watch::Receiver<ImportOutcome>),
}

impl Transfers {
    pub(super) fn new(door: &ExchangeEndpoint, context: &Context) -> Self {
        Self {
            source_index: door.source_index,
            source_name: door.name.clone(),
            max_bytes: door.max_bytes,
            spool: Spool::new(&door.spool),
            deliver: Arc::clone(&context.deliver),
            tasks: context.tasks.clone(),
            write_lock: Arc::new(Semaphore::new(1)),
            transfer: Arc::default(),
        }
    }

    /// Begins a transfer; what an earlier one left unfinished is gone.
    pub(super) async fn begin(&self, client: ExchangeClient) -> Result<(), ExchangeError> {
        let _permit = self.acquire_lock(RESPONSE_TIMEOUT).await?;
        *self.current_transfer() = None;
        self.spool.clear().await.map_err(|e| {
            warn!(source = self.source_name, error = %e, "the spool of {} cannot be wiped: {e}", self.source_name);
            ExchangeError::new("no transfer can begin: the directory for it cannot be written")
        })?;
        *self.current_transfer() = Some(Transfer {
            owner: client,
            received_bytes: 0,
            last_part: None,
            files: HashMap::new(),
        });
        info!(
            source = self.source_name,
            "1C has begun a transfer to {}", self.source_name
        );
        Ok(())
    }

    /// Takes one part of a file.
    ///
    /// A part counts once it is whole. If its answer is lost 1C sends it again, without saying
    /// so: a part that is the very same as the one before it in the same file is taken for
    /// that. Two such parts in a row that were meant would be one too few; in XML, and in an
    /// archive, no 512 KiB repeat. A part that comes twice with another between is not noticed
    /// here; the file then ends up broken, and is refused when it is read.
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
                .current_transfer()
                .as_ref()
                .is_some_and(|transfer| transfer.last_part == last_part)
        {
            info!(
                source = self.source_name,
                file = name.as_str(),
                "a part came twice and counts once"
            );
            return Ok(());
        }
        self.spool.append(name).await?;
        if let Some(transfer) = self.current_transfer().as_mut() {
            transfer.received_bytes += part.bytes;
            transfer.last_part = last_part;
            transfer.files.insert(name.clone(), FileState::Receiving);
        }
        Ok(())
    }

    /// How many bytes may still come, and whether they are the first of a file that was taken
    /// before: it is then another file under the same name.
    fn remaining_bytes(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<(u64, bool), ExchangeError> {
        let mut current = self.current_transfer();
        let transfer = check_owner(current.as_mut(), client)?;
        if transfer.files.len() >= MAX_FILES && !transfer.files.contains_key(name) {
            return Err(ExchangeError::new(format!(
                "a transfer has at most {MAX_FILES} files"
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

    /// Has a file taken, or says how far that has come; a file that was taken stays so.
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
            Ok(Err(_gone)) => "the file was not taken to its end, send it again".to_owned(),
        };
        if let Some(transfer) = self.current_transfer().as_mut() {
            transfer.files.insert(name.clone(), FileState::Failed);
        }
        Err(ExchangeError::new(message))
    }

    fn running_import(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<Option<watch::Receiver<ImportOutcome>>, ExchangeError> {
        let mut current = self.current_transfer();
        let files = &check_owner(current.as_mut(), client)?.files;
        // An archive that came since may hold another file of that name.
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

    /// Starts a task that unpacks what has to be, and hands the file over.
    async fn start_import(
        &self,
        client: ExchangeClient,
        name: &FileName,
    ) -> Result<watch::Receiver<ImportOutcome>, ExchangeError> {
        let permit = self.acquire_lock(RESPONSE_TIMEOUT).await?;
        // Somebody may have asked for the same while this one waited.
        if let Some(outcome) = self.running_import(client, name)? {
            return Ok(outcome);
        }
        let (sender, outcome) = watch::channel(None);
        if let Some(transfer) = self.current_transfer().as_mut() {
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
                info!(source, file, "took the file {file} from 1C: {message}");
            }
            // Before anyone hears of the end, so that what they do next need not wait.
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
                "the request before this one is still being served, come later",
            )),
        }
    }

    fn current_transfer(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transfer, if it is this guest's.
fn check_owner(
    transfer: Option<&mut Transfer>,
    client: ExchangeClient,
) -> Result<&mut Transfer, ExchangeError> {
    let transfer = transfer
        .ok_or_else(|| ExchangeError::new("no transfer has begun, begin anew: mode=init"))?;
    match (transfer.owner, client) {
        (ExchangeClient::Session(owner_id), ExchangeClient::Session(client_id))
            if owner_id != client_id =>
        {
            Err(ExchangeError::new(
                "another exchange has begun since, begin anew: mode=init",
            ))
        }
        (
            ExchangeClient::Session(_) | ExchangeClient::Login,
            ExchangeClient::Session(_) | ExchangeClient::Login,
        ) => Ok(transfer),
    }
}

/// One import.
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
            | ExchangeError::SessionEnded => "the file cannot be had".to_owned(),
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

    /// The archives that have arrived since the last import.
    fn pending_archives(&self) -> Vec<FileName> {
        let current = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let files = current.iter().flat_map(|transfer| &transfer.files);
        let archives = files.filter(|(name, file)| {
            name.is_zip() && matches!(file, FileState::Receiving | FileState::Failed)
        });
        archives.map(|(name, _)| name.clone()).collect()
    }

    /// Notes what became of an archive; a file that came with it takes the place of an earlier
    /// one of its name.
    fn record_archive(&self, archive: FileName, state: FileState, inner_names: &[FileName]) {
        let mut current = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = current.as_mut() {
            transfer.files.insert(archive, state);
            transfer
                .files
                .retain(|name, _| *name == self.name || !inner_names.contains(name));
        }
    }
}
