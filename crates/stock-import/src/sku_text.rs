//! Reading of a SKU, with detection of the changes that a spreadsheet or a report makes to it.
//!
//! Removed, because only one reading is possible: a formula that spells a text (`="0557722"`), a
//! leading apostrophe, and invisible characters at either end. Suspicious, because the original
//! is lost or unclear: an exponent, decimals of zeros, a date, a spreadsheet error, a cell that was
//! too narrow, grouped digits, invisible characters inside, letters in the wrong encoding.

use encoding_rs::{WINDOWS_1251, WINDOWS_1252};

use super::aliases::is_word_of;
use super::row::RowProblem;

/// Returns true for a character without width. Programs add such characters when text is pasted;
/// people do not type them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Month names as spreadsheets abbreviate them, separated by blanks.
const MONTHS: &str = "\
    янв фев февр мар апр май мая июн июл авг сен сент окт ноя нояб дек jan feb mar apr may jun \
    jul aug sep sept oct nov dec";

/// Full month names, as in some date formats of Excel: `Январь 2026`.
const FULL_MONTHS: &str = "\
    январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь january \
    february march april may june july august september october november december";

/// Reads a SKU. `accepts_suspicious` is the setting `suspicious_sku = "take"`: any text that is
/// left after the marks of a spreadsheet are removed is then a SKU.
///
/// # Errors
/// The text is empty, or it is not certain that it is a SKU.
pub(crate) fn parse(text: &str, accepts_suspicious: bool) -> Result<String, RowProblem> {
    let sku = strip_artifacts(text);
    if sku.is_empty() {
        return Err(RowProblem::Rejected("sku is empty".to_owned()));
    }
    match find_artifact(sku) {
        Some(artifact) if !accepts_suspicious => Err(RowProblem::Suspicious(format!(
            "sku is '{}', which {artifact}: correct it in the file, or set suspicious_sku = \
             \"take\"",
            escape_invisible(sku)
        ))),
        Some(_) | None => Ok(sku.to_owned()),
    }
}

/// Removes the marks that a spreadsheet adds around a text.
pub(crate) fn strip_artifacts(text: &str) -> &str {
    let is_outer = |c: char| c.is_whitespace() || is_invisible(c);
    let trimmed = text.trim_matches(is_outer);
    let formula = trimmed.strip_prefix("=\"");
    let formula = formula.and_then(|rest| rest.strip_suffix('"'));
    let quoted = trimmed.strip_prefix('\'');
    let text = formula
        .filter(|inner| !inner.contains('"'))
        .or(quoted.filter(|rest| !rest.ends_with('\'')))
        .unwrap_or(trimmed);
    text.trim_matches(is_outer)
}

/// Test for a change of a SKU, and the description of the change.
type Artifact = (fn(&str) -> bool, &'static str);

/// Changes that a spreadsheet or a report makes to a SKU. The first one that matches is reported.
const ARTIFACTS: [Artifact; 14] = [
    (
        |sku| sku.contains(is_invisible),
        "has invisible characters inside",
    ),
    (
        |sku| sku.contains('\u{fffd}') || sku.contains("??"),
        "has lost letters",
    ),
    (
        |sku| sku.contains(|c| matches!(c, '\u{300}'..='\u{36f}')),
        "has an accent as a character of its own",
    ),
    (is_misdecoded, "was decoded with the wrong encoding"),
    (is_spreadsheet_error, "is a spreadsheet error"),
    (is_placeholder, "is a placeholder and not a SKU"),
    (is_quoted, "is a text in quotes"),
    (
        |sku| sku.len() >= 2 && sku.bytes().all(|byte| byte == b'#'),
        "is a cell that was too narrow to show its content",
    ),
    (|sku| sku.starts_with('='), "is a formula"),
    (
        is_exponent,
        "is a number in exponent notation that has lost digits",
    ),
    (has_zero_decimals, "a spreadsheet has turned into a number"),
    (
        |sku| is_date(sku) || is_time_of_day(sku),
        "a spreadsheet has turned into a date or a time",
    ),
    (is_total, "looks like the total of a group"),
    (is_grouped, "has grouped digits, as a number in a report"),
];

/// Describes the change that a spreadsheet or a report has made to a SKU; `None` if there is none.
fn find_artifact(sku: &str) -> Option<&'static str> {
    let artifact = ARTIFACTS.iter().find(|(matches, _)| matches(sku));
    artifact.map(|(_, description)| *description)
}

