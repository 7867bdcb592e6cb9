//! English texts of the pages.

use super::Text;

/// Returns a text in English.
#[expect(
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "one arm for each text, in the order of the names"
)]
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AbsenceNotApplied => "Absent SKUs keep their stock",
        Text::AbsenceWouldNotApply => "An approval leaves the stock of absent SKUs unchanged",
        Text::AcceptDelivery => "Accept and apply",
        Text::AcceptLead => {
            "Accepting applies this list. Stock that was stated later stays. This cannot be undone: a wrong list is corrected by the next delivery. If the list is wrong, accept nothing: the next correct delivery replaces it."
        }
        Text::AcceptRulesLead => {
            "Accepting applies the changed rules to all stock of the sources. If the rules are wrong, correct them in the configuration and restart."
        }
        Text::AcknowledgedColumn => "Last acknowledgement",
        Text::AcknowledgedSkus => "Acknowledged since the start",
        Text::AddSource => "How to add a source",
        Text::AfterColumn => "After",
        Text::Alarms => "Alarms",
        Text::All => "all",
        Text::AllRowsCsv => "All rows as CSV",
        Text::AllSources => "All sources",
        Text::AttemptsColumn => "Attempts",
        Text::ChangedColumn => "Changed",
        Text::ChartDirtySkus => "SKUs that differ from the acknowledged stock",
        Text::ChartHighest => "Highest",
        Text::ChartLimit => "limit",
        Text::ChartLowest => "Lowest",
        Text::ChartMarketRequests => "Requests of the Market a minute",
        Text::ChartPeriodSwitch => "Period of the charts",
        Text::ChartRequestsSent => "Update requests sent a minute",
        Text::ChartResponseMax => "Response times of the Market",
        Text::ChartResponseMean => "mean",
        Text::ChartSkusSent => "SKUs acknowledged a minute",
        Text::ChartTable => "Values as a table",
        Text::Charts => "Charts",
        Text::ChartsEmpty => "The first values appear a minute after the start.",
        Text::ChartsOfDay => "24 hours",
        Text::ChartsOfWeek => "7 days",
        Text::CheckNotChecked => "not checked yet: an earlier check has not passed",
        Text::ClassColumn => "Class",
        Text::CommandByApi => "Your program calls the partner API",
        Text::CommandByFile => "Send a file once",
        Text::CommandBySource => "A source in the configuration",
        Text::ComputeAgain => "Compute again",
        Text::ConnectionLive => "live",
        Text::ConnectionLost => "reconnecting; as of",
        Text::Consequence => "What it means",
        Text::CountColumn => "Count",
        Text::Coverage => "Requested by the Market",
        Text::CoverageAcknowledged => "of these acknowledged",
        Text::CoverageKnown => "of these known",
        Text::DeliveryAccepted => "Accepted. The delivery is applied.",
        Text::DeliveryChanged => {
            "Another delivery is held by now, so nothing was applied. This page shows the new one."
        }
        Text::Detail => "Detail",
        Text::DifferingColumn => "Differing",
        Text::DirtySkus => "Not acknowledged",
        Text::Duration => "Duration",
        Text::EventKind => "Kind",
        Text::EventQuarantined => "The Market rejected the SKU. It is in quarantine.",
        Text::EventReleased => "The SKU left quarantine.",
        Text::Events => "Events",
        Text::EventsUnreadable => "The events cannot be read: see the log of the service.",
        Text::Examples => "SKUs that are not equal",
        Text::Failure => "Failure",
        Text::FeedShop => "How to feed a shop",
        Text::FeedShopLead => {
            "As long as a shop has no stock, the Market gets status 503. There are three ways to state its stock:"
        }
        Text::Filter => "Show",
        Text::Find => "Find",
        Text::HeldFile => "Held file",
        Text::HeldLink => "look at the held delivery",
        Text::HeldSince => "Source on hold since",
        Text::HeldTimes => "Repeated",
        Text::HeldTitle => "Held for approval",
        Text::HigherKind => "higher",
        Text::InFlightSkus => "In flight",
        Text::KindColumn => "Kind",
        Text::LanguageSwitch => "Language",
        Text::LastDelivery => "Last delivery",
        Text::LastDeliveryColumn => "Last delivery",
        Text::LastPoll => "Last poll",
        Text::LimitRequests => "Limit, requests a minute",
        Text::LimitSkus => "Limit, SKUs a minute",
        Text::LineColumn => "Line",
        Text::Login => "Log in",
        Text::LoginLead => {
            "This page shows the stock of your shops and needs the operator password."
        }
        Text::Logout => "Log out",
        Text::LowerKind => "lower",
        Text::MarketsColumn => "On the Market",
        Text::MatchColumn => "Last full match",
        Text::MeaningColumn => "Meaning",
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
        Text::NextPollColumn => "Next poll",
        Text::NextTryColumn => "Next try",
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
        Text::Numbers => "Numbers",
        Text::Older => "older",
        Text::OpenEvents => "Open the events",
        Text::OpenShop => "Open the shop",
        Text::OpenSource => "Open the source",
        Text::OtherShops => "The same SKU in other shops",
        Text::OursColumn => "In the service",
        Text::OutcomeApplied => "applied",
        Text::OutcomeHeld => "held for approval",
        Text::OutdatedColumn => "Older than known",
        Text::Overview => "Overview",
        Text::Password => "Password",
        Text::PauseSending => "Pause sending",
        Text::PollRuns => "now",
        Text::PreviousPage => "Previous page",
        Text::PushColumn => "Last request of the Market",
        Text::Quarantine => "Quarantine",
        Text::QuarantineEmpty => {
            "The quarantine is empty. SKUs that the Market rejects appear here with its reason."
        }
        Text::QuarantineLead => {
            "The Market rejects these SKUs, so they are sent alone and less often. Correct the cause in the Market’s cabinet or in the catalogue; a changed count is sent at once."
        }
        Text::ReadNow => "Read now",
        Text::ReadNowEffect => {
            "“Read now” polls the source at once. A new delivery is checked and applied as after a scheduled poll."
        }
        Text::ReadRequested => "The source is read now. The result appears here.",
        Text::Readback => "Read-back",
        Text::ReadbackDiffers => "the last read-back found differences",
        Text::ReadbackFailed => "the last read-back failed",
        Text::ReadbackImpossible => "the Market is not called for this shop",
        Text::ReadbackMatches => "the Market’s stock is as it should be",
        Text::ReadbackNever => "not read back yet",
        Text::ReadbackRunning => "a read-back is running",
        Text::ReadinessPending => "The readiness is being computed.",
        Text::ReasonColumn => "Reason",
        Text::RejectedColumn => "Rejected",
        Text::Reload => "Reload",
        Text::Remarks => "Remarks",
        Text::Remedy => "What to do",
        Text::ReservedColumn => "Reserved",
        Text::ResumeSending => "Resume sending",
        Text::RowColumn => "Row",
        Text::RowRejected => "rejected",
        Text::RowSuspicious => "suspicious",
        Text::RowsColumn => "Rows",
        Text::RowsNotApplied => "Rows that are not applied",
        Text::RuleSteps => "How the sources lead to the count",
        Text::RuleStepsEmpty => {
            "No source has stated this SKU. Its stock comes from the partner API, or it is not known."
        }
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
        Text::Search => "Search for a SKU",
        Text::SearchTips => {
            "Enter the whole SKU or its beginning. 0557722 and 557722 are two SKUs."
        }
        Text::SeeChanges => "See what would change",
        Text::Sending => "Sending",
        Text::Shop => "Shop",
        Text::Shops => "Shops",
        Text::SimilarSkus => "Did you mean",
        Text::SinceColumn => "Since",
        Text::SkipToContent => "Skip to the content",
        Text::SkuAcknowledged => "Acknowledged by the Market",
        Text::SkuColumn => "SKU",
        Text::SkuDueAgain => "is sent again",
        Text::SkuInBook => "Stated by the seller",
        Text::SkuNotAcknowledged => "not acknowledged",
        Text::SkuNotReadBack => "not read back yet",
        Text::SkuNotShown => "not shown",
        Text::SkuNotStated => "never stated",
        Text::SkuOnMarket => "Shown by the Market",
        Text::SkuRequested => "Last requested by the Market",
        Text::SkusAlike => "SKUs that are easily confused with it",
        Text::SkusColumn => "SKUs",
        Text::SourceColumn => "Source",
        Text::SourceKind => "Kind",
        Text::SourcePolledNow => "now",
        Text::SourceSendsItself => "sends by itself",
        Text::Sources => "Sources",
        Text::SourcesEmpty => {
            "This shop has no source. Its stock comes through the partner API. A source in the configuration appears here with its deliveries."
        }
        Text::StartingLead => "The service reads its store. This page reloads by itself.",
        Text::StartingTitle => "The service is starting",
        Text::StateColumn => "State",
        Text::StockDate => "Date of the stock",
        Text::SuspiciousColumn => "Suspicious",
        Text::SwitchOver => "Switch-over",
        Text::TickLead => {
            "Tick what you have checked yourself. The ticks are kept in this browser and are printed with the page."
        }
        Text::TimeColumn => "Time",
        Text::TimeLine => "What happened",
        Text::UnchangedColumn => "Unchanged",
        Text::UnknownPath => "This address has no page.",
        Text::UnknownShopLead => "The configuration has these shops:",
        Text::UnknownSkuAdvice => "What to do",
        Text::UnknownSkuCheck => {
            "Compare the spelling with the catalogue: case and leading zeros count."
        }
        Text::UnknownSkuFeed => {
            "State its stock through a source or the partner API. It then appears here within seconds."
        }
        Text::UnknownSkuSource => {
            "If the SKU is right, look at the rows that its source could not apply."
        }
        Text::VerifyEffect => {
            "The Market’s stock will be read and compared with what was sent. SKUs whose update was lost will be sent again; nothing else changes."
        }
        Text::VerifyNow => "Verify now",
        Text::WaitingColumn => "Waiting to be sent",
        Text::Warehouses => "warehouse",
        Text::WholeService => "whole service",
        Text::WorkerDryRun => "dry run: nothing is sent",
        Text::WorkerIdle => "everything is sent",
        Text::WorkerPaused => "paused until the cause is fixed",
        Text::WorkerWaiting => "waiting; no action is needed",
        Text::WrongPassword => "This password is wrong.",
        Text::ZeroKind => "to zero",
        Text::ZeroMark => "becomes 0",
        Text::ZeroedColumn => "To zero",
    }
}
