//! Settings of each `[[shops.sources]]` table.

use super::Setting;

const ALL_KINDS: &[&str] = &["file", "legacy", "1c", "moysklad", "sql"];

/// Settings of each `[[shops.sources]]` table.
pub const SOURCE_SETTINGS: &[Setting] = &[
    Setting::new(
        "name",
        "1 to 40 of a-z, 0-9, - and _, not rules and not import",
    )
    .effect(
        "Name of the source in logs, metrics, commands and the store. Under a new name it \
             is a new source: what the old one stated is dropped.",
    )
    .example("\"erp\"")
    .kinds(ALL_KINDS),
    Setting::new("kind", "file, legacy, 1c, moysklad or sql")
        .effect(
            "Kind of the source: exports on a disk or web server (file), the handler that the \
             Market calls today (legacy), an exchange that 1C starts (1c), MoySklad (moysklad) \
             or a database (sql).",
        )
        .example("\"file\"")
        .kinds(ALL_KINDS),
    Setting::new(
        "path",
        "file: a file, a directory or a pattern; 1c: the path of its URL",
    )
    .effect(
        "Where the exports are, or the path under which 1C calls this service. A directory \
             is read whole; a pattern such as exports/*.csv selects files.",
    )
    .example("\"exports/stock.csv\"")
    .kinds(&["file", "1c"]),
    Setting::new(
        "url",
        "an http:// or https:// address without user and fragment",
    )
    .effect(
        "Address of an export (file), of the old handler without /stocks (legacy), or of \
             MoySklad if it is not the public one.",
    )
    .example("\"https://shop.example/export.csv\"")
    .kinds(&["file", "legacy", "moysklad"]),
    Setting::new("every_seconds", "a whole number between 1 and 86400")
        .effect(
            "Seconds between two polls. The default is 5 for files of a disk, 900 for legacy \
             and 300 for the others. Lower it to send changes sooner, raise it if the other \
             side limits requests.",
        )
        .example("60")
        .kinds(ALL_KINDS),
    // Meaning of a delivery.
    Setting::new("scope", "snapshot or delta")
        .effect(
            "Meaning of a delivery. A snapshot is the complete list of products, a delta only \
             some of them. Without it CommerceML files are what they declare, other files are \
             deltas, and a query without watermark is a snapshot.",
        )
        .example("\"snapshot\"")
        .kinds(&["file", "1c", "sql"]),
    Setting::new("absent", "keep or zero")
        .default("keep")
        .effect(
            "Stock of a product that a snapshot lacks, if the same source has stated it before. \
             Set zero if products that are sold out disappear from the export.",
        )
        .example("\"zero\"")
        .kinds(ALL_KINDS),
    Setting::new(
        "warehouses",
        "a list of names or ids the source uses, or \"*\" for all",
    )
    .default("")
    .effect(
        "Warehouses of the source that feed this shop, by the names or ids in its data. \
             Needed as soon as the data has several warehouses.",
    )
    .example("[\"Основной склад\"]")
    .kinds(ALL_KINDS),
    // Reading.
    Setting::new(
        "format",
        "csv, sheet (or xlsx, xls), yml, commerceml or json",
    )
    .effect(
        "Format of the file. Without it the format is detected by the contents. Set it to \
             refuse files of other formats.",
    )
    .example("\"csv\"")
    .kinds(&["file"]),
    Setting::new("files", "each or together")
        .effect(
            "Several files of a directory or pattern: each is a delivery of its own, or all \
             together are one. The default is each, for commerceml together.",
        )
        .example("\"together\"")
        .kinds(&["file"]),
    Setting::new("sku", "the name of a column, an element or a key")
        .effect(
            "Field with the SKU. Set it if the header is not recognised, or to choose another \
             field. For moysklad: article, code, externalCode or name.",
        )
        .example("\"article\"")
        .kinds(ALL_KINDS),
    Setting::new("quantity", "the name of a column, an element or a key")
        .effect(
            "Field with the quantity. Set it if the header is not recognised, or if there are \
             several quantities.",
        )
        .example("\"Остаток\"")
        .kinds(&["file", "1c", "sql"]),
    Setting::new("reserve", "the name of a column, an element or a key")
        .effect(
            "Field with reserved pieces. They are subtracted from the quantity. Set it if the \
             quantity still contains what is reserved.",
        )
        .example("\"Резерв\"")
        .kinds(&["file", "1c", "sql"]),
    Setting::new("warehouse", "the name of a column, an element or a key")
        .effect("Field with the warehouse, if the header is not recognised.")
        .example("\"Склад\"")
        .kinds(&["file", "1c", "sql"]),
    Setting::new("updated_at", "the name of a column, an element or a key")
        .effect(
            "Field with the date of the stock. Without it a file has the date of its last \
             change. Set it if the newest of several statements must win by its own date.",
        )
        .example("\"updated_at\"")
        .kinds(&["file", "1c", "sql"]),
    Setting::new("sheet", "the name of a sheet")
        .effect("Sheet of a workbook, if several sheets have products.")
        .example("\"Остатки\"")
        .kinds(&["file"]),
    Setting::new(
        "list",
        "json: the path of the list of products, such as result.items",
    )
    .effect(
        "Path of the list of products in a JSON document, if it is not found or if there \
             are several.",
    )
    .example("\"result.items\"")
    .kinds(&["file"]),
    Setting::new("delimiter", "semicolon, comma, tab or bar")
        .effect("Delimiter of a CSV file. Without it the header decides.")
        .example("\"semicolon\"")
        .kinds(&["file"]),
    Setting::new("encoding", "the name of an encoding, such as windows-1251")
        .effect(
            "Encoding of a text file. Without it the encoding is detected. Set it if the file \
             is refused as uncertain.",
        )
        .example("\"windows-1251\"")
        .kinds(&["file"]),
    Setting::new("fraction", "reject or floor")
        .default("reject")
        .effect(
            "Quantity such as 46,5. floor cuts the fraction off. Use it if goods are counted by \
             weight or length.",
        )
        .example("\"floor\"")
        .kinds(ALL_KINDS),
    Setting::new("negative", "reject or zero")
        .default("reject")
        .effect(
            "Negative quantity. zero accepts it; a total below 0 counts as 0. Use it if more \
             can be reserved or sold than there is.",
        )
        .example("\"zero\"")
        .kinds(ALL_KINDS),
    Setting::new(
        "words",
        "a table of words and the quantities they stand for",
    )
    .effect("Words that stand for quantities. Without an entry a word is rejected.")
    .example("{ \"нет\" = 0, \">10\" = 10 }")
    .kinds(ALL_KINDS),
    Setting::new("unavailable", "keep or zero")
        .default("keep")
        .effect(
            "Product that the file marks as unavailable, disabled or deleted (YML, CommerceML). \
             zero makes it sold out, keep uses its quantity.",
        )
        .example("\"zero\"")
        .kinds(ALL_KINDS),
    Setting::new("unended_row", "reject or take")
        .default("reject")
        .effect(
            "Last row of a CSV file without a line break at its end. Such a file may have been \
             cut. Use take if your program never writes the last line break.",
        )
        .example("\"take\"")
        .kinds(&["file"]),
    Setting::new("empty", "keep or zero")
        .default("keep")
        .effect(
            "Empty quantity, or NULL of a database. keep: the row states nothing. zero: the \
             product is sold out.",
        )
        .example("\"zero\"")
        .kinds(ALL_KINDS),
    Setting::new("decimal", "comma or point")
        .effect(
            "Decimal mark of quantities. Set it if the file is refused because 2,000 may be two \
             or two thousand.",
        )
        .example("\"comma\"")
        .kinds(ALL_KINDS),
    Setting::new("duplicates", "reject, same or sum")
        .effect(
            "Several rows of one SKU at one warehouse. reject refuses them, same accepts equal \
             rows, sum adds them up. The default is reject, for legacy same.",
        )
        .example("\"sum\"")
        .kinds(ALL_KINDS),
    Setting::new("suspicious_sku", "reject or take")
        .default("reject")
        .effect(
            "SKU that looks damaged by a program, such as 5,6E+11 or 01.фев. take accepts it as \
             it is. Use it only if your SKUs really look so.",
        )
        .example("\"take\"")
        .kinds(ALL_KINDS),
    Setting::new("single_page", "reject or take")
        .default("reject")
        .effect(
            "JSON document that says it is one page of a longer list. take accepts it as the \
             whole list.",
        )
        .example("\"take\"")
        .kinds(ALL_KINDS),
    Setting::new("variants", "reject or sum")
        .default("reject")
        .effect(
            "Several variants of a CommerceML product with one article. sum gives the article \
             what all variants have together.",
        )
        .example("\"sum\"")
        .kinds(&["file", "1c"]),
    // Rules.
    Setting::new("places", "sum or minimum")
        .default("sum")
        .effect("How the source's warehouses of one SKU become one number.")
        .example("\"minimum\"")
        .kinds(ALL_KINDS),
    Setting::new("pack", "a whole number between 1 and 1000000")
        .default("1")
        .effect(
            "Pieces in one unit that the shop sells. Quantities are divided by it and rounded \
             down. Use it if the source counts pieces and the Market sells packs.",
        )
        .example("10")
        .kinds(ALL_KINDS),
    Setting::new("buffer", "pieces kept back, a whole number up to 1000000")
        .default("0")
        .effect("Pieces of this source that are subtracted from each SKU and never offered.")
        .example("2")
        .kinds(ALL_KINDS),
    Setting::new("zero_below", "pieces, a whole number up to 1000000")
        .default("0")
        .effect("Smallest number of this source that is offered. A smaller one becomes 0.")
        .example("3")
        .kinds(ALL_KINDS),
    Setting::new("cap", "pieces, a whole number up to 2000000000")
        .effect("Largest number of this source that is offered. A larger one becomes this one.")
        .example("500")
        .kinds(ALL_KINDS),
    Setting::new(
        "mapping_file",
        "a CSV file with the columns source_sku, sku and pack",
    )
    .effect(
        "Translation of the source's names into SKUs. Set it if the source does not use the \
             Market's SKUs, or if one product is sold in several packs.",
    )
    .example("\"mapping.csv\"")
    .kinds(ALL_KINDS),
    // Guard.
    Setting::new("guard_rows", "a number between 0 and 1")
        .default("0.5")
        .effect(
            "Guard against cut exports: a snapshot with fewer rows than this part of the last \
             one is held for approval. 0 switches the rule off.",
        )
        .example("0.8")
        .kinds(ALL_KINDS),
    Setting::new("guard_zeros", "a number between 0 and 1")
        .default("0.3")
        .effect(
            "Guard against empty exports: a delivery that would turn more than this part of the \
             SKUs in stock to zero is held for approval. 1 switches the rule off.",
        )
        .example("0.1")
        .kinds(ALL_KINDS),
    Setting::new("guard_bad_rows", "a number between 0 and 1")
        .default("0.01")
        .effect(
            "Guard against damaged exports: a delivery with a larger part of rejected or \
             suspicious rows is held for approval. 1 switches the rule off.",
        )
        .example("0.05")
        .kinds(ALL_KINDS),
    Setting::new("guard_repeats", "a whole number up to 1000; 0 means never")
        .default("0")
        .effect(
            "Repeats of exactly the same delivery after which a held one is applied without \
             approval. 0 waits for approval for as long as it takes.",
        )
        .example("3")
        .kinds(ALL_KINDS),
    // Connection.
    Setting::new("login", "a name without a colon")
        .effect("User name: of the web server, of MoySklad, or the one that you enter in 1C.")
        .example("\"exchange\"")
        .kinds(&["file", "1c", "moysklad"]),
    Setting::new(
        "password_file",
        "a file that holds the password; at least 8 characters for the kind 1c",
    )
    .effect("Password that belongs to `login`.")
    .example("\"secrets/password\"")
    .kinds(&["file", "1c", "moysklad"]),
    Setting::new("token_file", "a file that holds the token")
        .effect("Token that is sent to the old handler or to MoySklad.")
        .example("\"secrets/token\"")
        .kinds(&["legacy", "moysklad"]),
    Setting::new("token_in", "header or query")
        .default("header")
        .effect(
            "Place of the token in requests to the old handler: the header Authorization, or \
             auth-token in the query.",
        )
        .example("\"query\"")
        .kinds(&["legacy"]),
    Setting::new(
        "ask_warehouse",
        "the Market's id of the warehouse to ask about; without it the shop's first",
    )
    .effect(
        "Warehouse id in requests to the old handler. Set it if the handler knows only one \
             warehouse of the group.",
    )
    .example("569667")
    .kinds(&["legacy"]),
    Setting::new("part_skus", "a whole number between 1 and 1000")
        .default("500")
        .effect(
            "SKUs in one request to the old handler. Lower it if the handler is slow or limits \
             its database query.",
        )
        .example("200")
        .kinds(&["legacy"]),
    Setting::new("parallel", "a whole number between 1 and 8")
        .default("2")
        .effect("Requests to the old handler that run at a time.")
        .example("1")
        .kinds(&["legacy"]),
    Setting::new("skus_file", "a text file with one SKU a line")
        .effect(
            "SKUs to request from the old handler, in addition to those that the Market has \
             requested or shows.",
        )
        .example("\"skus.txt\"")
        .kinds(&["legacy"]),
    Setting::new("stock", "freeStock, quantity or stock")
        .default("freeStock")
        .effect(
            "Number of MoySklad: freeStock is what is not reserved, quantity also counts what \
             is expected, stock is what lies in the warehouse.",
        )
        .example("\"stock\"")
        .kinds(&["moysklad"]),
    Setting::new(
        "database_file",
        "a file that holds a postgres:// or mysql:// address with name and password",
    )
    .effect("Address of the database. Use a login that may only read.")
    .example("\"secrets/database_url\"")
    .kinds(&["sql"]),
    Setting::new("query", "one SELECT with named columns")
        .effect(
            "Query for the stock. Its columns are named sku, quantity and, if needed, reserve, \
             warehouse and updated_at.",
        )
        .example("\"SELECT sku, quantity FROM stock\"")
        .kinds(&["sql"]),
    Setting::new("watermark", "the name of a column")
        .effect(
            "Column of numbers or times by which only changes are read. `:since` in the query \
             is its largest value so far. Use it for a large table.",
        )
        .example("\"changed_at\"")
        .kinds(&["sql"]),
    Setting::new("timeout_seconds", "a whole number between 1 and 86400")
        .default("300")
        .effect("Seconds after which a query is cancelled.")
        .example("60")
        .kinds(&["sql"]),
    Setting::new("max_mib", "a whole number between 1 and 65536")
        .default("1024")
        .effect(
            "Largest exchange that 1C may upload, in MiB as sent. Unpacked it may be ten times \
             as large.",
        )
        .example("4096")
        .kinds(&["1c"]),
];
