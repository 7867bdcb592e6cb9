//! Tests of the SQL source: settings, columns and cells, and whole runs against a scripted
//! PostgreSQL server.

use std::io;

use stock_import::{DeliveryEntry, ProductKey, Quantity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::cell::{ColumnKind, SqlCell, SqlColumn};
use super::*;

fn config(url: &str, query: &str, watermark: Option<&str>) -> Config {
    Config {
        url: DatabaseUrl::parse(url).unwrap(),
        query: query.to_owned(),
        timeout: Duration::from_secs(30),
        watermark: watermark.map(str::to_owned),
    }
}

fn columns(names: &[(&str, &str)], settings: &ReadSettings) -> Result<SqlColumns, String> {
    let names: Vec<_> = names
        .iter()
        .map(|(n, t)| ((*n).to_owned(), (*t).to_owned()))
        .collect();
    SqlColumns::find(&names, Dialect::Postgres, settings, None)
}

#[test]
fn urls_are_shown_without_credentials() {
    for (url, shown) in [
        (
            "postgres://reader:c%40nary@db.shop:5433/stock?sslmode=require",
            "postgres://db.shop:5433/stock",
        ),
        (
            "postgresql://reader:c@nary@db.shop/stock",
            "postgres://db.shop:5432/stock",
        ),
        (
            "mysql://reader:canary@db.shop/stock",
            "mysql://db.shop:3306/stock",
        ),
        (
            "mariadb://reader@db.shop:3307/stock",
            "mysql://db.shop:3307/stock",
        ),
    ] {
        let url = DatabaseUrl::parse(url).unwrap();
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            (shown.to_owned(), shown.to_owned())
        );
    }
    let other = DatabaseUrl::parse("sqlite://canary:canary@x")
        .unwrap_err()
        .to_string();
    assert_eq!(other, "url must begin with postgres:// or mysql://");
    let broken = DatabaseUrl::parse("postgres://x:canary@h/d?sslmode=canary")
        .unwrap_err()
        .to_string();
    assert!(
        broken.starts_with("url is invalid:") && !broken.contains("canary"),
        "{broken}"
    );
}

#[test]
fn hides_encoded_and_decoded_passwords() {
    for (rest, found) in [
        ("name:p%40ss@host/db", Some("p%40ss")),
        ("name:p@ss@host/db", Some("p@ss")),
        ("host/db?sslmode=require&password=p", Some("p")),
        ("name@host/db?x=a:b@c", None),
        ("host/db", None),
    ] {
        assert_eq!(
            find_password(rest).as_ref().map(Secret::expose),
            found,
            "{rest}"
        );
    }
    let text = redact("p%40ss or p@ss", Some(&Secret::new("p%40ss")));
    assert_eq!(text, "*** or ***");
}

#[test]
fn placeholder_and_watermark_need_each_other() {
    let url = "postgres://h/d";
    let error_of = |query, watermark| {
        config(url, query, watermark)
            .validate()
            .map_err(|e| e.to_string())
    };
    assert_eq!(error_of("select 1", None), Ok(()));
    assert_eq!(error_of("select :since::text", Some("at")), Ok(()));
    assert!(
        error_of("select ':since'", Some("at"))
            .unwrap_err()
            .contains("must use :since")
    );
    assert!(
        error_of("select :since", None)
            .unwrap_err()
            .contains("must name a column")
    );
    assert!(error_of(" ", None).unwrap_err().contains("empty"));
    let short = Config {
        timeout: Duration::from_micros(1),
        ..config(url, "select 1", None)
    };
    assert!(
        short
            .validate()
            .unwrap_err()
            .to_string()
            .contains("between 1 s and 24 h")
    );
}

