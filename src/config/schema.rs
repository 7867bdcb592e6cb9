//! JSON Schema of the configuration file, for editors that complete and check TOML.
//!
//! No setting is required in it: each may be in an environment variable instead. It has the types
//! and the texts of the settings; `stockbridge check` has all rules.

use serde_json::{Map, Value, json};

use super::setting_list::{
    NOTIFY_SETTINGS, SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, Setting, parse_toml,
};

/// Returns the schema, of draft 7, which editors support.
#[must_use]
pub fn schema() -> Value {
    let mut shop = table(SHOP_SETTINGS);
    let mut root = table(SETTINGS);
    add_tables(&mut shop, "sources", &table(SOURCE_SETTINGS));
    add_tables(&mut root, "shops", &shop);
    add_tables(&mut root, "notify", &table(NOTIFY_SETTINGS));
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root["title"] = "Configuration of stockbridge".into();
    root
}

fn add_tables(parent: &mut Value, key: &str, table: &Value) {
    parent["properties"][key] = json!({ "type": "array", "items": table });
}

fn table(settings: &[Setting]) -> Value {
    let properties = settings
        .iter()
        .map(|setting| (setting.key.to_owned(), property(setting)));
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties.collect::<Map<_, _>>(),
    })
}

fn property(setting: &Setting) -> Value {
    let mut description = format!("{}\n\nMust be: {}.", setting.effect, setting.rule);
    if !setting.kinds.is_empty() {
        description += &format!("\n\nKinds: {}.", setting.kinds.join(", "));
    }
    let example = json_value(setting.example);
    let mut property = json!({
        "type": type_name(&example),
        "description": description,
        "examples": [example],
    });
    if let Some(default) = setting.default_in_toml() {
        property["default"] = json_value(&default);
    }
    property
}

/// Converts a value in TOML syntax.
fn json_value(text: &str) -> Value {
    serde_json::to_value(parse_toml(text)).expect("a TOML value is a JSON value")
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_each_setting_with_type_and_texts() {
        let schema = schema();
        for (table, settings) in [
            (&schema, SETTINGS),
            (&schema["properties"]["shops"]["items"], SHOP_SETTINGS),
            (&schema["properties"]["notify"]["items"], NOTIFY_SETTINGS),
            (
                &schema["properties"]["shops"]["items"]["properties"]["sources"]["items"],
                SOURCE_SETTINGS,
            ),
        ] {
            assert_eq!(table["additionalProperties"], false);
            for setting in settings {
                let property = &table["properties"][setting.key];
                let description = property["description"].as_str().unwrap();
                assert!(description.contains(setting.rule), "{}", setting.key);
                assert_ne!(property["type"], "null", "{}", setting.key);
            }
        }
        let parallel = &schema["properties"]["shops"]["items"]["properties"]["parallel"];
        assert_eq!(
            (&parallel["type"], &parallel["default"]),
            (&json!("integer"), &json!(2))
        );
    }

    #[test]
    fn defaults_have_the_type_of_their_setting() {
        for setting in [SETTINGS, SHOP_SETTINGS, SOURCE_SETTINGS, NOTIFY_SETTINGS].concat() {
            if let Some(default) = setting.default_in_toml() {
                let types = [json_value(&default), json_value(setting.example)];
                let types = types.map(|value| type_name(&value));
                let is_number = types
                    .iter()
                    .all(|name| ["integer", "number"].contains(name));
                assert!(types[0] == types[1] || is_number, "{}", setting.key);
            }
        }
    }
}
