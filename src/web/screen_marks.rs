//! Marks in the navigation: screens with facts that need attention.

use super::layout::Screen;
use super::shop_health::HealthLevel;
use super::source_card::source_severity;
use crate::ops::Ops;

/// Returns the worst severity of the facts on each screen, from values in memory.
pub(super) fn screen_marks(ops: &Ops) -> Vec<(Screen, HealthLevel)> {
    let Some(state) = ops.state() else {
        return Vec::new();
    };
    let mut marks = Vec::new();
    let pipelines = state.source_manager.pipelines();
    let severities = pipelines.flat_map(|(_, pipeline)| {
        let names = pipeline.source_names().enumerate();
        let severities = names.map(|(index, _)| source_severity(pipeline.status(index).state()));
        let of_sources: Vec<HealthLevel> = severities.collect();
        let of_rules = pipeline.held_rules().map(|_| HealthLevel::Attention);
        of_sources.into_iter().chain(of_rules)
    });
    marks.extend(severities.max().map(|worst| (Screen::Sources, worst)));
    if let Some(readiness) = ops.recent_readiness() {
        let severity = HealthLevel::attention_unless(readiness.report.is_go());
        marks.push((Screen::SwitchOver, severity));
    }
    marks
}
