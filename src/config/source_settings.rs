//! Makes the configuration of a source from its table: policy, reading, rules and guard.

use std::time::Duration;

use connectors::{files, http_file};
use sha2::{Digest as _, Sha256};
use stock::MAX_COUNT;
use stock_import::delivery_guard::GuardLimits;
use stock_import::formats::Format;
use stock_import::stock_rules::{Adjustments, Combine, SourceRules};
use stock_import::{DecimalMark, DeliveryScope, Quantity, ReadSettings, VariantPolicy};

use super::effective::table_lines;
use super::reader::SettingsReader;
use super::setting_list::{SOURCE_SETTINGS, Setting, SourceTable, find_setting};
use super::source_kinds::{fill_defaults, read_source_kind, unused_settings};
use super::values::{
    FieldName, KeepOrZero, MarketId, RejectOrFloor, RejectOrTake, RejectOrZero, SourceName,
    SumOrMinimum, Whole, value_text,
};
use crate::sources::{
    AbsentPolicy, Config, DuplicatePolicy, SourceKind, SourceKindName, SourcePolicy,
    SourceWarehouses, operator_files,
};

/// Settings by which the data of a source is read, in the order in which the store has them. A
/// change of their values explains a change of the shape of its files.
const READ_SETTINGS: &str = "sku quantity reserve warehouse updated_at sheet list delimiter \
    encoding fraction negative unavailable empty suspicious_sku single_page decimal variants \
    unended_row words";

/// Settings that decide, with [`READ_SETTINGS`], which rows a source has and how they are read. If one
/// of them changes, the source is read again. A new setting must have a default here: values that
/// differ from their defaults are compared, so that an update of this program reads nothing again.
const FURTHER_READ_SETTINGS: &str =
    "kind url scope warehouses format files duplicates stock query watermark";

pub(super) fn adjustments<const MAX: u32>(
    buffer: Whole<0, MAX>,
    zero_below: Whole<0, MAX>,
    cap: Option<Whole<0, MAX_COUNT>>,
) -> Adjustments {
    Adjustments {
        buffer: buffer.0,
        zero_below: zero_below.0,
        cap: cap.map(|cap| cap.0),
    }
}

/// Reads one source. `warehouse` is the Market's id of the shop's first warehouse. Returns `None`
/// after a fault, which is then in `reader`.
pub(super) fn read_source(reader: &mut SettingsReader<'_>, warehouse: MarketId) -> Option<Config> {
    let kind = reader.read_kind::<SourceName, SourceKindName>()?;
    reader.limit_to(kind.name(), unused_settings(kind, reader));
    let mut table = SourceTable::read(reader);
    let words = read_words(reader, &mut table);
    fill_defaults(kind, &mut table, warehouse);
    let mapping_file = table.mapping_file.as_mut();
    let mapping = reader.read_list("mapping_file", mapping_file, operator_files::read_mapping);
    let source_kind = read_source_kind(reader, kind, &mut table);
    let mut comments = Vec::new();
    if !mapping.is_empty() {
        comments.push(format!("and what {} words stand for", mapping.len()));
    }
    match &source_kind {
        Some(SourceKind::OldHandler { skus, .. }) if !skus.is_empty() => {
            comments.push(format!("and {} SKUs to ask for", skus.len()));
        }
        Some(SourceKind::Sql(sql)) => comments.push(format!("database {}", sql.url)),
        _ => {}
    }
    reader.show(&table, comments);
    let source_kind = source_kind?;
    if table.absent == AbsentPolicy::Zero
        && table.scope != Some(DeliveryScope::Snapshot)
        && !states_scope(&source_kind)
    {
        reader.fault(
            "absent",
            " is \"zero\": only a snapshot tells what is absent, so scope must be \"snapshot\", or \
             format \"commerceml\", whose files declare it",
        );
    }
    let mut read_settings_text = read_settings_text(&table);
    if let SourceKind::Sql(sql) = &source_kind {
        // Another query may return other columns.
        read_settings_text.push_str(&sql.query);
    }
    let read_digest = read_digest(&table, &source_kind);
    let every = table.every_seconds?.0;
    Some(Config {
        policy: SourcePolicy {
            mapping,
            read_settings_text,
            ..source_policy(kind, &table)
        },
        read_settings: read_settings(table, words),
        read_digest,
        poll_interval: Duration::from_secs(every.into()),
        kind: source_kind,
    })
}

/// Text of the settings by which a source is read. A changed text means changed settings.
fn read_settings_text(table: &SourceTable) -> String {
    let lines = table_lines(SOURCE_SETTINGS, table);
    // The stored texts lack the defaults of these two.
    let defaults = ["variants = \"reject\"\n", "unended_row = \"reject\"\n"];
    let of_key = |key: &str| {
        let mut lines = lines
            .iter()
            .filter(|line| !defaults.contains(&line.as_str()));
        lines
            .find(|line| line.split(' ').next() == Some(key))
            .cloned()
    };
    READ_SETTINGS.split(' ').filter_map(of_key).collect()
}

