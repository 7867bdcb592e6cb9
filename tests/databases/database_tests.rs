//! Checks that every kind of database must pass.

use std::time::Duration;

use connectors::{EntrySender, sql};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection};
use stock_import::{DecimalMark, DeliveryEntry, ProductKey, ReadSettings};

use super::sql_shop::SqlShop;

/// Database with a table of stock.
pub(crate) struct Database {
    url: String,
    is_postgresql: bool,
}

/// Runs every check against a database.
pub(crate) async fn check_all(database: &Database) {
    rows_of_every_type_are_read(database).await;
    rejected_rows_keep_their_stock_deleted_rows_do_not(database).await;
    null_is_unknown_unless_configured_as_zero(database).await;
    ambiguous_texts_are_suspicious(database).await;
    damaged_skus_are_repaired_or_suspicious(database).await;
    contradictory_duplicates_are_not_applied(database).await;
    two_sku_columns_need_a_documented_order(database).await;
    wrong_queries_are_rejected(database).await;
}

impl Database {
    pub(crate) async fn postgresql(url: &str) -> Self {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let create = "create table stock (article text, free numeric(15, 3), checked timestamptz)";
        sqlx::raw_sql(create)
            .execute(&mut connection)
            .await
            .unwrap();
        Self {
            url: url.to_owned(),
            is_postgresql: true,
        }
    }

    pub(crate) async fn mariadb(url: &str) -> Self {
        let mut connection = MySqlConnection::connect(url).await.unwrap();
        let create = "create database shop character set utf8mb4; use shop; \
                      create table stock (article varchar(255), free decimal(15, 3), \
                      checked timestamp)";
        sqlx::raw_sql(create)
            .execute(&mut connection)
            .await
            .unwrap();
        Self {
            url: url.replace("/mysql?", "/shop?"),
            is_postgresql: false,
        }
    }