/// Returns true for text in the wrong encoding: `Р‘-1` and `Ð‘-1` are `Б-1` in UTF-8, `Ñòîë-1` is
/// `Стол-1` in windows-1251.
fn is_misdecoded(sku: &str) -> bool {
    if sku.is_ascii() {
        return false;
    }
    let is_russian = |c: char| matches!(c, 'А'..='я' | 'Ё' | 'ё');
    let is_symbol = |c: char| c.is_ascii() || "№«»“”‘’–—°×".contains(c);
    let is_utf_8 = |encoding: &'static encoding_rs::Encoding| {
        let (bytes, _, has_unmappable) = encoding.encode(sku);
        let decoded = std::str::from_utf8(&bytes).unwrap_or_default();
        !has_unmappable
            && decoded.contains(is_russian)
            && decoded.chars().all(|c| is_russian(c) || is_symbol(c))
    };
    // A word of accented letters only is rare in SKUs. A sign such as Ø is a single letter.
    let is_accented = |c: char| matches!(c, 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ');
    let is_accented_word = |word: &str| word.chars().count() > 1 && word.chars().all(is_accented);
    is_utf_8(WINDOWS_1251)
        || is_utf_8(WINDOWS_1252)
        || sku
            .split(|c: char| !c.is_alphabetic())
            .any(is_accented_word)
}

/// Returns true for errors such as `#Н/Д`, `#REF!`, `#DIV/0!`.
fn is_spreadsheet_error(sku: &str) -> bool {
    let Some(name) = sku.strip_prefix('#') else {
        return false;
    };
    let name = name.to_uppercase();
    const ERRORS: &str = "\
        Н/Д N/A ССЫЛКА REF ДЕЛ/0 DIV/0 ЗНАЧ VALUE ИМЯ NAME ПУСТО NULL ЧИСЛО NUM SPILL ПЕРЕНОС \
        CALC ВЫЧИСЛ ССЫЛ ERROR ПЕРЕПОЛНЕНИЕ GETTING_DATA";
    is_word_of(ERRORS, name.trim_end_matches(['!', '?']))
}

/// Returns true for values such as `null`, `н/д`, `(пусто)`, `ИСТИНА`, `-`.
fn is_placeholder(sku: &str) -> bool {
    const WORDS: &str =
        "null none nan nil undefined n/a н/д (пусто) (blank) пусто true false истина ложь - – —";
    is_word_of(WORDS, &sku.to_lowercase())
}

/// Returns true for quotes that a spreadsheet or a program has added: `'TEA-1'`, `"TEA-1"`,
/// `‘0013`.
fn is_quoted(sku: &str) -> bool {
    let is_quote = |c: char| matches!(c, '\'' | '"' | '`' | '‘' | '’' | '“' | '”');
    sku.starts_with(is_quote) && sku.chars().nth(1).is_some()
}

/// Returns true for a time such as `10:30:00`.
fn is_time_of_day(sku: &str) -> bool {
    let parts: Vec<&str> = sku.split(':').collect();
    matches!(parts.len(), 2 | 3) && parts.iter().all(|part| are_digits(part) && part.len() <= 2)
}

/// Returns true for a total such as `Итого: 1 позиция`, `Итого по группе Чай`, `A-1 Итог`.
fn is_total(sku: &str) -> bool {
    let lower = sku.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    match words.as_slice() {
        [first, _, ..] if matches!(*first, "итого" | "всего") => true,
        [_, .., last] => *last == "итог",
        _ => false,
    }
}

