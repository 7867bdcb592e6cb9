//! Validator for the part of OpenAPI that the Market's description uses.
//!
//! A keyword, format or pattern that it does not know is a fault of the description, so that
//! nothing is left unchecked without notice.

use std::collections::BTreeSet;

use chrono::DateTime;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// The one pattern of the description, of `ShopSku`.
const SKU_PATTERN: &str = r"^(?=.*\S.*)[^\x00-\x08\x0A-\x1f\x7f]{1,255}$";

/// One request and its response.
#[derive(Clone, Debug)]
pub(crate) struct RecordedExchange {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) request: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) response: Vec<u8>,
}

impl RecordedExchange {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    fn query(&self) -> impl Iterator<Item = (&str, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (
                name,
                percent_decode_str(value).decode_utf8_lossy().into_owned(),
            )
        })
    }
}

/// An OpenAPI description.
#[derive(Clone, Debug)]
pub(crate) struct OpenApiDescription {
    pub(crate) root: Value,
}

impl OpenApiDescription {
    /// The Market's, of `fixtures/market`.
    pub(crate) fn of_the_market() -> Self {
        let text = include_str!("../../../fixtures/market/openapi-stocks.json");
        Self {
            root: serde_json::from_str(text).unwrap(),
        }
    }

    /// Returns the value at a pointer such as `/paths`.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.root
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer} is not described"))
    }

    /// Every method and path template.
    pub(crate) fn operations(&self) -> Vec<(String, String)> {
        let paths = self.at("/paths").as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, operations)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        });
        operations.collect()
    }

    /// Keywords that the validator does not know, in every schema of the description.
    pub(crate) fn unknown_keywords(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, schema) in self.at("/components/schemas").as_object().unwrap() {
            lint(schema, name, &mut faults);
        }
        for (name, parameter) in self.at("/components/parameters").as_object().unwrap() {
            for member in parameter.as_object().unwrap().keys() {
                let known = [
                    "name",
                    "in",
                    "required",
                    "schema",
                    "x-transform",
                    "x-aliases",
                ];
                if !known.contains(&member.as_str()) && member != "deprecated" {
                    faults.push(format!("{name}: unknown keyword {member}"));
                }
            }
            lint(&parameter["schema"], name, &mut faults);
        }
        faults
    }

    fn operation(&self, exchange: &RecordedExchange) -> Option<&Value> {
        let method = exchange.method.to_lowercase();
        let fits = |template: &str| {
            let (path_parts, template_parts) = (exchange.path().split('/'), template.split('/'));
            path_parts.clone().count() == template_parts.clone().count()
                && path_parts.zip(template_parts).all(|(path_part, part)| {
                    path_part == part || (part.starts_with('{') && path_part.parse::<u64>().is_ok())
                })
        };
        let paths = self.at("/paths").as_object().unwrap().iter();
        paths
            .filter(|(path, _)| fits(path))
            .find_map(|(_, operations)| operations.get(&method))
    }

    /// Returns the differences between a request and its description.
    pub(crate) fn check_request(&self, exchange: &RecordedExchange) -> Vec<String> {
        let Some(operation) = self.operation(exchange) else {
            return vec![format!(
                "{} {} is not described",
                exchange.method,
                exchange.path()
            )];
        };
        let mut faults = Vec::new();
        self.check_query(operation, exchange, &mut faults);
        let described = &operation["requestBody"];
        let schema = &described["content"]["application/json"]["schema"];
        match (exchange.request.as_slice(), described) {
            ([], Value::Null) => {}
            (_, Value::Null) => faults.push("a body is not described".to_owned()),
            ([], _) if described["required"] != true => {}
            (body, _) => match serde_json::from_slice(body) {
                Ok(value) => self.check(schema, &value, "request", &mut faults),
                Err(error) => faults.push(format!("request: {error}")),
            },
        }
        faults
    }

    fn check_query(
        &self,
        operation: &Value,
        exchange: &RecordedExchange,
        faults: &mut Vec<String>,
    ) {
        let parameters: Vec<&Value> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| self.follow(p))
            .collect();
        for (name, value) in exchange.query() {
            let is_match = |parameter: &&&Value| {
                let aliases = parameter["x-aliases"].as_array().into_iter().flatten();
                parameter["in"] == "query"
                    && (parameter["name"] == name || aliases.into_iter().any(|alias| alias == name))
            };
            let Some(parameter) = parameters.iter().find(is_match) else {
                faults.push(format!("query parameter {name} is not described"));
                continue;
            };
            let schema = &parameter["schema"];
            let value = match schema["type"].as_str() {
                Some("integer") => value
                    .parse::<i64>()
                    .map_or(Value::String(value), Value::from),
                Some("array") => Value::Array(vec![Value::String(value)]),
                _ => Value::String(value),
            };
            self.check(schema, &value, name, faults);
        }
    }

    /// Returns the differences between a response and its description. A status without a description,
    /// such as 405, must have the shape of every error.
    pub(crate) fn check_response(&self, exchange: &RecordedExchange) -> Vec<String> {
        let mut faults = Vec::new();
        let described = self
            .operation(exchange)
            .map(|operation| &operation["responses"]);
        let described = described.and_then(|all| all.get(exchange.status.to_string()));
        let error = serde_json::json!({ "$ref": "#/components/schemas/ApiErrorResponse" });
        let schema = match described {
            Some(response) => &self.follow(response)["content"]["application/json"]["schema"],
            None if exchange.status >= 400 => &error,
            None => return vec![format!("status {} is not described", exchange.status)],
        };
        match serde_json::from_slice::<Value>(&exchange.response) {
            Ok(value) => {
                self.check(schema, &value, "response", &mut faults);
                let is_error = value.get("errors").is_some_and(Value::is_array);
                if exchange.status >= 400 && (value["status"] != "ERROR" || !is_error) {
                    faults.push("response: an error must have status ERROR and errors".to_owned());
                }
            }
            Err(error) => faults.push(format!("response: {error}")),
        }
        faults
    }

    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.follow(self.at(reference.trim_start_matches('#'))),
            None => value,
        }
    }

    /// A value against a schema; members that the schema does not list are faults too.
    fn check(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        if schema.is_null() {
            return faults.push(format!("{at}: the schema is missing"));
        }
        lint(schema, at, faults);
        self.check_part(schema, value, at, faults);
        let known = self.members(schema);
        for name in value
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::keys)
        {
            if !known.contains(name.as_str()) {
                faults.push(format!("{at}.{name} is not described"));
            }
        }
    }

    fn members<'a>(&'a self, schema: &'a Value) -> BTreeSet<&'a str> {
        let schema = self.follow(schema);
        let own = schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.keys());
        let parts = schema["allOf"].as_array().into_iter().flatten();
        own.map(String::as_str)
            .chain(parts.flat_map(|part| self.members(part)))
            .collect()
    }

    fn check_part(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.follow(schema);
        if value.is_null() && schema["nullable"] == true {
            return;
        }
        let has_type = match schema["type"].as_str() {
            None => true,
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some(other) => panic!("{at}: unknown type {other}"),
        };
        if !has_type {
            return faults.push(format!("{at} must be of type {}: {value}", schema["type"]));
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check_part(part, value, at, faults);
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            faults.push(format!("{at} must be one of {allowed:?}: {value}"));
        }
        self.check_object(schema, value, at, faults);
        self.check_array(schema, value, at, faults);
        check_scalar(schema, value, at, faults);
    }

    fn check_object(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Some(object) = value.as_object() else {
            return;
        };
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            if !object.contains_key(name) {
                faults.push(format!("{at}.{name} is required"));
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(member) = object.get(name) {
                self.check(schema, member, &format!("{at}.{name}"), faults);
            }
        }
    }

    fn check_array(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let Some(array) = value.as_array() else {
            return;
        };
        let bound = |name: &str| {
            schema[name]
                .as_u64()
                .map(|bound| usize::try_from(bound).unwrap())
        };
        if bound("minItems").is_some_and(|least| array.len() < least)
            || bound("maxItems").is_some_and(|most| array.len() > most)
        {
            faults.push(format!("{at} has {} items", array.len()));
        }
        let texts: BTreeSet<String> = array.iter().map(ToString::to_string).collect();
        if schema["uniqueItems"] == true && texts.len() < array.len() {
            faults.push(format!("{at} has equal items"));
        }
        for (index, item) in array.iter().enumerate() {
            self.check(&schema["items"], item, &format!("{at}[{index}]"), faults);
        }
    }
}