    /// Runs a statement that changes the table.
    async fn run(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_postgresql {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        } else {
            let mut connection = MySqlConnection::connect(&self.url).await.unwrap();
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
    }

    fn config(&self, query: &str) -> sql::Config {
        sql::Config {
            url: sql::DatabaseUrl::parse(&self.url).unwrap(),
            query: query.to_owned(),
            timeout: Duration::from_secs(20),
            watermark: None,
        }
    }

    async fn read(
        &self,
        query: &str,
        settings: &ReadSettings,
    ) -> Result<Vec<DeliveryEntry>, String> {
        let (mut rows, mut entries) = EntrySender::channel();
        let config = self.config(query);
        let reading = async {
            let read = sql::read(&config, settings, None, &mut rows).await;
            drop(rows);
            read
        };
        let collecting = async {
            let mut all = Vec::new();
            while let Some(batch) = entries.recv().await {
                all.extend(batch);
            }
            all
        };
        let (read, entries) = tokio::join!(reading, collecting);
        read.map(|_| entries).map_err(|error| error.to_string())
    }

    /// Returns a sorted short text for each row.
    async fn read_summaries(&self, query: &str, settings: &ReadSettings) -> Vec<String> {
        let entries = self.read(query, settings).await.unwrap();
        let mut summaries: Vec<_> = entries.iter().map(summary).collect();
        summaries.sort();
        summaries
    }

    /// Returns the same texts with fractions rounded down.
    pub(crate) async fn read_summaries_floored(&self, query: &str) -> Vec<String> {
        self.read_summaries(
            query,
            &ReadSettings {
                floors_fractions: true,
                ..ReadSettings::default()
            },
        )
        .await
    }

    async fn read_error(&self, query: &str) -> String {
        self.read(query, &ReadSettings::default())
            .await
            .unwrap_err()
    }
}

fn summary(entry: &DeliveryEntry) -> String {
    match entry {
        DeliveryEntry::Row(row) => {
            let ProductKey::Sku(sku) = &row.key else {
                panic!("{row:?}")
            };
            format!(
                "{sku} {}",
                row.quantity.map_or("-".to_owned(), |it| it.to_string())
            )
        }
        DeliveryEntry::Rejected(rejected) => {
            format!("{} rejected", rejected.sku.as_deref().unwrap_or("?"))
        }
        DeliveryEntry::Suspicious(rejected) => {
            format!("{} suspicious", rejected.sku.as_deref().unwrap_or("?"))
        }
        other => panic!("{other:?}"),
    }
}

/// Returns a query for these rows: each SKU with the expression of its stock.
fn rows_query(rows: &[(&str, &str)]) -> String {
    let select = |(sku, stock): &(&str, &str)| {
        format!(
            "select '{}' as sku, {stock} as stock",
            sku.replace('\'', "''")
        )
    };
    rows.iter()
        .map(select)
        .collect::<Vec<_>>()
        .join(" union all ")
}

async fn rows_of_every_type_are_read(database: &Database) {
    let double = if database.is_postgresql {
        "double precision"
    } else {
        "double"
    };
    for (number, expected) in [
        ("cast(7 as decimal(15, 3))", "A 7"),
        ("cast(46.5 as decimal(15, 3))", "A rejected"),
        ("7", "A 7"),
        ("'7'", "A 7"),
        ("' 1 234,00 '", "A 1234"),
        (&format!("cast(7 as {double})"), "A 7"),
        (&format!("cast(1.5 as {double})"), "A rejected"),
        ("-3", "A rejected"),
        ("'many'", "A rejected"),
        ("2000000001", "A rejected"),
    ] {
        let query = rows_query(&[("A", number)]);
        assert_eq!(
            database
                .read_summaries(&query, &ReadSettings::default())
                .await,
            [expected],
            "{number}"
        );
    }
    let query = "select 557722 as sku, 3 as stock";
    assert_eq!(
        database
            .read_summaries(query, &ReadSettings::default())
            .await,
        ["557722 3"]
    );
    // The setting applies to texts only: the database itself defines the mark of a number.
    let comma = ReadSettings {
        decimal: Some(DecimalMark::Comma),
        ..ReadSettings::default()
    };
    let query = rows_query(&[("A", "cast(2 as decimal(15, 3))")]);
    assert_eq!(database.read_summaries(&query, &comma).await, ["A 2"]);
}

async fn rejected_rows_keep_their_stock_deleted_rows_do_not(database: &Database) {
    let shop = SqlShop::new().await;
    let query = "select article as sku, sum(free) as quantity from stock group by article";
    let config = database.config(query);
    database
        .run("insert into stock (article, free) values ('A', 5), ('B', 7), ('C', 9)")
        .await;
    shop.import(&config, &ReadSettings::default()).await;
    let stock = |a, b, c| {
        [("A", a), ("B", b), ("C", c)]
            .map(|(sku, count)| (sku.to_owned(), count))
            .into()
    };
    assert_eq!(shop.stock(), stock(5, 7, 9));
    database
        .run("delete from stock where article in ('B', 'C')")
        .await;
    database
        .run("insert into stock (article, free) values ('B', -3), ('D', 1.5)")
        .await;
    let report = shop.import(&config, &ReadSettings::default()).await;
    assert_eq!((report.rows, report.rejected), (1, 2));
    // C is deleted, so its stock is 0; B still exists with an invalid quantity, so its stock stays.
    assert_eq!(shop.stock(), stock(5, 7, 0));
    database.run("delete from stock").await;
}

async fn null_is_unknown_unless_configured_as_zero(database: &Database) {
    let zeroes = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    let query = rows_query(&[("A", "5"), ("B", "null")]);
    assert_eq!(
        database
            .read_summaries(&query, &ReadSettings::default())
            .await,
        ["A 5", "B -"]
    );
    assert_eq!(
        database.read_summaries(&query, &zeroes).await,
        ["A 5", "B 0"]
    );
    let nothing = rows_query(&[("A", "cast(null as decimal(15, 3))"), ("B", "null")]);
    let error = database.read_error(&nothing).await;
    assert!(
        error.contains("in all 2 rows") && error.ends_with("sku, stock"),
        "{error}"
    );
    assert_eq!(
        database.read_summaries(&nothing, &zeroes).await,
        ["A 0", "B 0"]
    );
}

async fn ambiguous_texts_are_suspicious(database: &Database) {
    let query = rows_query(&[("A", "'2,000'"), ("B", "'2.000'"), ("C", "'2,00'")]);
    let summaries = database
        .read_summaries(&query, &ReadSettings::default())
        .await;
    assert_eq!(summaries, ["A suspicious", "B suspicious", "C 2"]);
    let comma = ReadSettings {
        decimal: Some(DecimalMark::Comma),
        ..ReadSettings::default()
    };
    assert_eq!(
        database.read_summaries(&query, &comma).await,
        ["A 2", "B 2000", "C 2"]
    );
}

async fn damaged_skus_are_repaired_or_suspicious(database: &Database) {
    for (sku, expected) in [
        ("=\"0557722\"", "0557722 3"),
        ("'TEA-1", "TEA-1 3"),
        (" A-1\u{feff}", "A-1 3"),
        ("#Н/Д", "? suspicious"),
        ("5.577E+05", "? suspicious"),
        ("557 722", "? suspicious"),
        ("01.фев", "? suspicious"),
        ("", "? rejected"),
    ] {
        let query = rows_query(&[(sku, "3")]);
        assert_eq!(
            database
                .read_summaries(&query, &ReadSettings::default())
                .await,
            [expected],
            "{sku}"
        );
    }
}

async fn contradictory_duplicates_are_not_applied(database: &Database) {
    let shop = SqlShop::new().await;
    let config = |rows: &[(&str, &str)]| database.config(&self::rows_query(rows));
    shop.import(&config(&[("A", "4"), ("B", "6")]), &ReadSettings::default())
        .await;
    let twice = [("A", "5"), ("A", "7"), ("B", "8")];
    shop.import(&config(&twice), &ReadSettings::default()).await;
    let expected = [("A", 4), ("B", 8)]
        .map(|(sku, count)| (sku.to_owned(), count))
        .into();
    assert_eq!(shop.stock(), expected);
}

async fn two_sku_columns_need_a_documented_order(database: &Database) {
    let error = database
        .read_error("select 'A' as sku, 'B' as code, 3 as stock")
        .await;
    assert!(
        error.contains("sku and code could both be") && error.contains("set sku"),
        "{error}"
    );
    let error = database
        .read_error("select 'A' as sku, 3 as stock, 4 as quantity")
        .await;
    assert!(
        error.contains("stock and quantity could both be the quantity"),
        "{error}"
    );
    let known = "select 'A' as sku, 'B' as offer_id, 3 as stock";
    assert_eq!(
        database
            .read_summaries(known, &ReadSettings::default())
            .await,
        ["B 3"]
    );
    let named = ReadSettings {
        sku: Some("sku".to_owned()),
        ..ReadSettings::default()
    };
    assert_eq!(database.read_summaries(known, &named).await, ["A 3"]);
}

async fn wrong_queries_are_rejected(database: &Database) {
    for (query, rule) in [
        ("select nothing from stock", "nothing"),
        (
            "select 'A' as sku, 3 as amount",
            "no column for the quantity",
        ),
        (
            "select 'A' as sku, current_date as stock",
            "it must be a number",
        ),
        ("select 'A' as sku; select 3 as stock", ""),
        ("delete from stock", ""),
    ] {
        let error = database.read_error(query).await;
        assert!(error.contains(rule), "{query}: {error}");
    }
}
