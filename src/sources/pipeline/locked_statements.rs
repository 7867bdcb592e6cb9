//! Lock on the statements of a shop, whose holder uses them on a thread that may block.

use std::sync::Arc;

use lifecycle::run_blocking;
use strict_http::causes;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::debug;

use super::{DeliveryPipeline, MirrorError, PipelineError};
use crate::sources::statements::{StatementReader, StatementStore};

/// Statements of a shop; `None` once they are closed.
pub(super) type SharedStatements = Arc<Mutex<Option<StatementStore>>>;

/// Locked statements. If the holder is cancelled during [`LockedStatements::run`], they are unlocked
/// when the operation has ended.
pub(in crate::sources) struct LockedStatements(Option<OwnedMutexGuard<Option<StatementStore>>>);

impl LockedStatements {
    async fn lock(statements: &SharedStatements) -> Result<Self, PipelineError> {
        let guard = Arc::clone(statements).lock_owned().await;
        if guard.is_none() {
            return Err(PipelineError::NotLeading);
        }
        Ok(Self(Some(guard)))
    }

    /// Runs an operation on a thread that may block.
    pub(in crate::sources) async fn run<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut StatementStore) -> T + Send + 'static,
    ) -> T {
        let guard = self.0.take();
        let mut guard = guard.expect("the lock is put back after each operation");
        let (guard, result) = run_blocking(move || {
            let statements = guard.as_mut();
            let result = operation(statements.expect("closed statements are not locked"));
            (guard, result)
        })
        .await;
        self.0 = Some(guard);
        result
    }
}

impl DeliveryPipeline {
    /// Locks the statements.
    ///
    /// # Errors
    /// They are closed, because another replica leads.
    pub(super) async fn statements(&self) -> Result<LockedStatements, PipelineError> {
        LockedStatements::lock(&self.0.statements).await
    }

    /// Closes the statements, after the operation that uses them. Nothing is applied from then on.
    pub async fn close(&self) {
        let closed = self.0.statements.lock().await.take();
        run_blocking(move || drop(closed)).await;
    }

    /// Stores the statements in the database of the replicas, if there are any. Without it, nothing
    /// may be applied.
    pub(super) async fn mirror(
        &self,
        statements: &mut LockedStatements,
    ) -> Result<(), PipelineError> {
        match &self.0.mirror {
            Some(mirror) => {
                let stored = mirror.store(statements).await;
                self.0.steps.reach("mirrored");
                Ok(stored?)
            }
            None => Ok(()),
        }
    }

    /// Does the same after a change that may be lost: the next leader makes it again.
    pub(super) async fn mirror_later_change(&self, statements: &mut LockedStatements) {
        if let Err(error) = self.mirror(statements).await {
            let (shop, error) = (&self.0.name, causes(&error));
            debug!(
                shop,
                "statements of {shop} are stored with the next change: {error}"
            );
        }
    }

    /// Returns true if no other replica may read the sources.
    pub(in crate::sources) fn is_alone(&self) -> bool {
        self.0.mirror.is_none()
    }

    /// Checks that updates may be passed to ingest: no other replica reads the sources.
    pub(super) fn check_leading(&self) -> Result<(), PipelineError> {
        match &self.0.mirror {
            Some(mirror) => Ok(mirror.check_leading()?),
            None => Ok(()),
        }
    }

    /// Reads the statements on a connection of its own. It waits for no delivery.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&StatementReader) -> Result<T, PipelineError> + Send + 'static,
    ) -> Result<T, PipelineError> {
        let directory = self.0.directory.clone();
        run_blocking(move || read(&StatementReader::open(&directory)?)).await
    }
}

impl From<MirrorError> for PipelineError {
    fn from(error: MirrorError) -> Self {
        match error {
            MirrorError::NotLeading => Self::NotLeading,
            error => Self::Mirror(error),
        }
    }
}
