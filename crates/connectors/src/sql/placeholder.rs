//! The placeholder `:since`: replaces it with a parameter of the server, outside of quoted text and
//! comments.

use super::cell::Dialect;

/// Placeholder of the watermark of the last run.
const PLACEHOLDER: &str = ":since";

/// Query text in the form that the server expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PreparedQuery {
    /// Text with `$1` or `?` for each `:since`.
    pub(super) query: String,
    /// Number of replaced placeholders.
    pub(super) parameter_count: usize,
}

/// Replaces each `:since` with the server's own parameter.
///
/// Quoted text and comments stay as they are, and so do casts: in `x::since` the second colon does
/// not begin a placeholder.
pub(super) fn replace_placeholders(query: &str, dialect: Dialect) -> PreparedQuery {
    let mut prepared = PreparedQuery {
        query: String::with_capacity(query.len()),
        parameter_count: 0,
    };
    let mut rest = query;
    while !rest.is_empty() {
        if let Some(after) = rest
            .strip_prefix(PLACEHOLDER)
            .filter(|after| !continues_name(after))
        {
            prepared.query.push_str(match dialect {
                Dialect::Postgres => "$1",
                Dialect::MySql => "?",
            });
            prepared.parameter_count += 1;
            rest = after;
            continue;
        }
        let (unchanged, after) = rest.split_at(opaque_length(rest, dialect));
        prepared.query.push_str(unchanged);
        rest = after;
    }
    prepared
}

/// True if `text` continues a name: `:since_when` is not the placeholder.
fn continues_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$')
}

/// Returns the length in bytes of the quoted text, comment, word or character at the start.
fn opaque_length(rest: &str, dialect: Dialect) -> usize {
    let is_mysql = dialect == Dialect::MySql;
    let length_through = |from: &str, end: &str| {
        let found = rest.get(from.len()..).and_then(|inner| inner.find(end));
        found.map_or(rest.len(), |at| from.len() + at + end.len())
    };
    let first_char_length = rest.chars().next().map_or(rest.len(), char::len_utf8);
    if rest.starts_with("::") {
        return 2;
    }
    if rest.starts_with("--") || (is_mysql && rest.starts_with('#')) {
        return length_through("-", "\n");
    }
    if rest.starts_with("/*") {
        return if is_mysql {
            length_through("/*", "*/")
        } else {
            nested_comment_length(rest)
        };
    }
    if rest.starts_with("e'") || rest.starts_with("E'") {
        return 1 + quoted_length(rest.get(1..).unwrap_or_default(), '\'', true);
    }
    if rest.starts_with('\'') {
        return quoted_length(rest, '\'', is_mysql);
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"', is_mysql);
    }
    if is_mysql && rest.starts_with('`') {
        return quoted_length(rest, '`', false);
    }
    if !is_mysql && rest.starts_with('$') {
        return dollar_tag(rest).map_or(first_char_length, |tag| length_through(tag, tag));
    }
    // A word is skipped as a whole, because a letter e before a quote and a dollar sign have a
    // meaning only at the start of a word.
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    if rest.starts_with(is_word) {
        return rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    }
    first_char_length
}

/// Returns the length of a quoted text with its quotes. A doubled quote does not end it; with
/// `has_escapes`, `\'` does not either.
fn quoted_length(rest: &str, quote: char, has_escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, character)) = chars.next() {
        if has_escapes && character == '\\' {
            chars.next();
        } else if character == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + character.len_utf8();
        }
    }
    rest.len()
}

/// Returns `$$` or `$tag$` at the start; `$1` is not a tag.
fn dollar_tag(rest: &str) -> Option<&str> {
    let inner = rest.get(1..)?;
    let name = inner.get(..inner.find('$')?)?;
    let is_tag = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_tag.then(|| rest.get(..name.len() + 2)).flatten()
}

/// Returns the length of a comment including nested comments.
fn nested_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replaces_only_real_placeholders() {
        for (query, expected) in [
            ("select 1", "select 1"),
            ("where at > :since", "where at > $1"),
            (
                "(:since::timestamptz is null or at>:since::timestamptz)",
                "($1::timestamptz is null or at>$1::timestamptz)",
            ),
            ("cast(:since as bigint)", "cast($1 as bigint)"),
            (
                "x::since, :sincere, :since_when, :since2",
                "x::since, :sincere, :since_when, :since2",
            ),
            (
                "':since' || 'it''s :since' || :since",
                "':since' || 'it''s :since' || $1",
            ),
            (
                r"'\' || :since || e'\' :since' || :since",
                r"'\' || $1 || e'\' :since' || $1",
            ),
            (r"name'\' || :since", r"name'\' || $1"),
            (
                "\":since\" \"a\"\":since\" :since",
                "\":since\" \"a\"\":since\" $1",
            ),
            ("-- :since's\n:since -- :since", "-- :since's\n$1 -- :since"),
            (
                "/* :since /* ' */ :since */ :since",
                "/* :since /* ' */ :since */ $1",
            ),
            (
                "$$ :since $$ $q$ $$ :since $q$ :since",
                "$$ :since $$ $q$ $$ :since $q$ $1",
            ),
            ("$1 :since $2", "$1 $1 $2"),
            ("a[1:2] :since", "a[1:2] $1"),
            ("'Склад :since' \u{a0}:since", "'Склад :since' \u{a0}$1"),
            (":since", "$1"),
            ("' :since", "' :since"),
            ("/* :since", "/* :since"),
            ("$$ :since", "$$ :since"),
        ] {
            assert_eq!(
                replace_placeholders(query, Dialect::Postgres).query,
                expected,
                "{query}"
            );
        }
    }

    #[test]
    fn follows_mysql_quotes_and_comments() {
        for (query, expected, count) in [
            ("at > :since or :since is null", "at > ? or ? is null", 2),
            (r"'it\'s :since' :since", r"'it\'s :since' ?", 1),
            ("`a :since` :since", "`a :since` ?", 1),
            ("# :since\n:since", "# :since\n?", 1),
            ("/* /* :since */ :since", "/* /* :since */ ?", 1),
            (r#""\" :since" :since"#, r#""\" :since" ?"#, 1),
            ("$$ :since $$", "$$ ? $$", 1),
        ] {
            let prepared = replace_placeholders(query, Dialect::MySql);
            assert_eq!(
                (prepared.query.as_str(), prepared.parameter_count),
                (expected, count),
                "{query}"
            );
        }
    }

    proptest! {
        #[test]
        fn keeps_the_rest_of_the_query(query in "[a:since'\"$`/*\\-#\n\\\\ ф]{0,40}") {
            for (dialect, parameter) in [(Dialect::Postgres, "$1"), (Dialect::MySql, "?")] {
                let prepared = replace_placeholders(&query, dialect);
                let original_length = prepared.query.len() + prepared.parameter_count * (PLACEHOLDER.len() - parameter.len());
                prop_assert_eq!(original_length, query.len());
                if prepared.parameter_count == 0 {
                    prop_assert_eq!(&prepared.query, &query);
                }
            }
        }
    }
}
