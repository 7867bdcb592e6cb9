//! Reads the settings of a source: policy, reading, rules and guard.

use std::fmt;
use std::time::Duration;

use stock::MAX_COUNT;
use stock_import::delivery_guard::GuardLimits;
use stock_import::formats::Format;
use stock_import::stock_rules::{Adjustments, Combine, ShopRules, SourceRules};
use stock_import::{DecimalMark, DeliveryScope, Quantity, ReadSettings, VariantPolicy};

use super::effective::write_reading;
use super::reader::SettingsReader;
use super::source_kinds::{read_database, read_exchange, read_file, read_handler, read_moysklad};
use super::values::{in_range, parse_name};
use crate::sources::{
    AbsentPolicy, Config, DuplicatePolicy, RULES_NAME, SourceKind, SourceKindName, SourcePolicy,
    SourceWarehouses, files, http_file, operator_files,
};

/// Name of the source of files that are imported by hand.
pub const IMPORT_SOURCE: &str = "import";

/// Upper bound of `buffer` and `zero_below`. A larger number is a typing error.
const MAX_BUFFER: u32 = 1_000_000;

/// Reads the rules of a shop.
pub(super) fn read_rules(reader: &mut SettingsReader<'_>) -> Option<ShopRules> {
    let combine = reader.take("combine", Combine::parse);
    let adjustments = read_adjustments(reader);
    let file = reader.optional_path("overrides_file");
    let overrides = match file.map(|path| operator_files::read_overrides(&path)) {
        None => Default::default(),
        Some(Ok(overrides)) => overrides,
        Some(Err(error)) => {
            reader.add_error(&format!("overrides_file: {error}"));
            return None;
        }
    };
    Some(ShopRules {
        combine: combine?,
        adjustments: adjustments?,
        overrides,
    })
}

fn read_adjustments(reader: &mut SettingsReader<'_>) -> Option<Adjustments> {
    let number_up_to = |max: u32| move |text: &str| text.parse().ok().filter(|n: &u32| *n <= max);
    let buffer = reader.take("buffer", number_up_to(MAX_BUFFER));
    let below = reader.take("zero_below", number_up_to(MAX_BUFFER));
    let cap = reader.optional("cap", number_up_to(MAX_COUNT));
    Some(Adjustments {
        buffer: buffer?,
        zero_below: below?,
        cap,
    })
}

/// Reads one source. `warehouse` is the Market's id of the shop's first warehouse.
pub(super) fn read_source(reader: &mut SettingsReader<'_>, warehouse: u64) -> Option<Config> {
    let name = reader.take("name", |text| {
        parse_name(text).filter(|name| name != RULES_NAME && name != IMPORT_SOURCE)
    });
    let kind = reader.take("kind", |text| {
        let kinds = <SourceKindName as strum::VariantArray>::VARIANTS.iter();
        let mut settable = kinds.filter(|kind| **kind != SourceKindName::Import);
        settable.find(|kind| kind.name() == text).copied()
    });
    let Some(kind) = kind else {
        // The other keys cannot be checked without a kind.
        reader.ignore_remaining();
        return None;
    };
    let policy = read_policy(reader, name, kind);
    let reading = read_reading(reader, kind);
    let source_kind = match kind {
        SourceKindName::File => read_file(reader),
        SourceKindName::Legacy => read_handler(reader, warehouse),
        SourceKindName::Exchange => read_exchange(reader),
        SourceKindName::MoySklad => read_moysklad(
            reader,
            policy.as_ref().map(|policy| &policy.warehouses),
            reading.as_ref(),
        ),
        SourceKindName::Sql => {
            read_database(reader, policy.as_ref().and_then(|policy| policy.scope))
        }
        SourceKindName::Import => None,
    };
    if let (Some(policy), Some(source_kind)) = (&policy, &source_kind)
        && policy.absent == AbsentPolicy::Zero
        && policy.scope != Some(DeliveryScope::Snapshot)
        && !states_scope(source_kind)
    {
        reader.add_error(
            "absent is \"zero\": only a snapshot tells what is absent, so scope must be \
             \"snapshot\", or format \"commerceml\", whose files declare it",
        );
        return None;
    }
    let default = match &source_kind {
        Some(SourceKind::Files(_)) => 5,
        Some(SourceKind::OldHandler { .. }) => 900,
        _ => 300,
    };
    let every = reader
        .optional("every_seconds", in_range(1, 86_400))
        .unwrap_or(default);
    let every = Duration::from_secs(every as u64);
    let (mut policy, reading) = (policy?, reading?);
    policy.read_settings_text = reading_text(&reading);
    if let Some(SourceKind::Sql(sql)) = &source_kind {
        // Another query may return other columns.
        policy.read_settings_text.push_str(&sql.query);
    }
    policy.variants = reading.variants;
    Some(Config {
        policy,
        read_settings: reading,
        poll_interval: every,
        kind: source_kind?,
    })
}

