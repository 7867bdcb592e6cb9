//! Check that notifications arrive, for `doctor`.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::StoreUrl;
use super::change_listener::listen;
use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, query, with_limit};
use crate::store::StoreError;
use crate::store::error::StoreInternalError;

/// Time in which a notification must arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends a notification through the address for stock, and returns true if it arrives at the one
/// for notifications. A pooler in transaction mode does not pass them on.
///
/// # Errors
/// One of both addresses cannot be used.
pub async fn check_notifications(url: &StoreUrl) -> Result<bool, StoreError> {
    // A channel of its own, so that no service is woken.
    let channel = format!("stockbridge_check_{:016x}", rand::random::<u64>());
    let mut connection = PostgresConnection::new(url.clone());
    let checking = async {
        let mut listener = listen(url, &channel).await?;
        let mut work = connection.begin(Purpose::Write).await?;
        query("SELECT pg_notify($1, '')")
            .bind(channel.clone())
            .execute(work.conn())
            .await?;
        work.commit().await?;
        let deadline = Instant::now() + ARRIVAL_TIMEOUT;
        let received = timeout_at(deadline, listener.try_recv()).await;
        Ok::<_, StoreInternalError>(matches!(received, Ok(Ok(Some(_)))))
    };
    let outcome = with_limit(WRITE_TIMEOUT, checking).await;
    let outcome = outcome.map_err(|error| connection.to_store_error(error));
    connection.close().await;
    outcome
}