#[test]
fn maps_supported_column_types() {
    let of = |name| ColumnKind::from_type_name(name, Dialect::Postgres);
    assert_eq!(of("NUMERIC"), Some(ColumnKind::Numeric));
    assert_eq!(
        (of("TIMESTAMPTZ"), of("TIMESTAMP")),
        (
            Some(ColumnKind::TimestampTz),
            Some(ColumnKind::LocalTimestamp)
        )
    );
    assert_eq!(
        [
            of("BOOL"),
            of("DATE"),
            of("MONEY"),
            of("JSONB"),
            of("INT4[]")
        ],
        [None; 5]
    );
    let of = |name| ColumnKind::from_type_name(name, Dialect::MySql);
    assert_eq!(
        (of("BIGINT UNSIGNED"), of("VARBINARY")),
        (Some(ColumnKind::Unsigned), Some(ColumnKind::Text))
    );
    assert_eq!(
        (of("TIMESTAMP"), of("DATETIME")),
        (
            Some(ColumnKind::TimestampTz),
            Some(ColumnKind::LocalTimestamp)
        )
    );
    assert_eq!(
        [of("BOOLEAN"), of("DATE"), of("BIT"), of("JSON")],
        [None; 4]
    );
}

#[test]
fn finds_columns_by_name_and_checks_types() {
    let default_names = ReadSettings::default();
    let named = ReadSettings {
        sku: Some(" Nomenclature ".to_owned()),
        updated_at: Some("AT".to_owned()),
        ..ReadSettings::default()
    };
    assert!(
        columns(
            &[("SKU", "INT8"), ("Остаток", "NUMERIC"), ("Склад", "TEXT")],
            &default_names
        )
        .is_ok()
    );
    assert!(
        columns(
            &[
                ("nomenclature", "TEXT"),
                ("at", "TIMESTAMPTZ"),
                ("stock", "INT4")
            ],
            &named
        )
        .is_ok()
    );
    for (given, settings, rule) in [
        (
            &[("sku", "TEXT"), ("qty", "INT4")],
            &default_names,
            "no column for the quantity",
        ),
        (
            &[("sku", "TEXT"), ("stock", "BOOL")],
            &default_names,
            "column stock is of type BOOL, it must be a number",
        ),
        (
            &[("sku", "NUMERIC"), ("stock", "INT4")],
            &default_names,
            "column sku is of type NUMERIC, it must be text",
        ),
        (
            &[("sku", "TEXT"), ("stock", "DATE")],
            &default_names,
            "column stock is of type DATE",
        ),
        (
            &[("sku", "TEXT"), ("stock", "INT4")],
            &named,
            "no column for the sku: it must be named  Nomenclature , but the columns",
        ),
    ] {
        let error = columns(given, settings).unwrap_err();
        assert!(error.contains(rule), "{error}");
    }
    let twice = [("sku", "TEXT"), ("stock", "INT4"), ("Count", "INT4")];
    assert!(
        columns(&twice, &default_names)
            .unwrap_err()
            .contains("stock and Count could both be")
    );
    let ambiguous = [("sku", "TEXT"), ("code", "TEXT"), ("stock", "INT4")];
    let error = columns(&ambiguous, &default_names).unwrap_err();
    assert!(
        error.contains("sku and code could both be the SKU: set sku to the name"),
        "{error}"
    );
    // Ozon documents both columns; `offer_id` is the seller's own article.
    let ozon = [("sku", "INT8"), ("offer_id", "TEXT"), ("stock", "INT4")];
    assert!(columns(&ozon, &default_names).is_ok());
    let both = ReadSettings {
        sku: Some("sku".to_owned()),
        ..ReadSettings::default()
    };
    assert!(columns(&ambiguous, &both).is_ok());
    let naive = [
        ("nomenclature", "TEXT"),
        ("stock", "INT4"),
        ("at", "TIMESTAMP"),
    ];
    assert!(columns(&naive, &named).unwrap_err().contains("time zone"));
}