/// Text of the settings by which a source is read. A changed text means changed settings.
fn reading_text(reading: &ReadSettings) -> String {
    struct DisplayReading<'a>(&'a ReadSettings);
    impl fmt::Display for DisplayReading<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_reading(f, self.0)
        }
    }
    DisplayReading(reading).to_string()
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

fn read_policy(
    reader: &mut SettingsReader<'_>,
    name: Option<String>,
    kind: SourceKindName,
) -> Option<SourcePolicy> {
    // For the other kinds the request determines whether the delivery is complete.
    let scope = matches!(
        kind,
        SourceKindName::File | SourceKindName::Exchange | SourceKindName::Sql
    )
    .then(|| read_scope(reader))
    .flatten();
    let absent = reader.take("absent", |text| match text {
        "keep" => Some(AbsentPolicy::Keep),
        "zero" => Some(AbsentPolicy::Zero),
        _ => None,
    });
    let warehouses = reader.list("warehouses", |text| Some(text.trim().to_owned()));
    let warehouses = warehouses.map(|list| match list.as_slice() {
        [] => SourceWarehouses::Unset,
        [single] if single == "*" => SourceWarehouses::All,
        _ => SourceWarehouses::Named(list),
    });
    let places = reader.take("places", |text| match text {
        "sum" => Some(Combine::Sum),
        "minimum" => Some(Combine::Minimum),
        _ => None,
    });
    let pack = reader.take("pack", |text| {
        text.parse().ok().filter(|n| (1..=1_000_000).contains(n))
    });
    let adjustments = read_adjustments(reader);
    let fraction = |text: &str| text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    let min_rows = reader.take("guard_rows", fraction);
    let max_zeroed = reader.take("guard_zeros", fraction);
    let max_rejected = reader.take("guard_bad_rows", fraction);
    let repeats = reader.take("guard_repeats", |text| {
        text.parse().ok().filter(|n: &u32| *n <= 1000)
    });
    let duplicates = reader.optional("duplicates", DuplicatePolicy::from_name);
    // The old handler repeats rows if a batch is requested again. Files do not, and a MoySklad
    // product that is on two pages is read once.
    let duplicates = duplicates.unwrap_or(match kind {
        SourceKindName::Legacy => DuplicatePolicy::Same,
        SourceKindName::File
        | SourceKindName::Exchange
        | SourceKindName::MoySklad
        | SourceKindName::Sql
        | SourceKindName::Import => DuplicatePolicy::Reject,
    });
    let mapping = match reader
        .optional_path("mapping_file")
        .map(|path| operator_files::read_mapping(&path))
    {
        None => Some(Vec::new()),
        Some(Ok(mapping)) => Some(mapping),
        Some(Err(error)) => {
            reader.add_error(&format!("mapping_file: {error}"));
            None
        }
    };
    Some(SourcePolicy {
        name: name?,
        origin: kind.origin(),
        scope,
        absent: absent?,
        warehouses: warehouses?,
        limits: GuardLimits {
            min_rows_ratio: min_rows?,
            max_zeroed_ratio: max_zeroed?,
            max_rejected_ratio: max_rejected?,
            accept_after_repeats: repeats.map(|repeats| (repeats > 0).then_some(repeats))?,
        },
        rules: SourceRules {
            subtracts_reserve: true,
            combine_warehouses: places?,
            pack_size: pack?,
            adjustments: adjustments?,
        },
        mapping: mapping?,
        duplicates,
        read_settings_text: String::new(),
        variants: VariantPolicy::default(),
    })
}