/// Returns true if a SKU is digits with leading zeros. A spreadsheet drops the zeros when it turns
/// the text into a number.
pub(crate) fn has_leading_zeros(sku: &str) -> bool {
    let sku = strip_artifacts(sku);
    sku.len() > 1 && sku.starts_with('0') && are_digits(sku)
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for an exponent such as `5.577E+05`, `5,6e+11`, `5E+05`.
fn is_exponent(sku: &str) -> bool {
    let Some((number, power)) = sku.split_once(['E', 'e', 'Е', 'е']) else {
        return false;
    };
    let (whole, decimals) = number.split_once([',', '.']).unwrap_or((number, "0"));
    let is_signed = |power: &str| {
        let digits = power.strip_prefix(['+', '-']);
        digits.is_some_and(|digits| digits.len() >= 2 && are_digits(digits))
    };
    // Without a sign and a point, it may be an ordinary article: `1E5`.
    let is_plain = are_digits(power) && number.contains([',', '.']);
    whole.len() == 1 && are_digits(whole) && are_digits(decimals) && (is_signed(power) || is_plain)
}

/// Returns true for digits with decimals of zeros: `557722.0`, `557722,00`.
fn has_zero_decimals(sku: &str) -> bool {
    let parts = sku.split_once([',', '.']);
    parts.is_some_and(|(whole, decimals)| are_digits(whole) && are_zeros(decimals))
}

fn are_zeros(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte == b'0')
}

/// Returns true for a date such as `01.фев`, `фев.26`, `1-Feb`, `01.02.2026`, `2026-02-01`, with or
/// without a time of day.
fn is_date(sku: &str) -> bool {
    let lower = sku.to_lowercase();
    let is_time = |text: &str| {
        text.contains(':')
            && text.starts_with(|c: char| c.is_ascii_digit())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'z'))
    };
    let day = lower
        .rsplit_once([' ', 't'])
        .filter(|(_, time)| is_time(time))
        .map_or(lower.as_str(), |(day, _)| day);
    let parts: Vec<&str> = day
        .split(['.', '-', '/', ' '])
        .filter(|part| !part.is_empty())
        .collect();
    let is_month = |part: &str| is_word_of(MONTHS, part) || is_word_of(FULL_MONTHS, part);
    let within = |part: &str, least: u32, most: u32, digits: usize| {
        let is_short = are_digits(part) && part.len() <= digits;
        is_short
            && part
                .parse()
                .is_ok_and(|number| (least..=most).contains(&number))
    };
    match parts.as_slice() {
        [one, two] => {
            (within(one, 1, 31, 2) && is_month(two))
                || (is_month(one) && (within(two, 0, 99, 2) || within(two, 1900, 2100, 4)))
        }
        [one, two, three] => {
            let is_year = |part: &str| part.len() == 4 && within(part, 1900, 2100, 4);
            let is_short_year = |part: &str| part.len() == 2 && are_digits(part);
            let is_any_year = |part: &str| is_year(part) || is_short_year(part);
            let is_slashed = day.contains('/') && !day.contains(['-', '.']);
            let is_dotted = day.contains('.') && !day.contains(['-', '/']);
            let (is_first, is_second) = (within(one, 1, 31, 2), within(two, 1, 12, 2));
            let is_month_first = is_slashed && within(one, 1, 12, 2) && within(two, 1, 31, 2);
            let are_padded = |a: &str, b: &str| a.len() == 2 && b.len() == 2;
            (is_first && is_month(two) && is_any_year(three))
                || (is_first && is_second && (two.len() == 2 || is_dotted) && is_year(three))
                || (((is_first && is_second && is_slashed) || is_month_first) && is_any_year(three))
                || (is_first
                    && is_second
                    && is_dotted
                    && are_padded(one, two)
                    && is_short_year(three))
                || (is_year(one) && is_second && within(three, 1, 31, 2) && are_padded(two, three))
        }
        _ => false,
    }
}

/// Returns true for groups of three digits, with or without decimals of zeros: `557 722`,
/// `557,722`, `557'722`. Points between groups do not count: they are common in articles.
fn is_grouped(sku: &str) -> bool {
    let is_group_separator = |c: char| c.is_whitespace() || matches!(c, ',' | '\'' | '’');
    let whole = match sku.rsplit_once([',', '.']) {
        Some((whole, decimals)) if are_zeros(decimals) && whole.contains(is_group_separator) => {
            whole
        }
        Some(_) | None => sku,
    };
    let mut groups = whole.split(is_group_separator);
    let first = groups.next().unwrap_or_default();
    let mut others = groups.peekable();
    others.peek().is_some()
        && first.len() <= 3
        && are_digits(first)
        && others.all(|group| group.len() == 3 && are_digits(group))
}