#[test]
fn watermarks_use_the_format_of_the_database() {
    let absolute = SqlCell::TimestampTz("2026-11-22T10:00:00.5Z".parse().unwrap());
    let local = SqlCell::LocalTimestamp("2026-11-22T10:00:00".parse().unwrap());
    for (cell, dialect, text) in [
        (
            &absolute,
            Dialect::Postgres,
            "2026-11-22T10:00:00.500000+00:00",
        ),
        (&absolute, Dialect::MySql, "2026-11-22 10:00:00.500000"),
        (&local, Dialect::Postgres, "2026-11-22 10:00:00.000000"),
        (&SqlCell::Integer(-1), Dialect::MySql, "-1"),
        (
            &SqlCell::Numeric("7.50".parse().unwrap()),
            Dialect::Postgres,
            "7.50",
        ),
    ] {
        assert_eq!(cell.to_sql(dialect), text);
    }
}

#[test]
fn advises_tls_for_logins_that_need_it() {
    let error = sqlx::Error::Configuration("RSA auth backend disabled; enable feature".into());
    let text = describe_error(&error);
    assert!(
        text.contains("caching_sha2_password") && text.contains("ssl-mode=REQUIRED"),
        "{text}"
    );
}

const TEXT_OID: i32 = 25;
const INT8_OID: i32 = 20;
const NUMERIC_OID: i32 = 1_700;

/// Scripted PostgreSQL server for one run.
struct PostgresScript {
    columns: Vec<(&'static str, i32)>,
    rows: Vec<Vec<Option<Vec<u8>>>>,
    /// Sends nothing after the rows if true.
    stalls: bool,
}

impl PostgresScript {
    /// Serves one connection and returns the statements it received.
    async fn serve(&self, listener: TcpListener) -> io::Result<Vec<String>> {
        let (mut socket, _) = listener.accept().await?;
        let length = usize::try_from(socket.read_i32().await?).unwrap();
        socket.read_exact(&mut vec![0; length - 4]).await?;
        send_message(&mut socket, b'R', &0_i32.to_be_bytes()).await?;
        send_message(&mut socket, b'Z', b"I").await?;
        let mut statements = Vec::new();
        while let Ok(kind) = socket.read_u8().await {
            let length = usize::try_from(socket.read_i32().await?).unwrap();
            let mut body = vec![0; length - 4];
            socket.read_exact(&mut body).await?;
            if matches!(kind, b'Q' | b'P') {
                let text = String::from_utf8_lossy(&body);
                statements.push(
                    text.trim_matches('\0')
                        .split('\0')
                        .next()
                        .unwrap()
                        .to_owned(),
                );
            }
            self.respond(
                &mut socket,
                kind,
                statements.last().map_or("", String::as_str),
            )
            .await?;
        }
        Ok(statements)
    }

    async fn respond(&self, socket: &mut TcpStream, kind: u8, last: &str) -> io::Result<()> {
        match kind {
            b'Q' => {
                send_message(socket, b'C', b"DONE\0").await?;
                send_message(socket, b'Z', if last == "ROLLBACK" { b"I" } else { b"T" }).await
            }
            b'P' => send_message(socket, b'1', b"").await,
            b'D' => {
                send_message(socket, b't', &0_i16.to_be_bytes()).await?;
                send_message(socket, b'T', &self.row_description()).await
            }
            b'B' => send_message(socket, b'2', b"").await,
            b'E' => {
                for row in &self.rows {
                    send_message(socket, b'D', &data_row(row)).await?;
                }
                if self.stalls {
                    // Only after the last packet: a paused clock would jump while a packet is on
                    // its way.
                    tokio::time::pause();
                    std::future::pending::<()>().await;
                }
                send_message(socket, b'C', b"SELECT\0").await
            }
            b'C' => send_message(socket, b'3', b"").await,
            b'S' => send_message(socket, b'Z', b"T").await,
            _ => Ok(()),
        }
    }

    fn row_description(&self) -> Vec<u8> {
        let mut body = i16::try_from(self.columns.len())
            .unwrap()
            .to_be_bytes()
            .to_vec();
        for (name, oid) in &self.columns {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(&[0; 7]);
            body.extend_from_slice(&oid.to_be_bytes());
            body.extend_from_slice(&[0, 8, 255, 255, 255, 255, 0, 1]);
        }
        body
    }
}

async fn send_message(socket: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + 4).unwrap();
    socket
        .write_all(&[&[kind], length.to_be_bytes().as_slice(), body].concat())
        .await
}

