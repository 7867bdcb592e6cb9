//! Hook that reports to a test which step of a delivery was reached. It does nothing in the service.

use std::fmt;

#[cfg(test)]
type OnStep = std::sync::Arc<dyn Fn(&'static str) + Send + Sync>;

/// Hook that is called on the thread of the delivery, which goes on when the call returns. Clones
/// share it.
#[derive(Clone, Default)]
pub(in crate::sources) struct StepHook {
    #[cfg(test)]
    on_step: std::sync::Arc<parking_lot::Mutex<Option<OnStep>>>,
}

impl StepHook {
    /// Sets the function that is called at each step, in place of an earlier one.
    #[cfg(test)]
    pub(in crate::sources) fn set(&self, on_step: impl Fn(&'static str) + Send + Sync + 'static) {
        *self.on_step.lock() = Some(std::sync::Arc::new(on_step));
    }

    /// Reports that a step is done.
    #[cfg(test)]
    pub(in crate::sources) fn reach(&self, step: &'static str) {
        let on_step = self.on_step.lock().clone();
        if let Some(on_step) = on_step {
            on_step(step);
        }
    }

    /// Reports that a step is done.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests have a hook")]
    pub(in crate::sources) const fn reach(&self, _step: &'static str) {}
}

impl fmt::Debug for StepHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepHook")
    }
}
