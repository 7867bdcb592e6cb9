//! Notifications of other processes. They only wake: what has changed is read from the tables, and
//! it is also looked for periodically, because a notification may be lost.

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::timeout;

use super::StoreUrl;

/// Timeout of connecting, and of a test of the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without a notification after which the connection is tested.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// Channel of all notifications.
const CHANNEL: &str = "stockbridge";

/// Notification of another process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeNotice {
    /// It has appended a change.
    Appended,
    /// It has applied changes.
    Applied,
    /// Notifications may have been lost.
    Unknown,
}

/// Receiver of the notifications, which connects when it is needed.
#[derive(Debug)]
pub struct ChangeListener {
    url: StoreUrl,
    /// Id of this process, whose own notifications are skipped.
    own_id: String,
    listener: Option<PgListener>,
}

impl ChangeListener {
    pub(super) fn new(url: StoreUrl, own_id: String) -> Self {
        Self {
            url,
            own_id,
            listener: None,
        }
    }

    /// Waits for a notification of another process.
    ///
    /// Returns `None` without a connection; the next call tries again.
    pub async fn next(&mut self) -> Option<ChangeNotice> {
        if self.listener.is_none() {
            self.listener = timeout(CONNECT_TIMEOUT, listen(&self.url, CHANNEL))
                .await
                .ok()?
                .ok();
            self.listener.as_ref()?;
            return Some(ChangeNotice::Unknown);
        }
        loop {
            let listener = self.listener.as_mut()?;
            let received = match timeout(MAX_SILENCE, listener.try_recv()).await {
                Ok(received) => received,
                // A server that has disappeared does not close the connection.
                Err(_) if responds(listener).await => continue,
                Err(_) => Ok(None),
            };
            let Ok(Some(notification)) = received else {
                self.listener = None;
                return Some(ChangeNotice::Unknown);
            };
            match notification.payload().split_once(' ') {
                Some((_, id)) if id == self.own_id => {}
                Some(("appended", _)) => return Some(ChangeNotice::Appended),
                Some(("applied", _)) => return Some(ChangeNotice::Applied),
                Some(_) | None => return Some(ChangeNotice::Unknown),
            }
        }
    }
}

/// Returns true if the server still responds. Notifications that arrive meanwhile are kept.
async fn responds(listener: &mut PgListener) -> bool {
    let responding = listener.execute(sqlx::raw_sql("SELECT 1"));
    matches!(timeout(CONNECT_TIMEOUT, responding).await, Ok(Ok(_)))
}

/// Connects to the address for notifications, and listens.
pub(super) async fn listen(url: &StoreUrl, channel: &str) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(url.listen_options().clone())
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    // A lost connection is reported, so that the tables are read again.
    listener.eager_reconnect(false);
    listener.listen(channel).await?;
    Ok(listener)
}