fn read_scope(reader: &mut SettingsReader<'_>) -> Option<DeliveryScope> {
    reader.optional("scope", |text| match text {
        "snapshot" => Some(DeliveryScope::Snapshot),
        "delta" => Some(DeliveryScope::Delta),
        _ => None,
    })
}

fn read_reading(reader: &mut SettingsReader<'_>, kind: SourceKindName) -> Option<ReadSettings> {
    let parse_field = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let sku = reader.optional("sku", parse_field);
    let mut reading = ReadSettings {
        sku,
        ..ReadSettings::default()
    };
    if matches!(
        kind,
        SourceKindName::File | SourceKindName::Exchange | SourceKindName::Sql
    ) {
        reading.quantity = reader.optional("quantity", parse_field);
        reading.reserve = reader.optional("reserve", parse_field);
        reading.warehouse = reader.optional("warehouse", parse_field);
        reading.updated_at = reader.optional("updated_at", parse_field);
    }
    if kind == SourceKindName::File {
        reading.sheet = reader.optional("sheet", parse_field);
        reading.list_path = reader.optional("list", parse_field);
        reading.delimiter = reader.optional("delimiter", |text| match text {
            "semicolon" => Some(b';'),
            "comma" => Some(b','),
            "tab" => Some(b'\t'),
            "bar" => Some(b'|'),
            _ => None,
        });
        reading.encoding = reader.optional("encoding", |text| {
            encoding_rs::Encoding::for_label(text.as_bytes())
        });
    }
    let takes_unended_row = if kind == SourceKindName::File {
        is_second_choice(reader, "unended_row", ["reject", "take"])
    } else {
        Some(false)
    };
    // Numbers of TOML have a decimal point, so quoted ones have it too.
    let words = reader
        .string_map("words", |text| {
            Quantity::parse(text, Some(DecimalMark::Point)).ok()
        })
        .filter(|words| {
            let has_empty = words.iter().any(|(word, _)| word.trim().is_empty());
            if has_empty {
                reader
                    .add_error("words has \"\": set empty = \"zero\" if an empty quantity is zero");
            }
            !has_empty
        });
    let fraction = is_second_choice(reader, "fraction", ["reject", "floor"]);
    let negative = is_second_choice(reader, "negative", ["reject", "zero"]);
    let unavailable = is_second_choice(reader, "unavailable", ["keep", "zero"]);
    let empty = is_second_choice(reader, "empty", ["keep", "zero"]);
    let suspicious_sku = is_second_choice(reader, "suspicious_sku", ["reject", "take"]);
    let single_page = is_second_choice(reader, "single_page", ["reject", "take"]);
    let decimal = reader.optional("decimal", DecimalMark::from_name);
    let variants = if matches!(kind, SourceKindName::File | SourceKindName::Exchange) {
        is_second_choice(reader, "variants", ["reject", "sum"])
    } else {
        Some(false)
    };
    Some(ReadSettings {
        accepts_unterminated_row: takes_unended_row?,
        words: words?,
        floors_fractions: fraction?,
        zeroes_negatives: negative?,
        zeroes_unavailable: unavailable?,
        zeroes_empty_quantities: empty?,
        accepts_suspicious_skus: suspicious_sku?,
        accepts_single_pages: single_page?,
        decimal,
        variants: if variants? {
            VariantPolicy::Sum
        } else {
            VariantPolicy::Reject
        },
        ..reading
    })
}

/// Reads a setting with two values. Returns true for the second one.
pub(super) fn is_second_choice(
    reader: &mut SettingsReader<'_>,
    key: &str,
    words: [&str; 2],
) -> Option<bool> {
    reader
        .take(key, |text| words.iter().position(|word| *word == text))
        .map(|index| index == 1)
}
