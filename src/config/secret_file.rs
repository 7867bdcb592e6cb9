//! Files and variables that contain one token, key or password.

use std::path::Path;

use strict_http::secret::Secret;

/// Reads a file that holds one token or key.
///
/// # Errors
/// The rule that the file breaks, without its name and its contents.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse_secret(&text)
}

pub(super) fn parse_secret(text: &str) -> Result<Secret, String> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "must hold one line of visible ASCII characters without blanks";
        return Err(rule.to_owned());
    }
    Ok(Secret::new(text))
}
