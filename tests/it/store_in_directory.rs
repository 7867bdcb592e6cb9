//! Checks of the store in a directory that a store in a database must pass too.

use crate::store_suite::test_store::Subject;
use crate::store_suite::{self, for_each_store_check};

macro_rules! tests {
    ($($check:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $check() {
            let subject = Subject {
                directory: tempfile::tempdir().unwrap(),
                database: None,
            };
            store_suite::checks::$check(&subject).await;
        }
    )+};
}

for_each_store_check!(tests);
