use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::SourceId;
use crate::sources::Scope;

/// Which SKUs are looked at.
#[derive(Clone, Debug)]
pub(in crate::sources) enum Which {
    /// All there are.
    All,
    /// Those of which this source speaks.
    Of(SourceId),
    /// Those of which the delivery of this source under way speaks.
    Delivered(SourceId, Scope),
    /// This one.
    One(String),
}

/// One row of what is stated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::sources) struct Said {
    /// The SKU it speaks of, as we call it.
    pub(in crate::sources) sku: String,
    /// As the source calls it.
    pub(in crate::sources) said: String,
    /// Who says it.
    pub(in crate::sources) source: SourceId,
    /// At which of its warehouses; empty if it names none.
    pub(in crate::sources) place: String,
    /// Of which variant of the product; empty if the row is not one of several variants'.
    pub(in crate::sources) variant: String,
    /// How much, in thousandths.
    pub(in crate::sources) quantity: i64,
    /// How much of it is reserved, in thousandths.
    pub(in crate::sources) reserve: Option<i64>,
    /// Since when, in microseconds since 1970; `None`: since the source's last snapshot.
    pub(in crate::sources) at: Option<i64>,
    /// Since when the source's snapshots have it no more, in microseconds since 1970.
    pub(in crate::sources) absent_at: Option<i64>,
    /// Units of the source a piece.
    pub(in crate::sources) pack: u32,
    /// Whether it was asked for, rather than something else of the same SKU.
    is_meant: bool,
}

/// What is stated, SKU by SKU; one SKU's rows are in memory at a time.
pub(in crate::sources) struct Groups<'a> {
    rows: BoxStream<'a, Result<SqliteRow, sqlx::Error>>,
    next: Option<Said>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(conn: &'a mut SqliteConnection, which: Which, is_mapped: bool) -> Self {
        let meant = match &which {
            Which::All | Which::One(_) => "1",
            Which::Of(_) | Which::Delivered(_, Scope::Snapshot) => "s.source = ?1",
            Which::Delivered(_, Scope::Delta) => {
                "s.source = ?1 AND EXISTS (SELECT 1 FROM delivery.row r WHERE r.said = s.said)"
            }
        };
        let only = match &which {
            Which::All | Which::Of(_) | Which::Delivered(_, Scope::Snapshot) => "1",
            // Something else may stand for the same SKU by the mapping: all are looked at.
            Which::Delivered(_, Scope::Delta) if is_mapped => "1",
            Which::Delivered(_, Scope::Delta) => "s.said IN (SELECT said FROM delivery.row)",
            Which::One(_) if is_mapped => "s.said = ?1 OR m.sku = ?1",
            Which::One(_) => "s.said = ?1",
        };
        // A word that is mapped stands for its SKUs, and no more for itself. Without a mapping
        // the order is that of the primary key, and nothing has to be sorted.
        let (sku, pack, join, order) = if is_mapped {
            let join = "LEFT JOIN mapping m ON m.source = s.source AND m.said = s.said";
            (
                "COALESCE(m.sku, s.said)",
                "COALESCE(m.pack, 1)",
                join,
                "1, 3, 2, 4, 11",
            )
        } else {
            ("s.said", "1", "", "s.said, s.source, s.place, s.variant")
        };
        let statement = format!(
            "SELECT {sku}, s.said, s.source, s.place, s.quantity, s.reserve, s.at, s.absent_at, \
             {pack}, {meant}, s.variant FROM stated s {join} WHERE {only} ORDER BY {order}"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(statement));
        let query = match which {
            Which::All => query,
            Which::Of(source) | Which::Delivered(source, _) => query.bind(source.0),
            Which::One(sku) => query.bind(sku),
        };
        Self {
            rows: query.fetch(conn),
            next: None,
        }
    }

    /// All that is stated of the next SKU; `None` at the end.
    pub(in crate::sources) async fn next(&mut self) -> Result<Option<Vec<Said>>, sqlx::Error> {
        loop {
            let first = match self.next.take() {
                Some(row) => row,
                None => match self.rows.next().await.transpose()? {
                    Some(row) => said(&row),
                    None => return Ok(None),
                },
            };
            let mut is_meant = first.is_meant;
            let mut group = vec![first];
            while let Some(row) = self.rows.next().await.transpose()? {
                let row = said(&row);
                if row.sku != group[0].sku {
                    self.next = Some(row);
                    break;
                }
                is_meant |= row.is_meant;
                group.push(row);
            }
            if is_meant {
                return Ok(Some(group));
            }
        }
    }
}

fn said(row: &SqliteRow) -> Said {
    Said {
        sku: row.get(0),
        said: row.get(1),
        source: SourceId(row.get(2)),
        place: row.get(3),
        quantity: row.get(4),
        reserve: row.get(5),
        at: row.get(6),
        absent_at: row.get(7),
        pack: u32::try_from(row.get::<i64, _>(8)).unwrap_or(1),
        is_meant: row.get::<i64, _>(9) != 0,
        variant: row.get(10),
    }
}
