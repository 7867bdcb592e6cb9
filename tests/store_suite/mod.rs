//! Checks that every kind of store must pass: in a directory and in a PostgreSQL database.
//!
//! A test binary includes this module and runs all checks of [`for_each_store_check`].

pub(crate) mod checks;
pub(crate) mod random_steps;
pub(crate) mod samples;
pub(crate) mod test_store;

/// Calls a macro with the names of all checks.
macro_rules! for_each_store_check {
    ($run:ident) => {
        $run!(
            restart_restores_everything,
            dropped_append_is_all_or_nothing,
            compaction_with_appends_loses_nothing,
            compacts_shops_with_many_records,
            absent_shop_returns_with_its_content,
            changed_target_drops_acks_but_keeps_stock,
            keeps_notes_per_shop_until_deleted,
            reports_absent_shops_with_their_notes,
            keeps_recent_sends_for_minutes,
            altered_and_missing_records_are_detected,
            closed_store_rejects_calls,
            random_steps_equal_the_model
        );
    };
}
pub(crate) use for_each_store_check;
