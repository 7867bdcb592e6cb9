//! What the leader of a shop needs: its state when it begins to lead, and the permission to send.

use chrono::{DateTime, Utc};
use stock::ShopId;

use super::connection::{PostgresConnection, Purpose, WRITE_TIMEOUT, with_limit};
use super::lease::{Fence, check_fence};
use super::targets::{TargetConflict, find_other_target};
use super::{PostgresState, PostgresStore, ShopLog, check_open, side_tables};
use crate::store::error::StoreInternalError;
use crate::store::loaded_store::shop_of_disk_id;
use crate::store::{LeaderState, Notes, RecentSend, SendPermission, StoreError};

impl PostgresStore {
    /// Reads what a new leader of a shop must know besides book and ledger, with the recent sends of
    /// the shops that the Market counts together.
    pub(in crate::store) async fn leader_state(
        &self,
        shop: ShopId,
        counted: &[ShopId],
        now: DateTime<Utc>,
    ) -> Result<LeaderState, StoreError> {
        let mut state = self.state.lock().await;
        check_open(&state)?;
        // The quarantine and the acknowledgements of the last leader come with the log.
        self.follow(&mut state).await?;
        let ids: Vec<i64> = state.logs.iter().map(|log| log.id).collect();
        let id = ids[shop.index()];
        let quarantined = state.quarantine.entries(id).cloned().collect();
        let counted: Vec<i64> = counted.iter().map(|shop| ids[shop.index()]).collect();
        let reading = read_notes_and_sends(&mut state.connection, &ids, &counted, now);
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        let (notes, recent_sends) =
            outcome.map_err(|error| state.connection.to_store_error(error))?;
        Ok(LeaderState {
            quarantined,
            recent_sends,
            notes,
        })
    }

    /// Reads all notes.
    pub(in crate::store) async fn read_notes(&self) -> Result<Notes, StoreError> {
        let mut state = self.state.lock().await;
        check_open(&state)?;
        let ids: Vec<i64> = state.logs.iter().map(|log| log.id).collect();
        let reading = async {
            let mut work = state.connection.begin(Purpose::SharedWrite).await?;
            let owner = |id| shop_of_disk_id(ids.iter().copied(), id);
            let rows = side_tables::read_notes(work.conn()).await?;
            let notes = Notes::from_rows(rows, owner);
            work.roll_back().await?;
            Ok(notes)
        };
        let outcome = with_limit(WRITE_TIMEOUT, reading).await;
        outcome.map_err(|error| state.connection.to_store_error(error))
    }

    /// Records a send under a fence, by the clock of the database.
    pub(in crate::store) async fn permit_send(
        &self,
        shop: ShopId,
        skus: u32,
        (fence, pause_note): (&Fence, &str),
    ) -> Result<SendPermission, StoreError> {
        let mut state = self.lock_to_write().await?;
        let PostgresState {
            connection, logs, ..
        } = &mut *state;
        let log = &logs[shop.index()];
        let recording = record_send(connection, log, skus, (fence, pause_note));
        let outcome = with_limit(WRITE_TIMEOUT, recording).await;
        let outcome = outcome.map_err(|error| state.connection.to_store_error(error));
        self.publish(&state, outcome.as_ref().err());
        match outcome? {
            SendOutcome::Recorded => Ok(SendPermission::Granted),
            SendOutcome::Paused => Ok(SendPermission::Paused),
            SendOutcome::NotLeader => Err(StoreError::not_leader(Some(fence))),
            SendOutcome::OtherTarget(conflict) => Err(conflict.into()),
        }
    }
}

async fn read_notes_and_sends(
    connection: &mut PostgresConnection,
    ids: &[i64],
    counted: &[i64],
    now: DateTime<Utc>,
) -> Result<(Notes, Vec<RecentSend>), StoreInternalError> {
    let mut work = connection.begin(Purpose::SharedWrite).await?;
    let owner = |id| shop_of_disk_id(ids.iter().copied(), id);
    let notes = Notes::from_rows(side_tables::read_notes(work.conn()).await?, owner);
    let sends = side_tables::read_sends_at(work.conn(), counted, now).await?;
    work.roll_back().await?;
    Ok((notes, sends))
}

/// Outcome of recording a send.
enum SendOutcome {
    Recorded,
    Paused,
    /// Another process has the lease.
    NotLeader,
    /// Another process has given the shop another target.
    OtherTarget(TargetConflict),
}

async fn record_send(
    connection: &mut PostgresConnection,
    log: &ShopLog,
    skus: u32,
    (fence, pause_note): (&Fence, &str),
) -> Result<SendOutcome, StoreInternalError> {
    let id = log.id;
    let mut work = connection.begin(Purpose::SharedWrite).await?;
    let Some(micros) = check_fence(work.conn(), fence).await? else {
        work.roll_back().await?;
        return Ok(SendOutcome::NotLeader);
    };
    let logs = std::slice::from_ref(log);
    if let Some(conflict) = find_other_target(work.conn(), logs, &[id]).await? {
        work.roll_back().await?;
        return Ok(SendOutcome::OtherTarget(conflict));
    }
    if side_tables::has_note(work.conn(), id, pause_note).await? {
        work.roll_back().await?;
        return Ok(SendOutcome::Paused);
    }
    let at = DateTime::from_timestamp_micros(micros).unwrap_or_default();
    side_tables::write_send(work.conn(), id, RecentSend { at, skus }).await?;
    work.commit().await?;
    Ok(SendOutcome::Recorded)
}
