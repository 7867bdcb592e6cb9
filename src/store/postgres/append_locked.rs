//! Appends that lock the shops first, and read what other processes have appended before they compare.
//!
//! An append that only finds out under the lock that memory lacks changes has lost its turn. A process
//! that is farther from the database than another one could lose every turn while that one writes without
//! a pause. After some such attempts it keeps the lock.

use stock::ShopId;

use super::append::{
    Attempt, AttemptCondition, PackedShops, Refusal, StandbyHas, begin_fenced, lock_ends,
    other_shops, pack, seal,
};
use super::attempts::Attempts;
use super::connection::{PostgresWork, WRITE_TIMEOUT, with_limit};
use super::follow::read_after;
use super::targets::find_other_target;
use super::{PostgresState, PostgresStore, ShopLog};
use crate::store::append_guard::LogPosition;
use crate::store::error::StoreInternalError;
use crate::store::{AppendGuard, CompareUpdates, StoreError};

impl PostgresStore {
    /// Compares updates with the book while no other process can change the stock of the shops, and
    /// appends what they change.
    pub(in crate::store) async fn append_compared(
        &self,
        shops: &[ShopId],
        updates: &mut impl CompareUpdates,
    ) -> Result<AppendGuard<'_>, StoreError> {
        let shops = other_shops(&PackedShops::new(), shops);
        let mut attempts = Attempts::new();
        while self.begin_attempt(&mut attempts).await? {
            let mut state = self.lock_to_write().await?;
            let attempt = self.compare_and_append(&mut state, &shops, updates);
            let outcome = with_limit(WRITE_TIMEOUT, attempt).await;
            attempts.note(&outcome);
            if let Some(positions) = self.conclude(&mut state, outcome).await? {
                let changes = updates.changes();
                return Ok(self.guard(&mut state, &changes, shops.iter(), positions));
            }
        }
        Err(self.give_up().await)
    }

    async fn compare_and_append(
        &self,
        state: &mut PostgresState,
        shops: &[usize],
        updates: &mut impl CompareUpdates,
    ) -> Attempt<Vec<LogPosition>> {
        let condition = AttemptCondition {
            only_read: shops,
            for_target: &[],
            fence: None,
        };
        let (work, logs) = match self.lock_and_follow(state, condition).await? {
            Ok(locked) => locked,
            Err(refusal) => return Ok(Err(refusal)),
        };
        updates.compare().await;
        let packed = pack(&updates.changes());
        self.append_to(work, logs, shops, &packed).await
    }

    /// Appends records that do not depend on the book.
    pub(super) async fn append_locked(
        &self,
        state: &mut PostgresState,
        condition: AttemptCondition<'_>,
        packed: &PackedShops,
    ) -> Attempt<Vec<LogPosition>> {
        let mut shops: Vec<usize> = packed.keys().chain(condition.only_read).copied().collect();
        shops.sort_unstable();
        let condition = AttemptCondition {
            only_read: &shops,
            ..condition
        };
        match self.lock_and_follow(state, condition).await? {
            Ok((work, logs)) => self.append_to(work, logs, &shops, packed).await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn append_to(
        &self,
        work: PostgresWork<'_>,
        logs: &mut [ShopLog],
        shops: &[usize],
        packed: &PackedShops,
    ) -> Attempt<Vec<LogPosition>> {
        let sealed = seal(packed, logs);
        let written = sealed.write(work, &self.id, (packed, StandbyHas::of(logs, shops)), logs);
        Ok(Ok(written.await?))
    }

    /// Locks the shops of the condition, and gives memory the changes that it lacks.
    async fn lock_and_follow<'a>(
        &self,
        state: &'a mut PostgresState,
        condition: AttemptCondition<'_>,
    ) -> Attempt<(PostgresWork<'a>, &'a mut [ShopLog])> {
        let AttemptCondition {
            only_read: shops,
            for_target,
            fence,
        } = condition;
        let Some(memory) = self.memory.get() else {
            return Err(StoreInternalError::ChangedDuringStart);
        };
        let PostgresState {
            connection,
            logs,
            quarantine,
            ..
        } = state;
        let ids: Vec<i64> = shops.iter().map(|shop| logs[*shop].id).collect();
        // Memory must have the own changes of the shops first, because they are earlier in the log than
        // those that are read next.
        for id in &ids {
            self.pending_appends.none_in(*id).await;
        }
        let mut work = match begin_fenced(connection, fence).await? {
            Ok(work) => work,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let conn = work.conn();
        let ends = lock_ends(conn, &ids).await?;
        if let Some(conflict) = find_other_target(conn, logs, for_target).await? {
            work.roll_back().await?;
            return Ok(Err(Refusal::OtherTarget(conflict)));
        }
        let mut known = 0;
        for (id, end) in ends {
            let index = shops.iter().copied().find(|shop| logs[*shop].id == id);
            let Some(index) = index else { continue };
            if logs[index].end != end {
                // Changes that only a snapshot has, or that are lost, are read without the lock.
                let Some(unread) = read_after(conn, (index, &logs[index]), end).await? else {
                    break;
                };
                self.apply_unread((&mut *logs, &mut *quarantine), &unread, memory)?;
            }
            known += 1;
        }
        if known < shops.len() {
            work.roll_back().await?;
            return Ok(Err(Refusal::Behind));
        }
        Ok(Ok((work, logs)))
    }
}
