//! English texts of the pages.

use super::Text;

/// Returns a text in English.
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AbsenceNotApplied => "Absent SKUs keep their stock",
        Text::AcceptDelivery => "Accept and apply",
        Text::AcceptLead => {
            "Accepting applies this list. Stock that was stated later stays. There is no undo: a wrong list is corrected by the next delivery. If the list is wrong, accept nothing: the next correct delivery replaces it."
        }
        Text::AcceptRulesLead => {
            "Accepting applies the changed rules to all stock of the sources. If the rules are wrong, correct them in the configuration and restart."
        }
        Text::AcknowledgedColumn => "Last acknowledgement",
        Text::AfterColumn => "After",
        Text::Alarms => "Alarms",
        Text::All => "all",
        Text::AllRowsCsv => "All rows as CSV",
        Text::AllSources => "All sources",
        Text::ChangedColumn => "Changed",
        Text::CheckNotChecked => "not checked yet: an earlier condition is open",
        Text::CommandByApi => "Your program calls the partner API",
        Text::CommandByFile => "Send a file once",
        Text::CommandBySource => "A source in the configuration",
        Text::ComputeAgain => "Compute again",
        Text::ConnectionLive => "live",
        Text::ConnectionLost => "reconnecting; as of",
        Text::Consequence => "What it means",
        Text::Coverage => "Requested by the Market",
        Text::CoverageAcknowledged => "of these acknowledged",
        Text::CoverageKnown => "of these known",
        Text::DeliveryAccepted => "Accepted. The delivery is applied.",
        Text::DeliveryChanged => {
            "Another delivery is held by now, so nothing was applied. This page shows the new one."
        }
        Text::Detail => "Detail",
        Text::DifferingColumn => "Differing",
        Text::Duration => "Duration",
        Text::EventColumn => "Event",
        Text::EventKind => "Kind",
        Text::Events => "Events",
        Text::EventsUnreadable => "The events cannot be read: see the log of the service.",
        Text::Failure => "Failure",
        Text::FeedShop => "How to feed a shop",
        Text::FeedShopLead => {
            "These shops have no stock yet, so the Market gets 503 for them. There are three ways to state it:"
        }
        Text::Filter => "Show",
        Text::HeldFile => "Held file",
        Text::HeldSince => "Held since",
        Text::HeldTimes => "Repeated",
        Text::HeldTitle => "Held for approval",
        Text::HigherKind => "higher",
        Text::KindColumn => "Kind",
        Text::LanguageSwitch => "Language",
        Text::LastDelivery => "Last delivery",
        Text::LastPoll => "Last poll",
        Text::LineColumn => "Line",
        Text::Login => "Log in",
        Text::LoginLead => {
            "This page shows the stock of your shops and needs the operator password (ops_password_file)."
        }
        Text::Logout => "Log out",
        Text::LowerKind => "lower",
        Text::MatchColumn => "Last full match",
        Text::ModeColumn => "Sending",
        Text::ModeDryRun => "dry run",
        Text::ModeOff => "off",
        Text::ModeOn => "on",
        Text::Never => "never",
        Text::NewColumn => "New",
        Text::NewData => "The page has new parts.",
        Text::NewKind => "new",
        Text::Newest => "newest",
        Text::NextPage => "Next page",
        Text::NextPoll => "Next poll",
        Text::NoAlarms => {
            "No alarm is active. If something goes wrong, this place says what it means and what to do."
        }
        Text::NoDelivery => "No delivery since the start of the service.",
        Text::NoEvents => {
            "No events yet. Starts, alarms, deliveries, pauses and actions appear here as they happen."
        }
        Text::NoSources => "No source is configured",
        Text::NoSourcesLead => {
            "If your program calls the partner API, nothing is needed here. Otherwise add a table for each source to the configuration, such as this one for a file, and restart the service:"
        }
        Text::NoStockChanges => "No stock changes.",
        Text::NotPolled => "not polled: it sends its data itself",
        Text::NothingHeld => "Nothing is held for approval.",
        Text::Notices => "Notices",
        Text::NowColumn => "Now",
        Text::Older => "older",
        Text::OutcomeApplied => "applied",
        Text::OutcomeHeld => "held for approval",
        Text::OutdatedColumn => "Older than known",
        Text::Overview => "Overview",
        Text::Password => "Password",
        Text::PollRuns => "now",
        Text::PreviousPage => "Previous page",
        Text::PushColumn => "Last request of the Market",
        Text::ReadNow => "Read now",
        Text::ReadRequested => "The source is read now. The result appears here.",
        Text::ReadinessPending => "The readiness is being computed.",
        Text::ReasonColumn => "Reason",
        Text::RejectedColumn => "Rejected",
        Text::Reload => "Reload",
        Text::Remarks => "Remarks",
        Text::Remedy => "What to do",
        Text::RowColumn => "Row",
        Text::RowRejected => "rejected",
        Text::RowSuspicious => "suspicious",
        Text::RowsColumn => "Rows",
        Text::RowsNotApplied => "Rows that are not applied",
        Text::RulesAccepted => "Accepted. The changed rules are applied.",
        Text::RulesHeld => "Changed rules",
        Text::RulesHeldFirst => {
            "Changed rules of this shop are held too. Decide about them first: the delivery is applied together with them."
        }
        Text::RulesHeldLead => {
            "The rules in the configuration have changed, and they would turn too much stock to zero. Until you accept them, the stock stays as it was."
        }
        Text::Scope => "Completeness",
        Text::ScopeDelta => "changes (delta)",
        Text::ScopeSnapshot => "complete list (snapshot)",
        Text::SeeChanges => "See what would change",
        Text::Shop => "Shop",
        Text::Shops => "Shops",
        Text::SkipToContent => "Skip to the content",
        Text::SkuColumn => "SKU",
        Text::SkusColumn => "SKUs",
        Text::SourceKind => "Kind",
        Text::Sources => "Sources",
        Text::StartingLead => "The service reads its store. This page reloads by itself.",
        Text::StartingTitle => "The service is starting",
        Text::StateColumn => "State",
        Text::StockDate => "Date of the stock",
        Text::SuspiciousColumn => "Suspicious",
        Text::SwitchOver => "Switch-over",
        Text::Time => "Time",
        Text::UnchangedColumn => "Unchanged",
        Text::WaitingColumn => "Waiting to be sent",
        Text::WholeService => "whole service",
        Text::WrongPassword => "This password is wrong.",
        Text::ZeroKind => "to zero",
        Text::ZeroMark => "becomes 0",
        Text::ZeroedColumn => "To zero",
    }
}
