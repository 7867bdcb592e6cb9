//! Hostile text made visible: control, bidirectional and zero-width characters are replaced.

/// Returns a text in which each character without a shape is shown as `⟨U+202E⟩`.
///
/// Spaces at the ends are shown too, because a SKU with one differs from a SKU without. The result
/// still has to be escaped for HTML.
pub(super) fn visible(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let start = text.len() - text.trim_start_matches(' ').len();
    let end = text.len() - start - inner.len();
    let mut shown = String::with_capacity(text.len());
    shown.extend(std::iter::repeat_n('␠', start));
    for c in inner.chars() {
        if is_invisible(c) {
            shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    if !inner.is_empty() {
        shown.extend(std::iter::repeat_n('␠', end));
    }
    shown
}

/// Cuts a text to so many characters; a cut one ends with `…`.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Returns true for characters that have no shape or change the order of others.
fn is_invisible(c: char) -> bool {
    crate::telemetry::is_unprintable(c)
        || (c.is_whitespace() && c != ' ')
        || matches!(
            c,
            '\u{fe00}'..='\u{fe0f}' | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters() {
        for (text, expected) in [
            ("", ""),
            ("абв", "абв"),
            ("абвг", "абв…"),
            ("😀😀😀😀", "😀😀😀…"),
        ] {
            assert_eq!(cut(text, 3), expected);
        }
    }

    #[test]
    fn shows_characters_without_a_shape() {
        for (text, expected) in [
            ("БОЛТ М5", "БОЛТ М5"),
            ("", ""),
            (" A  ", "␠A␠␠"),
            ("  ", "␠␠"),
            ("a\u{202e}b", "a⟨U+202E⟩b"),
            ("a\0b\tc\nd", "a⟨U+0000⟩b⟨U+0009⟩c⟨U+000A⟩d"),
            ("a\u{a0}b\u{200b}", "a⟨U+00A0⟩b⟨U+200B⟩"),
            ("<b>&", "<b>&"),
            ("\u{3164}", "⟨U+3164⟩"),
        ] {
            assert_eq!(visible(text), expected, "{text:?}");
        }
    }
}