fn data_row(row: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = i16::try_from(row.len()).unwrap().to_be_bytes().to_vec();
    for value in row {
        let length = value
            .as_ref()
            .map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    body
}

/// Encodes a number as PostgreSQL does: base-10 000 digits and the number of decimals shown.
fn encode_numeric(digits: &[i16], decimals: i16) -> Vec<u8> {
    let header = [i16::try_from(digits.len()).unwrap(), 0, 0, decimals];
    header
        .iter()
        .chain(digits)
        .flat_map(|n| n.to_be_bytes())
        .collect()
}

/// Runs a query against a script and returns the result, the entries and the statements that the
/// server received.
async fn run_script(
    script: &PostgresScript,
    query: &str,
    watermark: Option<&str>,
) -> (
    Result<QuerySummary, SqlError>,
    Vec<DeliveryEntry>,
    Vec<String>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://reader@{}/shop?sslmode=disable",
        listener.local_addr().unwrap()
    );
    let config = config(&url, query, watermark);
    let (mut rows, mut receiver) = EntrySender::channel();
    let settings = ReadSettings {
        floors_fractions: true,
        ..ReadSettings::default()
    };
    let running = async {
        let result = read(&config, &settings, None, &mut rows).await;
        drop(rows);
        result
    };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.extend(batch);
        }
        all
    };
    // The server does not fail if the client disconnects early.
    let serving = async { script.serve(listener).await.unwrap_or_default() };
    let mut serving = std::pin::pin!(serving);
    let mut working = std::pin::pin!(async { tokio::join!(running, collecting) });
    let ((result, entries), statements) = tokio::select! {
        statements = &mut serving => (working.await, statements),
        finished = &mut working => (finished, if script.stalls { Vec::new() } else { serving.await }),
    };
    (result, entries, statements)
}

#[tokio::test]
async fn reads_rows_in_a_read_only_transaction() {
    let script = PostgresScript {
        columns: vec![
            ("sku", TEXT_OID),
            ("stock", NUMERIC_OID),
            ("version", INT8_OID),
        ],
        rows: vec![
            vec![
                Some(b" ART-1 ".to_vec()),
                Some(encode_numeric(&[46, 5_000], 3)),
                Some(9_i64.to_be_bytes().into()),
            ],
            vec![
                Some(b"0557722".to_vec()),
                None,
                Some(11_i64.to_be_bytes().into()),
            ],
            vec![
                None,
                Some(encode_numeric(&[1], 0)),
                Some(10_i64.to_be_bytes().into()),
            ],
        ],
        stalls: false,
    };
    let query = "select * from stock where :since::bigint is null or version > :since::bigint";
    let (outcome, entries, statements) = run_script(&script, query, Some("version")).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.scope, outcome.rows), (DeliveryScope::Delta, 3));
    assert_eq!(outcome.watermark.as_deref(), Some("11"));
    let shape = outcome.shape.unwrap().0;
    assert_eq!(shape["columns"], "sku TEXT, stock NUMERIC, version INT8");
    assert_eq!(
        (shape["sku"].as_str(), shape["quantity"].as_str()),
        ("sku", "stock")
    );
    let [
        DeliveryEntry::Row(first),
        DeliveryEntry::Row(second),
        DeliveryEntry::Rejected(third),
    ] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!(first.key, ProductKey::Sku("ART-1".to_owned()));
    assert_eq!(first.quantity, Quantity::from_thousandths(46_500));
    assert_eq!(
        (&second.key, second.quantity),
        (&ProductKey::Sku("0557722".to_owned()), None)
    );
    assert_eq!((third.line, third.reason.as_str()), (3, "sku is NULL"));
    let [begin, limits, query, rollback] = statements.as_slice() else {
        panic!("{statements:?}")
    };
    assert_eq!(begin, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY");
    assert!(
        limits.contains("SET LOCAL statement_timeout = 30000;"),
        "{limits}"
    );
    assert_eq!(
        query,
        "select * from stock where $1::bigint is null or version > $1::bigint"
    );
    assert_eq!(rollback, "ROLLBACK");
}

