//! Background tasks and the wall clock: start, crash detection, shutdown, and time as an argument.
//!
//! A [`Tasks`] owns every task: it requests the stop and waits for the end. A task that ends
//! before the stop was requested counts as crashed. The process then stops, because a service
//! without one of its tasks would look healthy and do half of its work.
//!
//! Not here: restarts of tasks, and signals of the operating system.

mod clock;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

pub use self::clock::Clock;

/// Signal of the process that is tripped by the first task that ends unexpectedly.
#[derive(Clone, Debug, Default)]
pub struct CrashSignal {
    tripped: CancellationToken,
    cause: Arc<OnceLock<String>>,
}

impl CrashSignal {
    /// Waits until the process must stop, and returns why: the task that has crashed, or the reason
    /// that a task gave.
    pub async fn tripped(&self) -> String {
        self.tripped.cancelled().await;
        let unknown = || "a task exited unexpectedly".to_owned();
        self.cause.get().cloned().unwrap_or_else(unknown)
    }

    fn trip(&self, task: &'static str, cause: String) {
        error!(task, "stopping this process: {cause}");
        // The first crash is the cause; later ones are its consequences.
        let _first = self.cause.set(cause);
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
    /// Creates an empty set whose crashes trip `crash_signal`.
    #[must_use]
    pub fn new(crash_signal: CrashSignal) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            crash_signal,
        }
    }

    /// Creates an empty set that can be stopped alone, and that stops with this one. Its crashes trip
    /// the same signal. This set does not wait for its end.
    #[must_use]
    pub fn new_part(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: self.stop.child_token(),
            crash_signal: self.crash_signal.clone(),
        }
    }

    /// Starts a task that runs until [`Tasks::stop`]; ending sooner trips the crash signal.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = CrashGuard {
            name,
            stop: self.stop.clone(),
            crash_signal: self.crash_signal.clone(),
        };
        self.spawn_tracked(async move {
            // Dropped both when the task returns and when it panics.
            let _guard = guard;
            task.await;
        });
    }

    /// Starts a task that may end at any time, such as a connection.
    pub fn spawn_short_lived(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_tracked(task);
    }

    /// Stops the process for a reason that a task has found, and waits until the set is stopped. A task
    /// that only ended would be reported as crashed, without the reason.
    pub async fn stop_process(&self, task: &'static str, reason: String) {
        self.crash_signal.trip(task, reason);
        self.stopping().await;
    }

    /// Requests every task of the set to stop.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Resolves once [`Tasks::stop`] was called.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Returns true if [`Tasks::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until the last task has ended.
    pub async fn ended(&self) {
        self.tracker.wait().await;
    }

    /// Returns the number of running tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Returns true if no task is running.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    fn spawn_tracked(&self, task: impl Future<Output = ()> + Send + 'static) {
        // The lint that forbids `tokio::spawn` does not see the tracker's own method.
        drop(self.tracker.spawn(task));
    }
}

/// Runs a long computation on a blocking thread and waits for it, so that the threads that answer
/// requests stay free.
///
/// # Panics
/// If the computation panicked. The panic ends the caller's task, which [`Tasks`] notices.
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
            let cause = format!("task {} exited unexpectedly", self.name);
            self.crash_signal.trip(self.name, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn crashed_task_trips_the_signal_with_its_name() {
        let crash_signal = CrashSignal::default();
        let tasks = Tasks::new(crash_signal.clone());
        tasks.spawn("doomed", async { panic!("on purpose") });
        let cause = crash_signal.tripped().await;
        assert_eq!(cause, "task doomed exited unexpectedly");
    }

    #[tokio::test]
    async fn reason_of_a_task_is_the_cause() {
        let crash_signal = CrashSignal::default();
        let tasks = Tasks::new(crash_signal.clone());
        let part = tasks.clone();
        tasks.spawn("keeper", async move {
            part.stop_process("keeper", "the name is taken".to_owned())
                .await;
        });
        assert_eq!(crash_signal.tripped().await, "the name is taken");
        assert!(!tasks.is_empty(), "the task waits for the stop");
        tasks.stop();
        tasks.ended().await;
    }

    #[tokio::test]
    async fn part_stops_alone_or_with_its_whole() {
        let whole = Tasks::new(CrashSignal::default());
        let (alone, other) = (whole.new_part(), whole.new_part());
        alone.stop();
        assert!(alone.is_stopping() && !whole.is_stopping() && !other.is_stopping());
        whole.stop();
        assert!(other.is_stopping());
    }

    #[tokio::test]
    async fn stopped_tasks_end_without_a_crash() {
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