/// Returns the digest of the settings by which a source is read.
fn read_digest(table: &SourceTable, source_kind: &SourceKind) -> String {
    let lines = table_lines(SOURCE_SETTINGS, table);
    let is_default = |setting: &Setting, line: &str| {
        let default = setting.default_in_toml();
        default.is_some_and(|default| line == format!("{} = {default}\n", setting.bare_key()))
    };
    let of_key = |key: &str| {
        let setting = find_setting(key, SOURCE_SETTINGS);
        let mut lines = lines.iter().filter(|line| !is_default(setting, line));
        lines.find(|line| line.split(' ').next() == Some(setting.bare_key()))
    };
    let keys = READ_SETTINGS
        .split(' ')
        .chain(FURTHER_READ_SETTINGS.split(' '));
    let mut hash = Sha256::new();
    for line in keys.filter_map(of_key) {
        hash.update(line);
    }
    if let SourceKind::Sql(sql) = source_kind {
        // A watermark belongs to its database. The address has no password, which may change.
        hash.update(sql.url.to_string());
    }
    format!("{:x}", hash.finalize())
}

/// Returns true if each delivery of this kind declares itself a snapshot or a delta.
fn states_scope(source_kind: &SourceKind) -> bool {
    match source_kind {
        SourceKind::Files(files::Config { format, .. })
        | SourceKind::RemoteFile(http_file::Config { format, .. }) => {
            *format == Some(Format::CommerceMl)
        }
        SourceKind::OldHandler { .. } | SourceKind::MoySklad(_) => true,
        SourceKind::Sql(config) => config.watermark.is_none(),
        // Each file of an exchange is only a part of it.
        SourceKind::Exchange(_) | SourceKind::Import => false,
    }
}

/// Policy of a source, without its mapping and without the text of its settings.
fn source_policy(kind: SourceKindName, table: &SourceTable) -> SourcePolicy {
    SourcePolicy {
        name: table.name.0.clone(),
        origin: kind.origin(),
        scope: table.scope,
        absent: table.absent,
        warehouses: source_warehouses(table),
        limits: GuardLimits {
            min_rows_ratio: table.guard_rows.0,
            max_zeroed_ratio: table.guard_zeros.0,
            max_rejected_ratio: table.guard_bad_rows.0,
            accept_after_repeats: Some(table.guard_repeats.0).filter(|repeats| *repeats > 0),
        },
        rules: SourceRules {
            subtracts_reserve: true,
            combine_warehouses: match table.places {
                SumOrMinimum::Sum => Combine::Sum,
                SumOrMinimum::Minimum => Combine::Minimum,
            },
            pack_size: table.pack.0,
            adjustments: adjustments(table.buffer, table.zero_below, table.cap),
        },
        mapping: Vec::new(),
        duplicates: table.duplicates.unwrap_or(DuplicatePolicy::Reject),
        read_settings_text: String::new(),
        variants: table.variants.unwrap_or_default(),
    }
}

pub(super) fn source_warehouses(table: &SourceTable) -> SourceWarehouses {
    match table.warehouses.as_slice() {
        [] => SourceWarehouses::Unset,
        [single] if single.0 == "*" => SourceWarehouses::All,
        names => SourceWarehouses::Named(names.iter().map(|name| name.0.clone()).collect()),
    }
}

/// Reads the quantities of words, and writes them into the table as they are understood.
fn read_words(reader: &mut SettingsReader<'_>, table: &mut SourceTable) -> Vec<(String, Quantity)> {
    let rule = find_setting("words", SOURCE_SETTINGS).rule;
    let mut words = Vec::new();
    for (word, value) in table.words.iter_mut().flatten() {
        if word.trim().is_empty() {
            reader.fault(
                "words",
                " has \"\": set empty = \"zero\" if an empty quantity is zero",
            );
        }
        // Numbers of TOML have a decimal point, so quoted ones have it too.
        let Ok(quantity) = Quantity::parse(&value_text(value), Some(DecimalMark::Point)) else {
            let text = format!(" is {value}: it must be {rule}");
            reader.fault(&format!("words.{word:?}"), &text);
            continue;
        };
        *value = quantity.to_string().into();
        words.push((word.clone(), quantity));
    }
    table.words.take_if(|words| words.is_empty());
    words
}

fn read_settings(table: SourceTable, words: Vec<(String, Quantity)>) -> ReadSettings {
    let text = |field: Option<FieldName>| field.map(|field| field.0);
    ReadSettings {
        sku: text(table.sku),
        quantity: text(table.quantity),
        reserve: text(table.reserve),
        warehouse: text(table.warehouse),
        updated_at: text(table.updated_at),
        sheet: text(table.sheet),
        list_path: text(table.list),
        delimiter: table.delimiter.map(|delimiter| delimiter as u8),
        encoding: table.encoding.map(|encoding| encoding.0),
        words,
        floors_fractions: table.fraction == RejectOrFloor::Floor,
        zeroes_negatives: table.negative == RejectOrZero::Zero,
        zeroes_unavailable: table.unavailable == KeepOrZero::Zero,
        accepts_unterminated_row: table.unended_row == Some(RejectOrTake::Take),
        zeroes_empty_quantities: table.empty == KeepOrZero::Zero,
        decimal: table.decimal,
        accepts_suspicious_skus: table.suspicious_sku == RejectOrTake::Take,
        accepts_single_pages: table.single_page == RejectOrTake::Take,
        variants: table.variants.unwrap_or(VariantPolicy::Reject),
    }
}
