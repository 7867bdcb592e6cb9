use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use super::file_name::FileName;
use super::login::Guest;
use super::spool::{MAX_FILES, Part, Spool};
use super::{Context, Deliver, Door, Failure, Imported, MAX_PART_BYTES, Upload};
use crate::lifecycle::Tasks;

/// How long 1C waits for an answer before it is told to come again. Shorter than the listener's
/// limit for handlers, and than what 1C and the proxies before us allow.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a part waits for the one before it.
const TURN: Duration = Duration::from_secs(5);

/// How far an import has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    Done(Imported),
    Running,
}

type Ending = Option<Result<Imported, String>>;

/// The transfers of one door: one at a time. Where it stands is kept in memory only; 1C, told
/// that nothing was begun, begins anew.
pub(super) struct Transfers {
    source: usize,
    name: String,
    max_bytes: u64,
    spool: Spool,
    deliver: Deliver,
    tasks: Tasks,
    /// Held by whoever writes to the spool, and by an import to its end.
    turn: Arc<Semaphore>,
    transfer: Arc<Mutex<Option<Transfer>>>,
}

/// What has been sent since the last `mode=init`.
struct Transfer {
    owner: Guest,
    bytes: u64,
    /// The last part, and of which file.
    last: Option<(FileName, Part)>,
    files: HashMap<FileName, File>,
}

/// One file of a transfer.
enum File {
    Arriving,
    /// An archive whose files lie beside it. A part that comes now begins another.
    Unpacked,
    /// What could not be taken. It may be asked for again; a part that comes now replaces it.
    Refused,
    /// Being taken, or taken.
    Imported(watch::Receiver<Ending>),
}

impl Transfers {
    pub(super) fn new(door: &Door, context: &Context) -> Self {
        Self {
            source: door.source,
            name: door.name.clone(),
            max_bytes: door.max_bytes,
            spool: Spool::new(&door.spool),
            deliver: Arc::clone(&context.deliver),
            tasks: context.tasks.clone(),
            turn: Arc::new(Semaphore::new(1)),
            transfer: Arc::default(),
        }
    }

