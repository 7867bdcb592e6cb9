//! Lock on the statements of a shop, whose holder uses them on a thread that may block.

use std::sync::Arc;

use lifecycle::run_blocking;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{DeliveryPipeline, PipelineError};
use crate::sources::statements::{StatementReader, StatementStore};

/// Locked statements. If the holder is cancelled during [`LockedStatements::run`], they are unlocked
/// when the operation has ended.
pub(super) struct LockedStatements(Option<OwnedMutexGuard<StatementStore>>);

impl LockedStatements {
    pub(super) async fn lock(statements: &Arc<Mutex<StatementStore>>) -> Self {
        Self(Some(Arc::clone(statements).lock_owned().await))
    }

    /// Runs an operation on a thread that may block.
    pub(super) async fn run<T: Send + 'static>(
        &mut self,
        operation: impl FnOnce(&mut StatementStore) -> T + Send + 'static,
    ) -> T {
        let guard = self.0.take();
        let mut guard = guard.expect("the lock is put back after each operation");
        let (guard, result) = run_blocking(move || {
            let result = operation(&mut guard);
            (guard, result)
        })
        .await;
        self.0 = Some(guard);
        result
    }
}

impl DeliveryPipeline {
    pub(super) async fn statements(&self) -> LockedStatements {
        LockedStatements::lock(&self.0.statements).await
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