/// Returns the text with invisible characters as `<U+…>`.
fn escape_invisible(sku: &str) -> String {
    let escape = |c| match c {
        c if is_invisible(c) => format!("<U+{:04X}>", u32::from(c)),
        c => c.to_string(),
    };
    sku.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_unambiguous_artifacts() {
        for (text, sku) in [
            ("=\"0557722\"", "0557722"),
            ("=\"TEA 1\"", "TEA 1"),
            ("'TEA-1", "TEA-1"),
            ("'0557722", "0557722"),
            ("'\u{ad}v", "v"),
            ("=\"\u{200b}A 1\"", "A 1"),
            ("\u{feff}TEA-1", "TEA-1"),
            ("TEA-1\u{200b}", "TEA-1"),
            ("\u{2068}TEA-1\u{2069}", "TEA-1"),
            ("  TEA-1\u{a0}", "TEA-1"),
        ] {
            assert_eq!(parse(text, false), Ok(sku.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn suspects_ambiguous_texts() {
        for text in [
            "5.577E+05",
            "5,577E+11",
            "5E+05",
            "5.577e-05",
            "557722.0",
            "557722,00",
            "01.фев",
            "фев.26",
            "1-Feb",
            "Dec-01",
            "01.02.2026",
            "2026-02-01",
            "2026-02-01 00:00:00",
            "2026-02-01T00:00:00Z",
            "1-Oct",
            "5.57722E11",
            "1.0E7",
            "1/2/2026",
            "12/31/2026",
            "1/2/26",
            "01.02.26",
            "янв 2026",
            "Январь 2026",
            "10:30:00",
            "557,722",
            "1,557,722",
            "557'722",
            "557\u{a0}722,00",
            "#ССЫЛ!",
            "#ERROR!",
            "null",
            "NULL",
            "н/д",
            "(пусто)",
            "-",
            "ИСТИНА",
            "'TEA-1'",
            "''0012",
            "‘0013",
            "`0014",
            "A\u{61c}1",
            "И\u{306}1",
            "\u{fffd}\u{fffd}-1",
            "????-1",
            "Итого: 1 позиция",
            "Итого по группе Чай",
            "A-1 Итог",
            "15-Oct",
            "15-Sept",
            "Oct.26",
            "1-Oct 10:00",
            "A\u{202d}1",
            "1 фев",
            "1.2.2026",
            "#Н/Д",
            "#N/A",
            "#REF!",
            "#ССЫЛКА!",
            "#ИМЯ?",
            "####",
            "########",
            "557\u{a0}722",
            "557 722",
            "1\u{202f}557\u{202f}722",
            "A\u{200b}1",
            "A\u{feff}1",
            "Р‘-1",
            "Р§Р°Р№-1",
            "Ð‘-1",
            "Ñòîë-1",
            "ÁËÞÄÎ 5",
            "=A1&B1",
            "='[1]Лист1'!A1",
        ] {
            let found = parse(text, false);
            assert!(
                matches!(found, Err(RowProblem::Suspicious(_))),
                "{text:?}: {found:?}"
            );
            assert_eq!(
                parse(text, true),
                Ok(strip_artifacts(text).to_owned()),
                "{text:?}"
            );
        }
        assert_eq!(parse("=\"0557722\"", true), Ok("0557722".to_owned()));
    }

    #[test]
    fn keeps_ordinary_skus() {
        for text in [
            "557722",
            "0557722",
            "1E5",
            "E+05",
            "5E+5",
            "55.7E+05",
            "1.5",
            "v1.0",
            "1.0.0",
            ".0",
            "1.",
            "A 1",
            "12 34",
            "1234 567",
            "#1",
            "#TEA",
            "12-34",
            "1-2-3",
            "01.02",
            "15.13.2026",
            "TEA'S",
            "mar-557722",
            "1/2",
            "2026-02",
            "a b c",
            "Б-1",
            "РЁМА-2",
            "Ø10",
            "Größe-3",
            "Süß 1",
            "Crème brûlée",
            "5×10°",
            "№5",
            "К–25",
            "В–12",
            "С—100",
            "Т№5",
            "М®-1",
            "ПІ-12",
            "Ø–10",
        ] {
            assert_eq!(parse(text, false), Ok(text.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn rejects_empty_texts() {
        for text in ["", " ", "=\"\"", "'", "\u{feff}"] {
            let empty = RowProblem::Rejected("sku is empty".to_owned());
            assert_eq!(parse(text, false), Err(empty), "{text:?}");
        }
    }
}
