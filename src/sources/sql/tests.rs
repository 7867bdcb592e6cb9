use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::column::Cell;
use super::*;
use crate::sources::{Entry, Key, Quantity};

fn config(url: &str, query: &str, watermark: Option<&str>) -> Config {
    Config {
        url: Url::parse(url).unwrap(),
        query: query.to_owned(),
        timeout: Duration::from_secs(30),
        watermark: watermark.map(str::to_owned),
    }
}

fn columns(names: &[(&str, &str)], reading: &Reading) -> Result<Columns, String> {
    let names: Vec<_> = names
        .iter()
        .map(|(n, t)| ((*n).to_owned(), (*t).to_owned()))
        .collect();
    Columns::find(&names, Dialect::Postgres, reading, None)
}

#[test]
fn a_url_is_shown_without_who_we_are() {
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
        let url = Url::parse(url).unwrap();
        assert_eq!(
            (url.to_string(), format!("{url:?}")),
            (shown.to_owned(), shown.to_owned())
        );
    }
    let other = Url::parse("sqlite://canary:canary@x")
        .unwrap_err()
        .to_string();
    assert_eq!(other, "url must begin with postgres:// or mysql://");
    let broken = Url::parse("postgres://x:canary@h/d?sslmode=canary")
        .unwrap_err()
        .to_string();
    assert!(
        broken.starts_with("url cannot be read:") && !broken.contains("canary"),
        "{broken}"
    );
}

#[test]
fn a_password_is_hidden_in_both_its_spellings() {
    for (rest, found) in [
        ("name:p%40ss@host/db", Some("p%40ss")),
        ("name:p@ss@host/db", Some("p@ss")),
        ("host/db?sslmode=require&password=p", Some("p")),
        ("name@host/db?x=a:b@c", None),
        ("host/db", None),
    ] {
        assert_eq!(password(rest).as_ref().map(Secret::expose), found, "{rest}");
    }
    let text = hidden("p%40ss or p@ss", Some(&Secret::new("p%40ss")));
    assert_eq!(text, "*** or ***");
}

#[test]
fn a_placeholder_and_a_watermark_come_together() {
    let url = "postgres://h/d";
    let fault = |query, watermark| {
        config(url, query, watermark)
            .check()
            .map_err(|e| e.to_string())
    };
    assert_eq!(fault("select 1", None), Ok(()));
    assert_eq!(fault("select :since::text", Some("at")), Ok(()));
    assert!(
        fault("select ':since'", Some("at"))
            .unwrap_err()
            .contains("must use :since")
    );
    assert!(
        fault("select :since", None)
            .unwrap_err()
            .contains("must name a column")
    );
    assert!(fault(" ", None).unwrap_err().contains("empty"));
    let short = Config {
        timeout: Duration::from_micros(1),
        ..config(url, "select 1", None)
    };
    assert!(
        short
            .check()
            .unwrap_err()
            .to_string()
            .contains("between 1 s and 24 h")
    );
}