fn check_scalar(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(number) = value.as_f64()
        && (schema["minimum"]
            .as_f64()
            .is_some_and(|least| number < least)
            || schema["maximum"].as_f64().is_some_and(|most| number > most))
    {
        faults.push(format!("{at} is out of range: {value}"));
    }
    let fits = match schema["format"].as_str() {
        None | Some("double") => true,
        Some("int64") => value.as_i64().is_some(),
        Some("int32") => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        Some("date-time") => value
            .as_str()
            .is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok()),
        Some(other) => panic!("{at}: unknown format {other}"),
    };
    if !fits {
        faults.push(format!(
            "{at} must have the format {}: {value}",
            schema["format"]
        ));
    }
    let Some(text) = value.as_str() else { return };
    let chars = text.chars().count() as u64;
    if schema["minLength"]
        .as_u64()
        .is_some_and(|least| chars < least)
        || schema["maxLength"]
            .as_u64()
            .is_some_and(|most| chars > most)
    {
        faults.push(format!("{at} has {chars} characters"));
    }
    if schema["pattern"] == SKU_PATTERN {
        let is_bad = |c: char| (c.is_ascii_control() && c != '\t') || c == '\u{7f}';
        let is_blank = text.chars().all(char::is_whitespace);
        if text.chars().any(is_bad) || is_blank || chars > 255 {
            faults.push(format!("{at} must match the pattern of SKUs: {value}"));
        }
    }
}

