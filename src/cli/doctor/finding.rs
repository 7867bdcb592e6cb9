use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// It works, but somebody should look.
    Warn,
    /// It does not work, or will not.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Severity,
    /// What was looked at, and whose it is.
    pub(super) about: String,
    /// What was found.
    pub(super) what: String,
    /// What to do about it.
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
        let (about, what, todo) = (about.into(), what.into(), Some(todo.into()));
        Self {
            level: Severity::Warn,
            about,
            what,
            todo,
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

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
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
    /// The worst of them.
    level: Severity,
    checks: &'a [Finding],
}

/// All findings as one JSON object.
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
    .expect("texts always make JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_for_people_and_one_object_for_machines() {
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
