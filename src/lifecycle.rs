//! Who runs, and how everything stops.
//!
//! Every task is owned by a [`Tasks`], which can be told to stop and waited for. A task that
//! ends before it was told to has crashed: the process then stops, rather than live on half.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The process's fuse: blown by the first task that ends unasked.
#[derive(Clone, Debug, Default)]
pub struct CrashSignal {
    tripped: CancellationToken,
    crashed_task: Arc<OnceLock<&'static str>>,
}

impl CrashSignal {
    /// Waits until a task has crashed and names it.
    pub async fn tripped(&self) -> &'static str {
        self.tripped.cancelled().await;
        self.crashed_task.get().copied().unwrap_or("unknown")
    }

    fn trip(&self, task: &'static str) {
        error!(task, "the task {task} ended unasked, stopping the process");
        // The first to fall is the cause; the later ones are its consequence.
        let _first = self.crashed_task.set(task);
        self.tripped.cancel();
    }
}

/// A set of tasks that stop together.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    crash_signal: CrashSignal,
}

impl Tasks {
    /// An empty set, watched by `fuse`.
    #[must_use]
    pub fn new(crash_signal: CrashSignal) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            crash_signal,
        }
    }

    /// Starts a task that lives until [`Tasks::stop`]; if it ends sooner, the fuse blows.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = CrashGuard {
            name,
            stop: self.stop.clone(),
            crash_signal: self.crash_signal.clone(),
        };
        self.spawn_tracked(async move {
            // Dropped when the task returns and when it unwinds alike.
            let _guard = guard;
            task.await;
        });
    }

    /// Starts a task that may end when it likes, such as a connection.
    pub fn spawn_short_lived(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_tracked(task);
    }

    /// Asks every task of the set to end.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Resolves once [`Tasks::stop`] was called.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether [`Tasks::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the last task has ended.
    pub async fn ended(&self) {
        self.tracker.wait().await;
    }

    /// How many tasks are running.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// No task is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    fn spawn_tracked(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The tracker's own spawn is the one call the lint on tokio's does not see.
        drop(self.tracker.spawn(task));
    }
}

/// Runs a computation that takes long on a thread of its own and waits for it, so that the
/// threads that answer requests stay free.
///
/// # Panics
/// The computation panicked: so does the caller, whose task is watched.
pub async fn run_blocking<T: Send + 'static>(
    computation: impl FnOnce() -> T + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(computation)
        .await
        .expect("the computation does not panic")
}

struct CrashGuard {
    name: &'static str,
    stop: CancellationToken,
    crash_signal: CrashSignal,
}

impl Drop for CrashGuard {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.crash_signal.trip(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_blows_the_fuse_and_is_named() {
        let crash_signal = CrashSignal::default();
        let tasks = Tasks::new(crash_signal.clone());
        tasks.spawn("doomed", async { panic!("on purpose") });
        assert_eq!(crash_signal.tripped().await, "doomed");
    }

    #[tokio::test]
    async fn a_set_told_to_stop_ends_in_peace() {
        let crash_signal = CrashSignal::default();
        let tasks = Tasks::new(crash_signal.clone());
        let patient = tasks.clone();
        tasks.spawn("patient", async move { patient.stopping().await });
        tasks.spawn_short_lived(async {});
        tasks.stop();
        tasks.ended().await;
        assert!(tasks.is_empty());
        assert!(!crash_signal.tripped.is_cancelled());
    }
}
