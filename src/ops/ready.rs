//! Whether the push API can be switched off: shop by shop, with reasons.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;

use super::{House, Ops, Shop, starting};
use crate::ingest::Source;
use crate::lifecycle::run_blocking;
use crate::migrator::reconcile::{Class, Survey};
use crate::migrator::{Mode, Report};
use crate::stock::{Hour, Mark, ShopId};

/// What the Market asked for within so long of its last question counts as asked for lately.
const LATELY: TimeDelta = TimeDelta::hours(72);

/// The Market's copy must have been explained whole within this.
const EQUAL_WITHIN: TimeDelta = TimeDelta::hours(24);

/// SKUs named of those that are missing.
const MOST_NAMED: usize = 20;

pub(super) async fn report(State(ops): State<Ops>) -> Response {
    // Looks at every SKU: off the threads that answer the Market.
    run_blocking(move || match ops.house.get() {
        Some(house) => Json(house.readiness()).into_response(),
        None => starting().into_response(),
    })
    .await
}

#[derive(Serialize)]
struct Readiness<'a> {
    now: DateTime<Utc>,
    cutoff: NaiveDate,
    days_to_cutoff: i64,
    /// `GO` if it is so for every shop.
    verdict: &'static str,
    shops: Vec<ShopReadiness<'a>>,
}

#[derive(Serialize)]
struct ShopReadiness<'a> {
    name: &'a str,
    address: &'a str,
    migrate: &'static str,
    /// `GO` or `NOT YET`.
    verdict: &'static str,
    /// What is in the way.
    reasons: Vec<String>,
    /// What is worth knowing and not in the way.
    remarks: Vec<String>,
    coverage: Coverage,
    last_push: Option<DateTime<Utc>>,
    last_equal: Option<DateTime<Utc>>,
    hours_since_equal: Option<i64>,
    dirty: Option<usize>,
    quarantined: usize,
    drifted: u64,
    unknown_to_the_market: u64,
    sources: Vec<Source>,
}

/// How much of what the Market asks for is on the new way.
#[derive(Debug, Default, Serialize)]
struct Coverage {
    /// SKUs the Market asked for lately.
    asked: usize,
    /// Of which the seller has told us.
    in_book: usize,
    /// Of which the Market has acknowledged what the book says.
    acknowledged: usize,
    /// Some of those the seller has not told us of.
    missing: Vec<String>,
    /// There were more unknown SKUs than are remembered: `asked` is too low.
    incomplete: bool,
    #[serde(skip)]
    last_asked: Option<DateTime<Utc>>,
}

impl House {
    fn readiness(&self) -> Readiness<'_> {
        let now = self.clock.now();
        let shops: Vec<_> = self
            .ids()
            .map(|(id, shop)| self.shop_readiness(id, shop))
            .collect();
        let is_go = shops.iter().all(|shop| shop.reasons.is_empty());
        Readiness {
            now,
            cutoff: self.cutoff,
            days_to_cutoff: (self.cutoff - now.date_naive()).num_days(),
            verdict: verdict(is_go),
            shops,
        }
    }

    fn shop_readiness<'a>(&'a self, id: ShopId, shop: &'a Shop) -> ShopReadiness<'a> {
        let now = self.clock.now();
        let coverage = self.coverage(id);
        let report = self.migrator.report(id);
        let survey = self.migrator.survey(id);
        let dirty = report
            .is_some()
            .then(|| self.ledger.count_dirty(id, &self.book));
        let last_equal = survey.as_ref().and_then(|survey| survey.last_equal);
        let facts = Facts {
            now,
            cutoff: self.cutoff,
            mode: shop.mode,
            held: self.held.as_deref(),
            is_cold: self.book.is_cold(id),
            coverage: &coverage,
            report: report.as_ref(),
            survey: survey.as_ref(),
            dirty: dirty.unwrap_or_default(),
            silent_for: now - self.sources.latest(id).map_or(self.started, |(_, at)| at),
            stale_after: self.stale_after,
        };
        let (reasons, remarks) = facts.judge();
        let count = |class: Class| survey.as_ref().map_or(0, |survey| of_class(survey, class));
        ShopReadiness {
            name: &shop.name,
            address: &shop.address,
            migrate: shop.mode.name(),
            verdict: verdict(reasons.is_empty()),
            last_push: self.pushes.last(id).or(coverage.last_asked),
            last_equal,
            hours_since_equal: last_equal.map(|at| (now - at).num_hours()),
            dirty,
            quarantined: report.as_ref().map_or(0, |report| report.quarantined.len()),
            drifted: count(Class::Drifted),
            unknown_to_the_market: count(Class::Unknown),
            sources: self.sources.named(id),
            reasons,
            remarks,
            coverage,
        }
    }

    fn coverage(&self, shop: ShopId) -> Coverage {
        let mut latest: Option<Hour> = None;
        self.book.for_each(shop, |_, entry| {
            latest = latest.max(self.marks.last_asked(shop, entry.id()));
        });
        let strangers = |see: &mut dyn FnMut(&str, &Mark)| {
            self.marks
                .strangers(shop, &self.book, |sku, mark| see(sku.as_str(), mark))
        };
        strangers(&mut |_, mark| latest = latest.max(mark.last_asked()));
        let Some(latest) = latest else {
            return Coverage::default();
        };
        let since = latest.start().to_utc() - LATELY;
        let is_late = |hour: Option<Hour>| hour.is_some_and(|h| h.start().to_utc() >= since);
        let mut found = Coverage {
            last_asked: Some(latest.start().to_utc()),
            ..Coverage::default()
        };
        self.book.for_each(shop, |_, entry| {
            if is_late(self.marks.last_asked(shop, entry.id())) {
                found.in_book += 1;
                let acked = self.ledger.get(shop, entry.id()).level();
                found.acknowledged += usize::from(acked == Some(entry.level()));
            }
        });
        found.asked = found.in_book;
        found.incomplete = strangers(&mut |sku, mark| {
            if is_late(mark.last_asked()) {
                found.asked += 1;
                if found.missing.len() < MOST_NAMED {
                    found.missing.push(sku.to_owned());
                }
            }
        });
        found
    }
}