    /// Begins a transfer; what an earlier one left unfinished is gone.
    pub(super) async fn begin(&self, guest: Guest) -> Result<(), Failure> {
        let _turn = self.turn(PATIENCE).await?;
        *self.lock() = None;
        self.spool.wipe().await.map_err(|e| {
            warn!(source = self.name, error = %e, "the spool of {} cannot be wiped: {e}", self.name);
            Failure::new("no transfer can begin: the directory for it cannot be written")
        })?;
        *self.lock() = Some(Transfer {
            owner: guest,
            bytes: 0,
            last: None,
            files: HashMap::new(),
        });
        info!(
            source = self.name,
            "1C has begun a transfer to {}", self.name
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
        guest: Guest,
        name: &FileName,
        body: Body,
    ) -> Result<(), Failure> {
        let _turn = self.turn(TURN).await?;
        let (left, begins_anew) = self.room(guest, name)?;
        if begins_anew {
            self.spool.remove(name).await?;
        }
        let part = self.spool.receive(body, left.min(MAX_PART_BYTES)).await?;
        let last = Some((name.clone(), part));
        if !begins_anew
            && self
                .lock()
                .as_ref()
                .is_some_and(|transfer| transfer.last == last)
        {
            info!(
                source = self.name,
                file = name.as_str(),
                "a part came twice and counts once"
            );
            return Ok(());
        }
        self.spool.append(name).await?;
        if let Some(transfer) = self.lock().as_mut() {
            transfer.bytes += part.bytes;
            transfer.last = last;
            transfer.files.insert(name.clone(), File::Arriving);
        }
        Ok(())
    }

    /// How many bytes may still come, and whether they are the first of a file that was taken
    /// before: it is then another file under the same name.
    fn room(&self, guest: Guest, name: &FileName) -> Result<(u64, bool), Failure> {
        let mut held = self.lock();
        let transfer = owned(held.as_mut(), guest)?;
        if transfer.files.len() >= MAX_FILES && !transfer.files.contains_key(name) {
            return Err(Failure::new(format!(
                "a transfer has at most {MAX_FILES} files"
            )));
        }
        let begins_anew = match transfer.files.get(name) {
            Some(File::Unpacked | File::Refused | File::Imported(_)) => true,
            Some(File::Arriving) | None => false,
        };
        let left = self.max_bytes.saturating_sub(transfer.bytes);
        if left == 0 {
            let limit = self.max_bytes;
            return Err(Failure::new(format!(
                "the transfer is larger than {limit} bytes"
            )));
        }
        Ok((left, begins_anew))
    }

    /// Has a file taken, or says how far that has come; a file that was taken stays so.
    pub(super) async fn import(&self, guest: Guest, name: &FileName) -> Result<Progress, Failure> {
        let running = self.running(guest, name)?;
        let mut ending = match running {
            Some(ending) => ending,
            None => self.start(guest, name).await?,
        };
        let ended = timeout(PATIENCE, ending.wait_for(Option::is_some)).await;
        let failure = match ended {
            Err(_elapsed) => return Ok(Progress::Running),
            Ok(Ok(ended)) => match ended.as_ref() {
                Some(Ok(imported)) => return Ok(Progress::Done(imported.clone())),
                Some(Err(text)) => text.clone(),
                None => return Ok(Progress::Running),
            },
            Ok(Err(_gone)) => "the file was not taken to its end, send it again".to_owned(),
        };
        if let Some(transfer) = self.lock().as_mut() {
            transfer.files.insert(name.clone(), File::Refused);
        }
        Err(Failure::new(failure))
    }

    fn running(
        &self,
        guest: Guest,
        name: &FileName,
    ) -> Result<Option<watch::Receiver<Ending>>, Failure> {
        let mut held = self.lock();
        let files = &owned(held.as_mut(), guest)?.files;
        // An archive that came since may hold another file of that name.
        let is_new = files
            .iter()
            .any(|(name, file)| name.is_zip() && matches!(file, File::Arriving));
        match files.get(name) {
            Some(File::Imported(ending)) if !is_new || ending.borrow().is_none() => {
                Ok(Some(ending.clone()))
            }
            Some(File::Arriving | File::Unpacked | File::Refused | File::Imported(_)) | None => {
                Ok(None)
            }
        }
    }

    /// Starts a task that unpacks what has to be, and hands the file over.
    async fn start(
        &self,
        guest: Guest,
        name: &FileName,
    ) -> Result<watch::Receiver<Ending>, Failure> {
        let turn = self.turn(PATIENCE).await?;
        // Somebody may have asked for the same while this one waited.
        if let Some(ending) = self.running(guest, name)? {
            return Ok(ending);
        }
        let (sender, ending) = watch::channel(None);
        if let Some(transfer) = self.lock().as_mut() {
            transfer.last = None;
            transfer
                .files
                .insert(name.clone(), File::Imported(ending.clone()));
        }
        let job = Job {
            source: self.source,
            max_bytes: self.max_bytes,
            spool: self.spool.clone(),
            deliver: Arc::clone(&self.deliver),
            transfer: Arc::clone(&self.transfer),
            name: name.clone(),
        };
        let (tasks, source) = (self.tasks.clone(), self.name.clone());
        self.tasks.spawn_brief(async move {
            let ended = tokio::select! {
                biased;
                () = tasks.stopping() => return,
                ended = job.run() => ended,
            };
            if let Ok(imported) = &ended {
                let (file, message) = (job.name.as_str(), &imported.message);
                info!(source, file, "took the file {file} from 1C: {message}");
            }
            // Before anyone hears of the end, so that what they do next need not wait.
            drop(turn);
            sender.send_replace(Some(ended));
        });
        Ok(ending)
    }

    async fn turn(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Failure> {
        let acquiring = Arc::clone(&self.turn).acquire_owned();
        match timeout(patience, acquiring).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                "the request before this one is still being served, come later",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transfer, if it is this guest's.
fn owned(transfer: Option<&mut Transfer>, guest: Guest) -> Result<&mut Transfer, Failure> {
    let transfer =
        transfer.ok_or_else(|| Failure::new("no transfer has begun, begin anew: mode=init"))?;
    match (transfer.owner, guest) {
        (Guest::Session(owner), Guest::Session(guest)) if owner != guest => Err(Failure::new(
            "another exchange has begun since, begin anew: mode=init",
        )),
        (Guest::Session(_) | Guest::Named, Guest::Session(_) | Guest::Named) => Ok(transfer),
    }
}

/// One import.
struct Job {
    source: usize,
    max_bytes: u64,
    spool: Spool,
    deliver: Deliver,
    transfer: Arc<Mutex<Option<Transfer>>>,
    name: FileName,
}

impl Job {
    async fn run(&self) -> Result<Imported, String> {
        let said = |failure| match failure {
            Failure::Said(text) => text,
            Failure::Anonymous | Failure::WrongLogin | Failure::NoSession => {
                "the file cannot be had".to_owned()
            }
        };
        for archive in self.packed() {
            match self.spool.unpack(&archive, self.max_bytes).await {
                Ok(inner) => self.note(archive, File::Unpacked, &inner),
                Err(failure) => {
                    self.note(archive, File::Refused, &[]);
                    return Err(said(failure));
                }
            }
        }
        if !self.spool.has(&self.name).await {
            return Err(format!("the file {} was not sent", self.name.as_str()));
        }
        let upload = Upload {
            source: self.source,
            path: self.spool.path(&self.name),
            name: self.name.as_str().to_owned(),
        };
        (self.deliver)(upload).await
    }

    /// The archives that have arrived since the last import.
    fn packed(&self) -> Vec<FileName> {
        let held = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let files = held.iter().flat_map(|transfer| &transfer.files);
        let packed = files
            .filter(|(name, file)| name.is_zip() && matches!(file, File::Arriving | File::Refused));
        packed.map(|(name, _)| name.clone()).collect()
    }

    /// Notes what became of an archive; a file that came with it takes the place of an earlier
    /// one of its name.
    fn note(&self, archive: FileName, file: File, inner: &[FileName]) {
        let mut held = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transfer) = held.as_mut() {
            transfer.files.insert(archive, file);
            transfer
                .files
                .retain(|name, _| *name == self.name || !inner.contains(name));
        }
    }
}
