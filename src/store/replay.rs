use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::record::{Facts, Key, Malformed, Place, unseal};
use super::session::{Flaw, Head};

/// Shows every valid record in the order in which they have to be applied: the snapshot's
/// chunks, then the changes since.
///
/// Errs if one is missing, out of place or altered, and says which.
pub(super) async fn replay(
    conn: &mut SqliteConnection,
    head: Head,
    mut see: impl FnMut(i64, Facts<'_>) -> Result<(), Malformed>,
) -> Result<(), Flaw> {
    let Head {
        generation,
        chunks,
        snapshot_seq,
        last_seq,
        shops,
        ..
    } = head;
    let mut expected = 0;
    let mut records = sqlx::query(
        "SELECT chunk, shop, rows, body FROM snapshot WHERE generation = ?1 ORDER BY chunk",
    )
    .bind(generation)
    .fetch(&mut *conn);
    while let Some(row) = records.try_next().await? {
        let key = |chunk| Key::Chunk { generation, chunk };
        show(&row, expected, shops, key, &mut see)
            .map_err(|flaw| locate(flaw, "snapshot chunk", expected))?;
        expected += 1;
    }
    drop(records);
    if expected != chunks {
        return Err(Flaw::Content(format!(
            "the snapshot has {expected} chunks of {chunks}"
        )));
    }
    let mut expected = snapshot_seq + 1;
    let mut records =
        sqlx::query("SELECT seq, shop, rows, body FROM change WHERE seq > ?1 ORDER BY seq")
            .bind(snapshot_seq)
            .fetch(conn);
    while let Some(row) = records.try_next().await? {
        let key = |seq| Key::Change { seq };
        show(&row, expected, shops, key, &mut see)
            .map_err(|flaw| locate(flaw, "change", expected))?;
        expected += 1;
    }
    if expected != last_seq + 1 {
        return Err(Flaw::Content(format!(
            "the changes from {expected} to {last_seq} are missing"
        )));
    }
    Ok(())
}

/// How many rows the snapshot has of each shop's number, checked against the total.
pub(super) async fn sizes(
    conn: &mut SqliteConnection,
    head: Head,
) -> Result<Vec<(i64, usize)>, Flaw> {
    let sizes: Vec<(i64, i64)> =
        sqlx::query_as("SELECT shop, sum(rows) FROM snapshot WHERE generation = ?1 GROUP BY shop")
            .bind(head.generation)
            .fetch_all(conn)
            .await?;
    if sizes
        .iter()
        .try_fold(0i64, |sum, (_, rows)| sum.checked_add(*rows))
        != Some(head.rows)
    {
        return Err(Malformed("not as many rows in the snapshot as there were").into());
    }
    let rows = |rows| usize::try_from(rows).map_err(|_| Malformed("a negative number of rows"));
    sizes
        .into_iter()
        .map(|(shop, count)| Ok((shop, rows(count)?)))
        .collect()
}

fn show(
    row: &SqliteRow,
    expected: i64,
    shops: i64,
    key: impl FnOnce(i64) -> Key,
    see: &mut impl FnMut(i64, Facts<'_>) -> Result<(), Malformed>,
) -> Result<(), Flaw> {
    let found: i64 = row.try_get(0)?;
    if found != expected {
        return Err(Flaw::Content(format!("{found} is there in its place")));
    }
    let place = Place {
        key: key(found),
        shop: row.try_get(1)?,
        rows: row.try_get(2)?,
    };
    if !(1..=shops).contains(&place.shop) {
        return Err(Malformed("it is of an unknown shop").into());
    }
    let body = unseal(&place, row.try_get(3)?)?;
    Ok(see(place.shop, Facts::of(body, place.rows)?)?)
}

fn locate(flaw: Flaw, what: &str, number: i64) -> Flaw {
    match flaw {
        Flaw::Content(detail) => Flaw::Content(format!("{what} {number}: {detail}")),
        Flaw::Library(_) | Flaw::Closed => flaw,
    }
}
