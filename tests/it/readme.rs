//! The README's tables of settings say what the program knows, no more and no less.

use std::path::Path;

use stockbridge::config::{SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting};

/// A row as the table must have it.
fn table_row(setting: &Setting) -> String {
    let default = match setting.default {
        None => "—".to_owned(),
        Some("") => "`\"\"`".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    format!("| `{}` | {default} | {} |", setting.key, setting.rule)
}

fn settings_table(settings: &[Setting]) -> String {
    let rows: String = settings
        .iter()
        .map(|setting| table_row(setting) + "\n")
        .collect();
    format!("| Setting | Default | Must be |\n|---|---|---|\n{rows}")
}

/// The rows under a heading that begin with a setting, blanks between cells evened out.
fn rows_under(readme: &str, heading: &str) -> Vec<String> {
    let section = readme
        .split_once(&format!("\n{heading}\n"))
        .map_or("", |(_, rest)| rest);
    section
        .lines()
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            format!("| {} |", cells.join(" | "))
        })
        .collect()
}

#[test]
fn the_readme_lists_every_setting_with_its_default_and_rule() {
    let tables = [
        ("### The file", SETTINGS),
        ("### Each shop", SHOP_SETTINGS),
        ("### Each source", SOURCE_SETTINGS),
    ];
    let expected: String = tables
        .iter()
        .map(|(heading, list)| format!("{heading}\n\n{}\n", settings_table(list)))
        .collect();
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme-settings.md");
    std::fs::write(&output, &expected).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(file).unwrap();
    let mut faults = Vec::new();
    for (heading, settings) in tables {
        let found = rows_under(&readme, heading);
        let wanted: Vec<String> = settings.iter().map(table_row).collect();
        let missing = wanted.iter().filter(|row| !found.contains(row));
        faults.extend(missing.map(|row| format!("{heading} lacks   {row}")));
        let surplus = found.iter().filter(|row| !wanted.contains(row));
        faults.extend(surplus.map(|row| format!("{heading} has too {row}")));
        if faults.is_empty() && found != wanted {
            faults.push(format!(
                "{heading}: the rows are in another order, or twice"
            ));
        }
    }
    let output = output.display();
    assert!(
        faults.is_empty(),
        "{}\nThe right tables are in {output}",
        faults.join("\n")
    );
}

#[test]
fn no_rule_or_default_would_break_the_table() {
    for setting in SETTINGS.iter().chain(SHOP_SETTINGS).chain(SOURCE_SETTINGS) {
        let text = format!("{}{}", setting.rule, setting.default.unwrap_or_default());
        assert!(!text.contains(['|', '`', '\n']), "{}", setting.key);
    }
}
