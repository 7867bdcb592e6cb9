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
pub struct Fuse {
    blown: CancellationToken,
    by: Arc<OnceLock<&'static str>>,
}

impl Fuse {
    /// Waits until a task has crashed and names it.
    pub async fn blown(&self) -> &'static str {
        self.blown.cancelled().await;
        self.by.get().copied().unwrap_or("unknown")
    }

    fn blow(&self, task: &'static str) {
        error!(task, "the task {task} ended unasked, stopping the process");
        // The first to fall is the cause; the later ones are its consequence.
        let _first = self.by.set(task);
        self.blown.cancel();
    }
}

/// A set of tasks that stop together.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    fuse: Fuse,
}

impl Tasks {
    /// An empty set, watched by `fuse`.
    #[must_use]
    pub fn new(fuse: Fuse) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            fuse,
        }
    }

    /// Starts a task that lives until [`Tasks::stop`]; if it ends sooner, the fuse blows.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch {
            name,
            stop: self.stop.clone(),
            fuse: self.fuse.clone(),
        };
        self.start(async move {
            // Dropped when the task returns and when it unwinds alike.
            let _watch = watch;
            task.await;
        });
    }

    /// Starts a task that may end when it likes, such as a connection.
    pub fn spawn_brief(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.start(task);
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

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The tracker's own spawn is the one call the lint on tokio's does not see.
        drop(self.tracker.spawn(task));
    }
}

/// Runs a computation that takes long on a thread of its own and waits for it, so that the
/// threads that answer requests stay free.
///
/// # Panics
/// The computation panicked: so does the caller, whose task is watched.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("the computation does not panic")
}

struct Watch {
    name: &'static str,
    stop: CancellationToken,
    fuse: Fuse,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            self.fuse.blow(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_blows_the_fuse_and_is_named() {
        let fuse = Fuse::default();
        let tasks = Tasks::new(fuse.clone());
        tasks.spawn("doomed", async { panic!("on purpose") });
        assert_eq!(fuse.blown().await, "doomed");
    }

    #[tokio::test]
    async fn a_set_told_to_stop_ends_in_peace() {
        let fuse = Fuse::default();
        let tasks = Tasks::new(fuse.clone());
        let seen = tasks.clone();
        tasks.spawn("patient", async move { seen.stopping().await });
        tasks.spawn_brief(async {});
        tasks.stop();
        tasks.ended().await;
        assert!(tasks.is_empty());
        assert!(!fuse.blown.is_cancelled());
    }
}
