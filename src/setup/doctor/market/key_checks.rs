//! Checks of the permissions of each key.

use market_api::partner::account::AccountError;

use super::error_text;
use super::market_facts::KeyFacts;
use crate::setup::account_probe::{GRANT_LIST_HINT, GRANT_SEND_HINT, one_line, permissions};
use crate::setup::doctor::finding::Finding;

pub(super) fn check_key(facts: &KeyFacts) -> Vec<Finding> {
    let about = match &facts.users[..] {
        [first, others @ ..] if others.len() > 2 => format!("{first} and {} more", others.len()),
        users => users.join(", "),
    };
    let info = match &facts.probe.key {
        Ok(info) => info,
        Err(error) => return vec![key_error(about, error)],
    };
    let has = permissions(info);
    let name = one_line(&info.name);
    let mut findings = Vec::new();
    if facts.sends && !info.may_send() {
        let what = format!("the token «{name}» may not send stock. It has {has}");
        findings.push(Finding::fail(about.clone(), what, GRANT_SEND_HINT));
    } else if !info.may_readback() {
        let what = format!("the token «{name}» may not read stock back. It has {has}");
        findings.push(Finding::fail(about.clone(), what, GRANT_SEND_HINT));
    } else if !info.may_send() {
        let what = format!(
            "the token «{name}» is sufficient for a dry run, but may not send stock. It has {has}"
        );
        findings.push(Finding::warn(about.clone(), what, GRANT_SEND_HINT));
    }
    if !info.may_list_warehouses() {
        let what = format!("the token «{name}» may not list warehouses. It has {has}");
        findings.push(Finding::warn(about.clone(), what, GRANT_LIST_HINT));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            about,
            format!("the token «{name}» works and has all permissions that are needed"),
        ));
    }
    findings
}

fn key_error(about: String, error: &AccountError) -> Finding {
    let todo = if error.is_key_rejected() {
        "create a token in the cabinet, Настройки → API и модули, and write it to the file; a new \
         token takes effect within ten minutes"
    } else {
        match error {
            AccountError::Unreachable(_) => {
                "check the connection from this machine to market_url: DNS, firewall, certificates"
            }
            AccountError::Refused { .. } => "check that market_url is the Market's own address",
            AccountError::Unreadable(_) => {
                "check that market_url is the Market's own address, without a proxy between"
            }
        }
    };
    Finding::fail(about, error_text(error), todo)
}