/// Row with the given names and cells.
struct TestRow(Vec<(&'static str, Option<SqlCell>)>);

impl SqlRow for TestRow {
    fn columns(&self) -> Vec<(String, String)> {
        let type_name = |cell: &Option<SqlCell>| match cell {
            Some(SqlCell::Integer(_)) => "INT8",
            Some(SqlCell::Numeric(_)) => "NUMERIC",
            Some(SqlCell::Float(_)) => "FLOAT8",
            Some(SqlCell::Text(_)) | None => "TEXT",
            Some(SqlCell::TimestampTz(_)) => "TIMESTAMPTZ",
            Some(SqlCell::LocalTimestamp(_)) => "TIMESTAMP",
        };
        let column = |(name, cell): &(&str, Option<SqlCell>)| {
            ((*name).to_owned(), type_name(cell).to_owned())
        };
        self.0.iter().map(column).collect()
    }

    fn cell(&self, column: &SqlColumn) -> Result<Option<SqlCell>, String> {
        Ok(self.0[column.index].1.clone())
    }
}

/// Reads a row of these two cells.
fn read_entry_of(sku: &str, stock: Option<SqlCell>, settings: &ReadSettings) -> DeliveryEntry {
    let row = TestRow(vec![
        ("sku", Some(SqlCell::Text(sku.to_owned()))),
        ("stock", stock),
    ]);
    let columns =
        SqlColumns::find(&SqlRow::columns(&row), Dialect::Postgres, settings, None).unwrap();
    columns.read_entry(&row, 1, &SqlReadSettings::new(settings))
}

fn describe(entry: &DeliveryEntry) -> String {
    let sku_of =
        |row: &stock_import::RejectedRow| row.sku.clone().unwrap_or("an unknown sku".to_owned());
    match entry {
        DeliveryEntry::Row(row) => row
            .quantity
            .map_or("-".to_owned(), |quantity| quantity.to_string()),
        DeliveryEntry::Rejected(row) => format!("rejected, of {}", sku_of(row)),
        DeliveryEntry::Suspicious(row) => format!("suspicious, of {}", sku_of(row)),
        DeliveryEntry::Article { .. } | DeliveryEntry::PartBoundary => panic!("{entry:?}"),
    }
}

#[test]
fn rejected_rows_name_their_sku() {
    let whole = |number| Some(SqlCell::Integer(number));
    let text = |text: &str| Some(SqlCell::Text(text.to_owned()));
    for (sku, stock, expected) in [
        ("A", whole(-3), "rejected, of A"),
        ("A", text("many"), "rejected, of A"),
        (
            "A",
            Some(SqlCell::Numeric("1.5".to_owned())),
            "rejected, of A",
        ),
        (
            "A",
            Some(SqlCell::Float("NaN".to_owned())),
            "rejected, of A",
        ),
        ("A", text("2,000"), "suspicious, of A"),
        ("'TEA-1", whole(-3), "rejected, of TEA-1"),
        ("", whole(3), "rejected, of an unknown sku"),
        ("5.577E+05", whole(3), "suspicious, of an unknown sku"),
        ("=\"0557722\"", whole(3), "3"),
    ] {
        assert_eq!(
            describe(&read_entry_of(sku, stock, &ReadSettings::default())),
            expected,
            "{sku}"
        );
    }
}

#[test]
fn ambiguous_texts_are_suspicious_numbers_are_not() {
    use stock_import::DecimalMark::Comma;
    let exact = |text: &str| Some(SqlCell::Numeric(text.to_owned()));
    let text = |text: &str| Some(SqlCell::Text(text.to_owned()));
    let comma = ReadSettings {
        decimal: Some(Comma),
        ..ReadSettings::default()
    };
    for (stock, settings, expected) in [
        (exact("2.000"), &ReadSettings::default(), "2"),
        // The setting applies to texts only.
        (exact("2.000"), &comma, "2"),
        (text("2,000"), &comma, "2"),
        (text("2.000"), &ReadSettings::default(), "suspicious, of A"),
        (
            Some(SqlCell::Float("2.5".to_owned())),
            &ReadSettings::default(),
            "rejected, of A",
        ),
    ] {
        assert_eq!(
            describe(&read_entry_of("A", stock.clone(), settings)),
            expected,
            "{stock:?}"
        );
    }
}

#[test]
fn floors_decimals_of_any_length_if_configured() {
    let floors = ReadSettings {
        floors_fractions: true,
        ..ReadSettings::default()
    };
    for (cell, expected) in [
        (SqlCell::Numeric("12.3456789012".to_owned()), "12.345"),
        (
            SqlCell::Numeric("5.999999999999999999999999999999999".to_owned()),
            "5.999",
        ),
        (SqlCell::Float(0.000_000_000_000_1_f64.to_string()), "0"),
        (
            SqlCell::Float(7.333_333_333_333_333_f64.to_string()),
            "7.333",
        ),
        (SqlCell::Text("7,12345678".to_owned()), "7.123"),
    ] {
        assert_eq!(
            describe(&read_entry_of("A", Some(cell.clone()), &floors)),
            expected,
            "{cell:?}"
        );
        assert!(
            describe(&read_entry_of("A", Some(cell), &ReadSettings::default()))
                .starts_with("rejected")
        );
    }
}

#[test]
fn null_is_zero_only_if_configured() {
    let zeroes = ReadSettings {
        zeroes_empty_quantities: true,
        ..ReadSettings::default()
    };
    for stock in [None, Some(SqlCell::Text(" ".to_owned()))] {
        assert_eq!(
            describe(&read_entry_of("A", stock.clone(), &ReadSettings::default())),
            "-"
        );
        assert_eq!(describe(&read_entry_of("A", stock, &zeroes)), "0");
    }
}

#[tokio::test]
async fn rejects_results_without_any_quantity() {
    let columns = vec![
        ("sku", TEXT_OID),
        ("stock", NUMERIC_OID),
        ("free", INT8_OID),
    ];
    let row = |sku: &[u8]| vec![Some(sku.to_vec()), None, Some(9_i64.to_be_bytes().into())];
    let script = PostgresScript {
        columns,
        rows: vec![row(b"A"), row(b"B")],
        stalls: false,
    };
    let (outcome, _, _) = run_script(&script, "select * from stock", None).await;
    let error = outcome.unwrap_err().to_string();
    assert!(
        error.contains("column stock is NULL or empty in all 2 rows"),
        "{error}"
    );
    assert!(
        error.ends_with("the columns are sku, stock, free"),
        "{error}"
    );
}

#[tokio::test]
async fn silent_servers_time_out() {
    let row = vec![Some(b"ART-1".to_vec()), Some(encode_numeric(&[1], 0))];
    let columns = vec![("sku", TEXT_OID), ("stock", NUMERIC_OID)];
    let script = PostgresScript {
        columns,
        rows: vec![row],
        stalls: true,
    };
    let began = tokio::time::Instant::now();
    let (outcome, _, _) = run_script(&script, "select * from stock", None).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, SqlError::TimedOut { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("/shop has not finished within 45 s: raise timeout_seconds"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(46));
}

#[tokio::test]
async fn rejects_unsuitable_types_at_the_first_row() {
    let columns = vec![("sku", TEXT_OID), ("stock", 16)];
    let row = vec![Some(b"ART-1".to_vec()), Some(vec![1])];
    let script = PostgresScript {
        columns,
        rows: vec![row],
        stalls: false,
    };
    let (outcome, entries, _) = run_script(&script, "select * from stock", None).await;
    let error = outcome.unwrap_err().to_string();
    assert_eq!(
        error,
        "column stock is of type BOOL, it must be a number or text: cast it in the query"
    );
    assert!(entries.is_empty());
}
