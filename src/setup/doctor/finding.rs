//! Result of one check of the doctor, as a line of text and as JSON.

use std::fmt;

use serde::Serialize;

/// Severity of a finding, in ascending order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, strum::Display)]
#[serde(rename_all = "UPPERCASE")]
#[strum(serialize_all = "UPPERCASE")]
pub(super) enum Severity {
    /// Nothing to do.
    Ok,
    /// Works now, but needs attention.
    Warn,
    /// Does not work, or will stop working.
    Fail,
}

/// Result of one check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Severity,
    /// Subject of the check, such as `api_key of moscow`.
    pub(super) about: String,
    /// Result in a sentence.
    pub(super) what: String,
    /// Remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) todo: Option<String>,
}

impl Finding {
    pub(super) fn ok(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            level: Severity::Ok,
            about: about.into(),
            what: what.into(),
            todo: None,
        }
    }

    pub(super) fn warn(
        about: impl Into<String>,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            level: Severity::Warn,
            todo: Some(todo.into()),
            ..Self::ok(about, what)
        }
    }

    pub(super) fn fail(
        about: impl Into<String>,
        what: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            level: Severity::Fail,
            ..Self::warn(about, what, todo)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            level,
            about,
            what,
            todo,
        } = self;
        write!(f, "{level:<4}  {about}: {what}")?;
        todo.as_ref().map_or(Ok(()), |todo| write!(f, " -> {todo}"))
    }
}

#[derive(Serialize)]
struct DoctorReport<'a> {
    /// Highest severity of all checks.
    level: Severity,
    checks: &'a [Finding],
}

/// Returns all findings as one JSON object.
pub(super) fn to_json(findings: &[Finding]) -> String {
    let level = findings
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Severity::Ok);
    serde_json::to_string_pretty(&DoctorReport {
        level,
        checks: findings,
    })
    .expect("strings always serialize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_is_a_line_and_a_json_object() {
        let findings = [Finding::ok("a", "well"), Finding::warn("b", "odd", "look")];
        let lines = findings.each_ref().map(ToString::to_string);
        assert_eq!(lines, ["OK    a: well", "WARN  b: odd -> look"]);
        let json: serde_json::Value = serde_json::from_str(&to_json(&findings)).unwrap();
        assert_eq!(
            (json["level"].as_str(), json["checks"][0].get("todo")),
            (Some("WARN"), None)
        );
        assert_eq!(json["checks"][1]["about"], "b");
    }
}