fn verdict(is_go: bool) -> &'static str {
    if is_go { "GO" } else { "NOT YET" }
}

fn of_class(survey: &Survey, class: Class) -> u64 {
    survey
        .classes
        .get(class.name())
        .copied()
        .unwrap_or_default()
}

/// What a verdict is based on.
struct Facts<'a> {
    now: DateTime<Utc>,
    cutoff: NaiveDate,
    mode: Mode,
    held: Option<&'a str>,
    is_cold: bool,
    coverage: &'a Coverage,
    report: Option<&'a Report>,
    survey: Option<&'a Survey>,
    dirty: usize,
    silent_for: TimeDelta,
    stale_after: TimeDelta,
}

impl Facts<'_> {
    /// What is in the way of switching the push API off, and what is worth knowing besides.
    fn judge(&self) -> (Vec<String>, Vec<String>) {
        let mut reasons = Vec::new();
        let mut remarks = Vec::new();
        if let Some(held) = self.held {
            reasons.push(held.to_owned());
        } else if self.mode != Mode::On {
            reasons.push(format!("migrate is \"{}\": nothing is sent", self.mode));
        }
        if self.is_cold {
            reasons.push("no stock is known yet".to_owned());
        }
        self.judge_coverage(&mut reasons, &mut remarks);
        self.judge_sending(&mut reasons);
        self.judge_copy(&mut reasons, &mut remarks);
        if self.silent_for >= self.stale_after {
            let hours = self.silent_for.num_hours();
            reasons.push(format!("no source has said anything for {hours} h"));
        }
        (reasons, remarks)
    }

    fn judge_coverage(&self, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
        let Coverage {
            asked,
            in_book,
            acknowledged,
            missing,
            incomplete,
            ..
        } = self.coverage;
        if *asked == 0 {
            let text = "the Market has asked for nothing yet: what it needs is not known";
            // After the end nobody asks any more, and whoever starts then cannot wait for it.
            let is_over = self.now.date_naive() > self.cutoff;
            let list = if is_over {
                &mut *remarks
            } else {
                &mut *reasons
            };
            list.push(text.to_owned());
        }
        if in_book < asked {
            let named = missing
                .iter()
                .take(3)
                .map(|sku| format!("'{sku}'"))
                .collect::<Vec<_>>();
            reasons.push(format!(
                "{} of {asked} SKUs the Market asked for lately are not in the book, such as {}",
                asked - in_book,
                named.join(", ")
            ));
        }
        if acknowledged < in_book {
            let waiting = in_book - acknowledged;
            reasons.push(format!(
                "{waiting} SKUs it asked for are not acknowledged as they are now"
            ));
        }
        if *incomplete {
            remarks.push("it asked for more unknown SKUs than are remembered".to_owned());
        }
    }

    fn judge_sending(&self, reasons: &mut Vec<String>) {
        let Some(report) = self.report else { return };
        let aside = report.quarantined.len();
        if self.mode == Mode::On && self.dirty > aside {
            reasons.push(format!("{} SKUs wait to be sent", self.dirty - aside));
        }
        if let Some(first) = report.quarantined.first() {
            reasons.push(format!(
                "the Market refuses {aside} SKUs, such as '{}': {}",
                first.sku, first.reason
            ));
        }
        if report.state == "paused" {
            let why = report.reason.as_deref().unwrap_or("the campaign is paused");
            reasons.push(format!("nothing is sent: {why}"));
        }
    }

    fn judge_copy(&self, reasons: &mut Vec<String>, remarks: &mut Vec<String>) {
        let Some(survey) = self.survey else { return };
        for (class, what) in [
            (
                Class::Drifted,
                "SKUs differ on the Market, and nothing explains it",
            ),
            (
                Class::Unknown,
                "SKUs were taken by the Market and are shown nowhere",
            ),
        ] {
            let count = of_class(survey, class);
            // In a dry run nothing was sent, and that is said already.
            if count > 0 && self.mode == Mode::On {
                reasons.push(format!("{count} {what}"));
            }
        }
        match survey.last_equal {
            _ if self.mode != Mode::On => {}
            Some(at) if self.now - at <= EQUAL_WITHIN => {}
            Some(at) => {
                let hours = (self.now - at).num_hours();
                reasons.push(format!(
                    "the Market's copy was last explained whole {hours} h ago"
                ));
            }
            None => reasons.push(
                "the Market's copy was never read back and explained whole: `stockbridge verify`"
                    .to_owned(),
            ),
        }
        let not_ours = of_class(survey, Class::NotOurs);
        if not_ours > 0 {
            remarks.push(format!(
                "the Market shows {not_ours} SKUs of which the seller never spoke"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(coverage: &'a Coverage, survey: &'a Survey, report: &'a Report) -> Facts<'a> {
        Facts {
            now: "2026-11-20T10:00:00Z".parse().unwrap(),
            cutoff: "2026-12-31".parse().unwrap(),
            mode: Mode::On,
            held: None,
            is_cold: false,
            coverage,
            report: Some(report),
            survey: Some(survey),
            dirty: 0,
            silent_for: TimeDelta::hours(1),
            stale_after: TimeDelta::hours(24),
        }
    }

    fn good() -> (Coverage, Survey, Report) {
        let coverage = Coverage {
            asked: 9,
            in_book: 9,
            acknowledged: 9,
            ..Coverage::default()
        };
        let last_equal = Some("2026-11-20T09:00:00Z".parse().unwrap());
        (
            coverage,
            Survey {
                last_equal,
                ..Survey::default()
            },
            Report::default(),
        )
    }

    #[test]
    fn all_well_is_go() {
        let (coverage, survey, report) = good();
        assert_eq!(
            facts(&coverage, &survey, &report).judge().0,
            Vec::<String>::new()
        );
    }

    #[test]
    fn every_trouble_alone_is_in_the_way_and_named() {
        let (coverage, survey, report) = good();
        let reasons = |facts: Facts<'_>| facts.judge().0.join("; ");
        let base = || facts(&coverage, &survey, &report);
        let drifted = Survey {
            classes: [("drifted", 2)].into(),
            ..survey.clone()
        };
        let old = Survey {
            last_equal: Some("2026-11-18T09:00:00Z".parse().unwrap()),
            ..survey.clone()
        };
        let paused = Report {
            state: "paused",
            reason: Some("revoked".into()),
            ..Report::default()
        };
        let missing = Coverage {
            asked: 10,
            missing: vec!["X".into()],
            ..good().0
        };
        let unacked = Coverage {
            acknowledged: 8,
            ..good().0
        };
        let unasked = Coverage::default();
        for (facts, expected) in [
            (
                Facts {
                    mode: Mode::DryRun,
                    ..base()
                },
                "migrate is \"dry-run\"",
            ),
            (
                Facts {
                    held: Some("another's"),
                    ..base()
                },
                "another's",
            ),
            (
                Facts {
                    is_cold: true,
                    ..base()
                },
                "no stock is known",
            ),
            (Facts { dirty: 3, ..base() }, "3 SKUs wait"),
            (
                Facts {
                    silent_for: TimeDelta::hours(30),
                    ..base()
                },
                "for 30 h",
            ),
            (
                Facts {
                    survey: Some(&drifted),
                    ..base()
                },
                "2 SKUs differ",
            ),
            (
                Facts {
                    survey: Some(&old),
                    ..base()
                },
                "49 h ago",
            ),
            (
                Facts {
                    survey: Some(&Survey::default()),
                    ..base()
                },
                "never read back",
            ),
            (
                Facts {
                    report: Some(&paused),
                    ..base()
                },
                "revoked",
            ),
            (
                Facts {
                    coverage: &missing,
                    ..base()
                },
                "1 of 10 SKUs",
            ),
            (
                Facts {
                    coverage: &unacked,
                    ..base()
                },
                "1 SKUs it asked for",
            ),
            (
                Facts {
                    coverage: &unasked,
                    ..base()
                },
                "asked for nothing yet",
            ),
        ] {
            let told = reasons(facts);
            assert!(told.contains(expected), "{expected:?} is not in {told:?}");
            assert_eq!(told.matches("; ").count(), 0, "{told}");
        }
    }

    #[test]
    fn after_the_end_nobody_asks_and_that_is_only_a_remark() {
        let (_, survey, report) = good();
        let unasked = Coverage::default();
        let late = Facts {
            cutoff: "2026-11-01".parse().unwrap(),
            ..facts(&unasked, &survey, &report)
        };
        let (reasons, remarks) = late.judge();
        assert_eq!((reasons.len(), remarks.len()), (0, 1));
    }
}