#[test]
fn a_type_is_taken_for_what_it_is_or_not_at_all() {
    let of = |name| Kind::of(name, Dialect::Postgres);
    assert_eq!(of("NUMERIC"), Some(Kind::Exact));
    assert_eq!(
        (of("TIMESTAMPTZ"), of("TIMESTAMP")),
        (Some(Kind::Moment), Some(Kind::Local))
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
    let of = |name| Kind::of(name, Dialect::MySql);
    assert_eq!(
        (of("BIGINT UNSIGNED"), of("VARBINARY")),
        (Some(Kind::Unsigned), Some(Kind::Text))
    );
    assert_eq!(
        (of("TIMESTAMP"), of("DATETIME")),
        (Some(Kind::Moment), Some(Kind::Local))
    );
    assert_eq!(
        [of("BOOLEAN"), of("DATE"), of("BIT"), of("JSON")],
        [None; 4]
    );
}

#[test]
fn columns_are_found_by_name_and_judged_by_type() {
    let known = Reading::default();
    let named = Reading {
        sku: Some(" Nomenclature ".to_owned()),
        updated_at: Some("AT".to_owned()),
        ..Reading::default()
    };
    assert!(
        columns(
            &[("SKU", "INT8"), ("Остаток", "NUMERIC"), ("Склад", "TEXT")],
            &known
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
    for (there, reading, rule) in [
        (
            &[("sku", "TEXT"), ("qty", "INT4")],
            &known,
            "no column for the quantity",
        ),
        (
            &[("sku", "TEXT"), ("stock", "BOOL")],
            &known,
            "column stock is of type BOOL, it must be a number",
        ),
        (
            &[("sku", "NUMERIC"), ("stock", "INT4")],
            &known,
            "column sku is of type NUMERIC, it must be text",
        ),
        (
            &[("sku", "TEXT"), ("stock", "DATE")],
            &known,
            "column stock is of type DATE",
        ),
        (
            &[("sku", "TEXT"), ("stock", "INT4")],
            &named,
            "no column for the sku:  Nomenclature  is wanted",
        ),
    ] {
        let fault = columns(there, reading).unwrap_err();
        assert!(fault.contains(rule), "{fault}");
    }
    let twice = [("sku", "TEXT"), ("stock", "INT4"), ("Count", "INT4")];
    assert!(
        columns(&twice, &known)
            .unwrap_err()
            .contains("stock and Count could both be")
    );
    let ambiguous = [("sku", "TEXT"), ("code", "TEXT"), ("stock", "INT4")];
    let fault = columns(&ambiguous, &known).unwrap_err();
    assert!(
        fault.contains("sku and code could both be the SKU: set sku to the name"),
        "{fault}"
    );
    // In a documented pair the seller's own article wins.
    let ozon = [("sku", "INT8"), ("offer_id", "TEXT"), ("stock", "INT4")];
    assert!(columns(&ozon, &known).is_ok());
    let both = Reading {
        sku: Some("sku".to_owned()),
        ..Reading::default()
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
fn a_watermark_is_written_as_its_database_writes_it() {
    let moment = Cell::Moment("2026-11-22T10:00:00.5Z".parse().unwrap());
    let local = Cell::Local("2026-11-22T10:00:00".parse().unwrap());
    for (cell, dialect, text) in [
        (
            &moment,
            Dialect::Postgres,
            "2026-11-22T10:00:00.500000+00:00",
        ),
        (&moment, Dialect::MySql, "2026-11-22 10:00:00.500000"),
        (&local, Dialect::Postgres, "2026-11-22 10:00:00.000000"),
        (&Cell::Whole(-1), Dialect::MySql, "-1"),
        (
            &Cell::Exact("7.50".parse().unwrap()),
            Dialect::Postgres,
            "7.50",
        ),
    ] {
        assert_eq!(cell.to_sql(dialect), text);
    }
}

#[test]
fn a_login_that_needs_tls_is_said_to_need_it() {
    let error = sqlx::Error::Configuration("RSA auth backend disabled; enable feature".into());
    let text = reason(&error);
    assert!(
        text.contains("caching_sha2_password") && text.contains("ssl-mode=REQUIRED"),
        "{text}"
    );
}

const TEXT: i32 = 25;
const INT8: i32 = 20;
const NUMERIC: i32 = 1_700;

/// As much of a PostgreSQL server as one run needs.
struct Script {
    columns: Vec<(&'static str, i32)>,
    rows: Vec<Vec<Option<Vec<u8>>>>,
    /// After the rows it says nothing any more.
    stalls: bool,
}

impl Script {
    /// Serves one connection and returns the statements it was sent.
    async fn serve(&self, listener: TcpListener) -> io::Result<Vec<String>> {
        let (mut socket, _) = listener.accept().await?;
        let length = usize::try_from(socket.read_i32().await?).unwrap();
        socket.read_exact(&mut vec![0; length - 4]).await?;
        send(&mut socket, b'R', &0_i32.to_be_bytes()).await?;
        send(&mut socket, b'Z', b"I").await?;
        let mut heard = Vec::new();
        while let Ok(kind) = socket.read_u8().await {
            let length = usize::try_from(socket.read_i32().await?).unwrap();
            let mut body = vec![0; length - 4];
            socket.read_exact(&mut body).await?;
            if matches!(kind, b'Q' | b'P') {
                let text = String::from_utf8_lossy(&body);
                heard.push(
                    text.trim_matches('\0')
                        .split('\0')
                        .next()
                        .unwrap()
                        .to_owned(),
                );
            }
            self.answer(&mut socket, kind, heard.last().map_or("", String::as_str))
                .await?;
        }
        Ok(heard)
    }

    async fn answer(&self, socket: &mut TcpStream, kind: u8, last: &str) -> io::Result<()> {
        match kind {
            b'Q' => {
                send(socket, b'C', b"DONE\0").await?;
                send(socket, b'Z', if last == "ROLLBACK" { b"I" } else { b"T" }).await
            }
            b'P' => send(socket, b'1', b"").await,
            b'D' => {
                send(socket, b't', &0_i16.to_be_bytes()).await?;
                send(socket, b'T', &self.description()).await
            }
            b'B' => send(socket, b'2', b"").await,
            b'E' => {
                for row in &self.rows {
                    send(socket, b'D', &data(row)).await?;
                }
                if self.stalls {
                    // Only now, when nobody sends any more: a paused clock would jump while a
                    // packet is on its way.
                    tokio::time::pause();
                    std::future::pending::<()>().await;
                }
                send(socket, b'C', b"SELECT\0").await
            }
            b'C' => send(socket, b'3', b"").await,
            b'S' => send(socket, b'Z', b"T").await,
            _ => Ok(()),
        }
    }

    fn description(&self) -> Vec<u8> {
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

async fn send(socket: &mut TcpStream, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = i32::try_from(body.len() + 4).unwrap();
    socket
        .write_all(&[&[kind], length.to_be_bytes().as_slice(), body].concat())
        .await
}

fn data(row: &[Option<Vec<u8>>]) -> Vec<u8> {
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

/// A number as PostgreSQL sends it: digits to the base of 10 000, and how many decimals show.
fn numeric(digits: &[i16], decimals: i16) -> Vec<u8> {
    let head = [i16::try_from(digits.len()).unwrap(), 0, 0, decimals];
    head.iter()
        .chain(digits)
        .flat_map(|n| n.to_be_bytes())
        .collect()
}

/// Runs a query against a script, and returns what it came to and what the server heard.
async fn run(
    script: &Script,
    query: &str,
    watermark: Option<&str>,
) -> (Result<Outcome, SqlError>, Vec<Entry>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgres://reader@{}/shop?sslmode=disable",
        listener.local_addr().unwrap()
    );
    let config = config(&url, query, watermark);
    let (mut rows, mut receiver) = Rows::channel();
    let reading = Reading {
        floors_fractions: true,
        ..Reading::default()
    };
    let reading = async {
        let outcome = read(&config, &reading, None, &mut rows).await;
        drop(rows);
        outcome
    };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(batch) = receiver.recv().await {
            all.extend(batch);
        }
        all
    };
    // A client that leaves in the middle is no failure of the server's.
    let serving = async { script.serve(listener).await.unwrap_or_default() };
    let mut serving = std::pin::pin!(serving);
    let mut working = std::pin::pin!(async { tokio::join!(reading, collecting) });
    let ((outcome, entries), heard) = tokio::select! {
        heard = &mut serving => (working.await, heard),
        done = &mut working => (done, if script.stalls { Vec::new() } else { serving.await }),
    };
    (outcome, entries, heard)
}

#[tokio::test]
async fn rows_are_read_exactly_in_a_transaction_that_cannot_write() {
    let script = Script {
        columns: vec![("sku", TEXT), ("stock", NUMERIC), ("version", INT8)],
        rows: vec![
            vec![
                Some(b" ART-1 ".to_vec()),
                Some(numeric(&[46, 5_000], 3)),
                Some(9_i64.to_be_bytes().into()),
            ],
            vec![
                Some(b"0557722".to_vec()),
                None,
                Some(11_i64.to_be_bytes().into()),
            ],
            vec![
                None,
                Some(numeric(&[1], 0)),
                Some(10_i64.to_be_bytes().into()),
            ],
        ],
        stalls: false,
    };
    let query = "select * from stock where :since::bigint is null or version > :since::bigint";
    let (outcome, entries, heard) = run(&script, query, Some("version")).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.scope, outcome.rows), (Scope::Delta, 3));
    assert_eq!(outcome.watermark.as_deref(), Some("11"));
    let shape = outcome.shape.unwrap().0;
    assert_eq!(shape["columns"], "sku TEXT, stock NUMERIC, version INT8");
    assert_eq!(
        (shape["sku"].as_str(), shape["quantity"].as_str()),
        ("sku", "stock")
    );
    let [
        Entry::Row(first),
        Entry::Row(second),
        Entry::Rejected(third),
    ] = entries.as_slice()
    else {
        panic!("{entries:?}")
    };
    assert_eq!(first.key, Key::Sku("ART-1".to_owned()));
    assert_eq!(first.quantity, Quantity::from_thousandths(46_500));
    assert_eq!(
        (&second.key, second.quantity),
        (&Key::Sku("0557722".to_owned()), None)
    );
    assert_eq!((third.line, third.reason.as_str()), (3, "sku is NULL"));
    let [begin, limits, query, rollback] = heard.as_slice() else {
        panic!("{heard:?}")
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

/// A result's row, and how its columns are read.
struct TestRow(Vec<(&'static str, Option<Cell>)>);

impl SqlRow for TestRow {
    fn columns(&self) -> Vec<(String, String)> {
        let type_name = |cell: &Option<Cell>| match cell {
            Some(Cell::Whole(_)) => "INT8",
            Some(Cell::Exact(_)) => "NUMERIC",
            Some(Cell::Float(_)) => "FLOAT8",
            Some(Cell::Text(_)) | None => "TEXT",
            Some(Cell::Moment(_)) => "TIMESTAMPTZ",
            Some(Cell::Local(_)) => "TIMESTAMP",
        };
        let column =
            |(name, cell): &(&str, Option<Cell>)| ((*name).to_owned(), type_name(cell).to_owned());
        self.0.iter().map(column).collect()
    }

    fn cell(&self, column: &super::column::Column) -> Result<Option<Cell>, String> {
        Ok(self.0[column.index].1.clone())
    }
}

/// What a row of these two cells says.
fn entry(sku: &str, stock: Option<Cell>, reading: &Reading) -> Entry {
    let row = TestRow(vec![
        ("sku", Some(Cell::Text(sku.to_owned()))),
        ("stock", stock),
    ]);
    let columns = Columns::find(&SqlRow::columns(&row), Dialect::Postgres, reading, None).unwrap();
    columns.entry(&row, 1, &RowReading::new(reading))
}

fn shown(entry: &Entry) -> String {
    let of = |fault: &crate::sources::Fault| fault.sku.clone().unwrap_or("nobody".to_owned());
    match entry {
        Entry::Row(row) => row
            .quantity
            .map_or("-".to_owned(), |quantity| quantity.to_string()),
        Entry::Rejected(fault) => format!("rejected, of {}", of(fault)),
        Entry::Suspicious(fault) => format!("suspicious, of {}", of(fault)),
        Entry::Article { .. } | Entry::NextPart => panic!("{entry:?}"),
    }
}

#[test]
fn a_rejected_row_names_its_sku() {
    let whole = |number| Some(Cell::Whole(number));
    let text = |text: &str| Some(Cell::Text(text.to_owned()));
    for (sku, stock, expected) in [
        ("A", whole(-3), "rejected, of A"),
        ("A", text("many"), "rejected, of A"),
        ("A", Some(Cell::Exact("1.5".to_owned())), "rejected, of A"),
        ("A", Some(Cell::Float("NaN".to_owned())), "rejected, of A"),
        ("A", text("2,000"), "suspicious, of A"),
        ("'TEA-1", whole(-3), "rejected, of TEA-1"),
        ("", whole(3), "rejected, of nobody"),
        ("5.577E+05", whole(3), "suspicious, of nobody"),
        ("=\"0557722\"", whole(3), "3"),
    ] {
        assert_eq!(
            shown(&entry(sku, stock, &Reading::default())),
            expected,
            "{sku}"
        );
    }
}

#[test]
fn numbers_are_certain_and_texts_are_not() {
    use crate::sources::DecimalMark::Comma;
    let exact = |text: &str| Some(Cell::Exact(text.to_owned()));
    let text = |text: &str| Some(Cell::Text(text.to_owned()));
    let comma = Reading {
        decimal: Some(Comma),
        ..Reading::default()
    };
    for (stock, reading, expected) in [
        (exact("2.000"), &Reading::default(), "2"),
        // The setting is about texts.
        (exact("2.000"), &comma, "2"),
        (text("2,000"), &comma, "2"),
        (text("2.000"), &Reading::default(), "suspicious, of A"),
        (
            Some(Cell::Float("2.5".to_owned())),
            &Reading::default(),
            "rejected, of A",
        ),
    ] {
        assert_eq!(
            shown(&entry("A", stock.clone(), reading)),
            expected,
            "{stock:?}"
        );
    }
}

#[test]
fn decimals_of_any_length_are_cut_where_that_is_set() {
    let floors = Reading {
        floors_fractions: true,
        ..Reading::default()
    };
    for (cell, expected) in [
        (Cell::Exact("12.3456789012".to_owned()), "12.345"),
        (
            Cell::Exact("5.999999999999999999999999999999999".to_owned()),
            "5.999",
        ),
        (Cell::Float(0.000_000_000_000_1_f64.to_string()), "0"),
        (Cell::Float(7.333_333_333_333_333_f64.to_string()), "7.333"),
        (Cell::Text("7,12345678".to_owned()), "7.123"),
    ] {
        assert_eq!(
            shown(&entry("A", Some(cell.clone()), &floors)),
            expected,
            "{cell:?}"
        );
        assert!(shown(&entry("A", Some(cell), &Reading::default())).starts_with("rejected"));
    }
}

#[test]
fn null_is_zero_only_where_that_is_set() {
    let zeroes = Reading {
        zeroes_empties: true,
        ..Reading::default()
    };
    for stock in [None, Some(Cell::Text(" ".to_owned()))] {
        assert_eq!(shown(&entry("A", stock.clone(), &Reading::default())), "-");
        assert_eq!(shown(&entry("A", stock, &zeroes)), "0");
    }
}

#[tokio::test]
async fn a_result_without_any_quantity_is_refused() {
    let columns = vec![("sku", TEXT), ("stock", NUMERIC), ("free", INT8)];
    let row = |sku: &[u8]| vec![Some(sku.to_vec()), None, Some(9_i64.to_be_bytes().into())];
    let script = Script {
        columns,
        rows: vec![row(b"A"), row(b"B")],
        stalls: false,
    };
    let (outcome, _, _) = run(&script, "select * from stock", None).await;
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
async fn a_server_that_falls_silent_is_not_waited_for_longer_than_agreed() {
    let row = vec![Some(b"ART-1".to_vec()), Some(numeric(&[1], 0))];
    let columns = vec![("sku", TEXT), ("stock", NUMERIC)];
    let script = Script {
        columns,
        rows: vec![row],
        stalls: true,
    };
    let began = tokio::time::Instant::now();
    let (outcome, _, _) = run(&script, "select * from stock", None).await;
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
async fn a_column_of_another_type_ends_the_run_at_its_first_row() {
    let columns = vec![("sku", TEXT), ("stock", 16)];
    let row = vec![Some(b"ART-1".to_vec()), Some(vec![1])];
    let script = Script {
        columns,
        rows: vec![row],
        stalls: false,
    };
    let (outcome, entries, _) = run(&script, "select * from stock", None).await;
    let error = outcome.unwrap_err().to_string();
    assert_eq!(
        error,
        "column stock is of type BOOL, it must be a number or text, so cast it in the query"
    );
    assert!(entries.is_empty());
}
