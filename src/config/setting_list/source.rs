//! Settings of each `[[shops.sources]]` table.

use market_api::push::client::TokenLocation;
use stock::MAX_COUNT;
use stock_import::{DecimalMark, DeliveryScope, VariantPolicy};

use super::Setting;
use crate::config::reader::SettingsReader;
use crate::config::values::{
    CsvDelimiter, EachOrTogether, FieldName, FileFormat, FilePath, KeepOrZero, LoginName, MarketId,
    MoySkladStock, RejectOrFloor, RejectOrTake, RejectOrZero, SecretText, Share, SourceName,
    SumOrMinimum, TextEncoding, TrimmedText, WebUrl, Whole,
};
use crate::sources::{AbsentPolicy, DuplicatePolicy, SourceKindName};

const FILE: &str = SourceKindName::File.name();
const LEGACY: &str = SourceKindName::Legacy.name();
const EXCHANGE: &str = SourceKindName::Exchange.name();
const MOYSKLAD: &str = SourceKindName::MoySklad.name();
const SQL: &str = SourceKindName::Sql.name();
const ALL: &[&str] = &[FILE, LEGACY, EXCHANGE, MOYSKLAD, SQL];

settings! {
    /// Settings of each `[[shops.sources]]` table.
    SOURCE_SETTINGS for SourceTable;

    /// Name of the source in logs, metrics, commands and the store. Under a new name it is a new
    /// source: what the old one stated is dropped.
    name: SourceName, "1 to 40 of a-z, 0-9, - and _, not rules and not import"
        .example("\"erp\"").kinds(ALL);
    /// Kind of the source: exports on a disk or web server (file), the handler that the Market
    /// calls today (legacy), an exchange that 1C starts (1c), MoySklad (moysklad) or a database
    /// (sql).
    kind: SourceKindName, "file, legacy, 1c, moysklad or sql".example("\"file\"").kinds(ALL);
    /// Where the exports are, or the path under which 1C calls this service. A directory is read
    /// whole; a pattern such as exports/*.csv selects files.
    path: Option<FilePath>, "file: a file, a directory or a pattern; 1c: the path of its URL"
        .example("\"exports/stock.csv\"").kinds(&[FILE, EXCHANGE]);
    /// Address of an export (file), of the old handler without /stocks (legacy), or of MoySklad if
    /// it is not the public one.
    url: Option<WebUrl>, "an http:// or https:// address without user and fragment"
        .example("\"https://shop.example/export.csv\"").kinds(&[FILE, LEGACY, MOYSKLAD]);
    /// Seconds between two polls. The default is 5 for files of a disk, 900 for legacy and 300 for
    /// the others. Lower it to send changes sooner, raise it if the other side limits requests.
    every_seconds: Option<Whole<1, 86_400>>, "a whole number between 1 and 86400"
        .example("60").kinds(ALL);
    // Meaning of a delivery.
    /// Meaning of a delivery. A snapshot is the complete list of products, a delta only some of
    /// them. Without it CommerceML files are what they declare, other files are deltas, and a query
    /// without watermark is a snapshot.
    scope: Option<DeliveryScope>, "snapshot or delta"
        .example("\"snapshot\"").kinds(&[FILE, EXCHANGE, SQL]);
    /// Stock of a product that a snapshot lacks, if the same source has stated it before. Set zero
    /// if products that are sold out disappear from the export.
    absent: AbsentPolicy, "keep or zero".default("keep").example("\"zero\"").kinds(ALL).live();
    /// Warehouses of the source that feed this shop, by the names or ids in its data. Needed as
    /// soon as the data has several warehouses.
    warehouses: Vec<TrimmedText>, "a list of names or ids the source uses, or \"*\" for all"
        .default("").example("[\"Основной склад\"]").kinds(ALL);
    // Reading.
    /// Format of the file. Without it the format is detected by the contents. Set it to refuse
    /// files of other formats.
    format: Option<FileFormat>, "csv, sheet (or xlsx, xls), yml, commerceml or json"
        .example("\"csv\"").kinds(&[FILE]);
    /// Several files of a directory or pattern: each is a delivery of its own, or all together are
    /// one. The default is each, for commerceml together.
    files: Option<EachOrTogether>, "each or together".example("\"together\"").kinds(&[FILE]);
    /// Field with the SKU. Set it if the header is not recognised, or to choose another field. For
    /// moysklad: article, code, externalCode or name.
    sku: Option<FieldName>, "the name of a column, an element or a key"
        .example("\"article\"").kinds(ALL);
    /// Field with the quantity. Set it if the header is not recognised, or if there are several
    /// quantities.
    quantity: Option<FieldName>, "the name of a column, an element or a key"
        .example("\"Остаток\"").kinds(&[FILE, EXCHANGE, SQL]);
    /// Field with reserved pieces. They are subtracted from the quantity. Set it if the quantity
    /// still contains what is reserved.
    reserve: Option<FieldName>, "the name of a column, an element or a key"
        .example("\"Резерв\"").kinds(&[FILE, EXCHANGE, SQL]);
    /// Field with the warehouse, if the header is not recognised.
    warehouse: Option<FieldName>, "the name of a column, an element or a key"
        .example("\"Склад\"").kinds(&[FILE, EXCHANGE, SQL]);
    /// Field with the date of the stock. Without it a file has the date of its last change. Set it
    /// if the newest of several statements must win by its own date.
    updated_at: Option<FieldName>, "the name of a column, an element or a key"
        .example("\"updated_at\"").kinds(&[FILE, EXCHANGE, SQL]);
    /// Sheet of a workbook, if several sheets have products.
    sheet: Option<FieldName>, "the name of a sheet".example("\"Остатки\"").kinds(&[FILE]);
    /// Path of the list of products in a JSON document, if it is not found or if there are several.
    list: Option<FieldName>, "json: the path of the list of products, such as result.items"
        .example("\"result.items\"").kinds(&[FILE]);
    /// Delimiter of a CSV file. Without it the header decides.
    delimiter: Option<CsvDelimiter>, "semicolon, comma, tab or bar"
        .example("\"semicolon\"").kinds(&[FILE]);
    /// Encoding of a text file. Without it the encoding is detected. Set it if the file is refused
    /// as uncertain.
    encoding: Option<TextEncoding>, "the name of an encoding, such as windows-1251"
        .example("\"windows-1251\"").kinds(&[FILE]);
    /// Quantity such as 46,5. floor cuts the fraction off. Use it if goods are counted by weight or
    /// length.
    fraction: RejectOrFloor, "reject or floor".default("reject").example("\"floor\"").kinds(ALL);
    /// Negative quantity. zero accepts it; a total below 0 counts as 0. Use it if more can be
    /// reserved or sold than there is.
    negative: RejectOrZero, "reject or zero".default("reject").example("\"zero\"").kinds(ALL);
    /// Words that stand for quantities. Without an entry a word is rejected.
    words: Option<toml::Table>, "a table of words and the quantities they stand for"
        .example("{ \"нет\" = 0, \">10\" = 10 }").kinds(ALL);
    /// Product that the file marks as unavailable, disabled or deleted (YML, CommerceML). zero
    /// makes it sold out, keep uses its quantity.
    unavailable: KeepOrZero, "keep or zero".default("keep").example("\"zero\"").kinds(ALL);
    /// Last row of a CSV file without a line break at its end. Such a file may have been cut. Use
    /// take if your program never writes the last line break.
    unended_row: Option<RejectOrTake>, "reject or take"
        .default("reject").example("\"take\"").kinds(&[FILE]);
    /// Empty quantity, or NULL of a database. keep: the row states nothing. zero: the product is
    /// sold out.
    empty: KeepOrZero, "keep or zero".default("keep").example("\"zero\"").kinds(ALL);
    /// Decimal mark of quantities. Set it if the file is refused because 2,000 may be two or two
    /// thousand.
    decimal: Option<DecimalMark>, "comma or point".example("\"comma\"").kinds(ALL);
    /// Several rows of one SKU at one warehouse. reject refuses them, same accepts equal rows, sum
    /// adds them up. The default is reject, for legacy same.
    duplicates: Option<DuplicatePolicy>, "reject, same or sum".example("\"sum\"").kinds(ALL);
    /// SKU that looks damaged by a program, such as 5,6E+11 or 01.фев. take accepts it as it is.
    /// Use it only if your SKUs really look so.
    suspicious_sku: RejectOrTake, "reject or take".default("reject").example("\"take\"").kinds(ALL);
    /// JSON document that says it is one page of a longer list. take accepts it as the whole list.
    single_page: RejectOrTake, "reject or take".default("reject").example("\"take\"").kinds(ALL);
    /// Several variants of a CommerceML product with one article. sum gives the article what all
    /// variants have together.
    variants: Option<VariantPolicy>, "reject or sum"
        .default("reject").example("\"sum\"").kinds(&[FILE, EXCHANGE]);
    // Rules.
    /// How the source's warehouses of one SKU become one number.
    places: SumOrMinimum, "sum or minimum".default("sum").example("\"minimum\"").kinds(ALL).live();
    /// Pieces in one unit that the shop sells. Quantities are divided by it and rounded down. Use
    /// it if the source counts pieces and the Market sells packs.
    pack: Whole<1, 1_000_000>, "a whole number between 1 and 1000000"
        .default("1").example("10").kinds(ALL).live();
    /// Pieces of this source that are subtracted from each SKU and never offered.
    buffer: Whole<0, 1_000_000>, "pieces kept back, a whole number up to 1000000"
        .default("0").example("2").kinds(ALL).live();
    /// Smallest number of this source that is offered. A smaller one becomes 0.
    zero_below: Whole<0, 1_000_000>, "pieces, a whole number up to 1000000"
        .default("0").example("3").kinds(ALL).live();
    /// Largest number of this source that is offered. A larger one becomes this one.
    cap: Option<Whole<0, MAX_COUNT>>, "pieces, a whole number up to 2000000000"
        .example("500").kinds(ALL).live();
    /// Translation of the source's names into SKUs. Set it if the source does not use the Market's
    /// SKUs, or if one product is sold in several packs.
    mapping_file: Option<FilePath>, "a CSV file with the columns source_sku, sku and pack"
        .example("\"mapping.csv\"").kinds(ALL).live().per_machine();
    // Guard.
    /// Guard against cut exports: a snapshot with fewer rows than this part of the last one is held
    /// for approval. 0 switches the rule off.
    guard_rows: Share<0>, "a number between 0 and 1"
        .default("0.5").example("0.8").kinds(ALL).live();
    /// Guard against empty exports: a delivery that would turn more than this part of the SKUs in
    /// stock to zero is held for approval. 1 switches the rule off.
    guard_zeros: Share<0>, "a number between 0 and 1"
        .default("0.3").example("0.1").kinds(ALL).live();
    /// Guard against damaged exports: a delivery with a larger part of rejected or suspicious rows
    /// is held for approval. 1 switches the rule off.
    guard_bad_rows: Share<0>, "a number between 0 and 1"
        .default("0.01").example("0.05").kinds(ALL).live();
    /// Repeats of exactly the same delivery after which a held one is applied without approval. 0
    /// waits for approval for as long as it takes.
    guard_repeats: Whole<0, 1_000>, "a whole number up to 1000; 0 means never"
        .default("0").example("3").kinds(ALL).live();
    // Connection.
    /// User name: of the web server, of MoySklad, or the one that you enter in 1C.
    login: Option<LoginName>, "a name without a colon"
        .example("\"exchange\"").kinds(&[FILE, EXCHANGE, MOYSKLAD]);
    /// Password that belongs to `login`.
    password_file: Option<SecretText>,
        "a file that holds the password; at least 8 characters for the kind 1c"
        .example("\"secrets/password\"").kinds(&[FILE, EXCHANGE, MOYSKLAD]).secret();
    /// Token that is sent to the old handler or to MoySklad.
    token_file: Option<SecretText>, "a file that holds the token"
        .example("\"secrets/token\"").kinds(&[LEGACY, MOYSKLAD]).secret();
    /// Place of the token in requests to the old handler: the header Authorization, or auth-token
    /// in the query.
    token_in: Option<TokenLocation>, "header or query"
        .default("header").example("\"query\"").kinds(&[LEGACY]);
    /// Warehouse id in requests to the old handler. Set it if the handler knows only one warehouse
    /// of the group.
    ask_warehouse: Option<MarketId>,
        "the Market's id of the warehouse to ask about; without it the shop's first"
        .example("569667").kinds(&[LEGACY]);
    /// SKUs in one request to the old handler. Lower it if the handler is slow or limits its
    /// database query.
    part_skus: Option<Whole<1, 1_000>>, "a whole number between 1 and 1000"
        .default("500").example("200").kinds(&[LEGACY]);
    /// Requests to the old handler that run at a time.
    parallel: Option<Whole<1, 8>>, "a whole number between 1 and 8"
        .default("2").example("1").kinds(&[LEGACY]);
    /// SKUs to request from the old handler, in addition to those that the Market has requested or
    /// shows.
    skus_file: Option<FilePath>, "a text file with one SKU a line"
        .example("\"skus.txt\"").kinds(&[LEGACY]).per_machine();
    /// Number of MoySklad: freeStock is what is not reserved, quantity also counts what is
    /// expected, stock is what lies in the warehouse.
    stock: Option<MoySkladStock>, "freeStock, quantity or stock"
        .default("freeStock").example("\"stock\"").kinds(&[MOYSKLAD]);
    /// Address of the database. Use a login that may only read.
    database_file: Option<SecretText>,
        "a file that holds a postgres:// or mysql:// address with name and password"
        .example("\"secrets/database_url\"").kinds(&[SQL]).secret();
    /// Query for the stock. Its columns are named sku, quantity and, if needed, reserve, warehouse
    /// and updated_at.
    query: Option<String>, "one SELECT with named columns"
        .example("\"SELECT sku, quantity FROM stock\"").kinds(&[SQL]);
    /// Column of numbers or times by which only changes are read. `:since` in the query is its
    /// largest value so far. Use it for a large table.
    watermark: Option<String>, "the name of a column".example("\"changed_at\"").kinds(&[SQL]);
    /// Seconds after which a query is cancelled.
    timeout_seconds: Option<Whole<1, 86_400>>, "a whole number between 1 and 86400"
        .default("300").example("60").kinds(&[SQL]);
    /// Largest exchange that 1C may upload, in MiB as sent. Unpacked it may be ten times as large.
    max_mib: Option<Whole<1, 65_536>>, "a whole number between 1 and 65536"
        .default("1024").example("4096").kinds(&[EXCHANGE]);
}