/// Keywords of a schema that the validator does not know.
fn lint(schema: &Value, at: &str, faults: &mut Vec<String>) {
    let Some(members) = schema.as_object() else {
        return faults.push(format!("{at}: the schema is not an object"));
    };
    for (keyword, value) in members {
        let is_known = match keyword.as_str() {
            "type" => {
                let types = ["object", "array", "string", "integer", "number", "boolean"];
                value.as_str().is_some_and(|name| types.contains(&name))
            }
            "format" => {
                let formats = ["int32", "int64", "double", "date-time"];
                value.as_str().is_some_and(|name| formats.contains(&name))
            }
            "pattern" => value == SKU_PATTERN,
            // Blanks at both ends are cut off before the other rules apply.
            "x-transform" => value == "trim",
            "$ref" => members.len() == 1,
            "required" | "enum" => value.is_array(),
            "minItems" | "maxItems" | "minLength" | "maxLength" => value.is_u64(),
            "minimum" | "maximum" => value.is_number(),
            "nullable" | "uniqueItems" | "deprecated" => value.is_boolean(),
            "default" => true,
            "items" => {
                lint(value, &format!("{at}[]"), faults);
                true
            }
            "properties" => {
                for (name, schema) in value.as_object().into_iter().flatten() {
                    lint(schema, &format!("{at}.{name}"), faults);
                }
                value.is_object()
            }
            "allOf" => {
                for part in value.as_array().into_iter().flatten() {
                    lint(part, at, faults);
                }
                value.is_array()
            }
            _ => false,
        };
        if !is_known {
            faults.push(format!("{at}: unknown keyword {keyword}: {value}"));
        }
    }
}

#[test]
fn every_keyword_can_fail() {
    use serde_json::json;

    let description = OpenApiDescription {
        root: json!({ "components": { "schemas": {
        "Sku": { "type": "string", "pattern": SKU_PATTERN, "minLength": 1, "maxLength": 255 },
        "Base": { "type": "object", "required": ["status"], "properties": {
            "status": { "type": "string", "enum": ["OK"] } } },
    } } }),
    };
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let numbers = json!({ "type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": true,
        "items": { "type": "integer", "format": "int32", "minimum": 1, "maximum": 9 } });
    let derived = json!({ "allOf": [reference("Base"), { "properties": { "n": numbers } }] });
    for (schema, good, bad) in [
        (
            reference("Sku"),
            json!("A\tё"),
            vec![json!(" "), json!("\n"), json!(1), json!("")],
        ),
        (
            reference("Sku"),
            json!("a".repeat(255)),
            vec![json!("a".repeat(256)), json!("a\u{7f}")],
        ),
        (
            reference("Base"),
            json!({ "status": "OK" }),
            vec![
                json!({}),
                json!({ "status": "ok" }),
                json!({ "status": "OK", "more": 1 }),
                json!({ "status": null }),
                json!(null),
            ],
        ),
        (
            derived,
            json!({ "status": "OK", "n": [1] }),
            vec![
                json!({ "n": [1] }),
                json!({ "status": "OK", "n": [] }),
                json!({ "status": "OK", "n": [1, 1] }),
                json!({ "status": "OK", "n": [1, 2, 3] }),
                json!({ "status": "OK", "n": [0] }),
                json!({ "status": "OK", "n": [10] }),
                json!({ "status": "OK", "n": [1.5] }),
                json!({ "status": "OK", "m": [1] }),
            ],
        ),
        (
            json!({ "type": "string", "format": "date-time" }),
            json!("2026-11-20T10:00:00Z"),
            vec![json!("2026-11-20"), json!("now")],
        ),
        (
            json!({ "type": "integer", "format": "int64" }),
            json!(1),
            vec![json!(u64::MAX)],
        ),
        (
            json!({ "type": "integer", "format": "int32" }),
            json!(1),
            vec![json!(i64::MAX)],
        ),
        (
            json!({ "type": "boolean", "nullable": true }),
            json!(null),
            vec![json!(0)],
        ),
        (json!({ "type": "number" }), json!(1.5), vec![json!("1.5")]),
    ] {
        let faults = |value: &Value| {
            let mut faults = Vec::new();
            description.check(&schema, value, "value", &mut faults);
            faults
        };
        assert_eq!(faults(&good), [""; 0], "{schema}");
        for bad in bad {
            assert!(!faults(&bad).is_empty(), "{schema} {bad}");
        }
    }
    for unknown in [
        json!({ "type": "file" }),
        json!({ "oneOf": [] }),
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "string", "pattern": "^a$" }),
        json!({ "additionalProperties": false }),
        json!({ "allOf": [{ "type": "array", "items": { "not": {} } }] }),
        json!({ "properties": { "a": { "exclusiveMinimum": 1 } } }),
    ] {
        let mut faults = Vec::new();
        lint(&unknown, "schema", &mut faults);
        assert!(!faults.is_empty(), "{unknown}");
    }
}
