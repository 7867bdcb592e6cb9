//! English texts of the pages.

use super::Text;

/// Returns a text in English.
pub(super) const fn text(name: Text) -> &'static str {
    match name {
        Text::AcknowledgedColumn => "Last acknowledgement",
        Text::Alarms => "Alarms",
        Text::All => "all",
        Text::CommandByApi => "Your program calls the partner API",
        Text::CommandByFile => "Send a file once",
        Text::CommandBySource => "A source in the configuration",
        Text::ConnectionLive => "live",
        Text::ConnectionLost => "reconnecting; as of",
        Text::Consequence => "What it means",
        Text::Detail => "Detail",
        Text::DifferingColumn => "Differing",
        Text::EventColumn => "Event",
        Text::EventKind => "Kind",
        Text::Events => "Events",
        Text::EventsUnreadable => "The events cannot be read: see the log of the service.",
        Text::FeedShop => "How to feed a shop",
        Text::FeedShopLead => {
            "These shops have no stock yet, so the Market gets 503 for them. There are three ways to state it:"
        }
        Text::Filter => "Show",
        Text::LanguageSwitch => "Language",
        Text::Login => "Log in",
        Text::LoginLead => {
            "This page shows the stock of your shops and needs the operator password (ops_password_file)."
        }
        Text::Logout => "Log out",
        Text::MatchColumn => "Last full match",
        Text::ModeColumn => "Sending",
        Text::ModeDryRun => "dry run",
        Text::ModeOff => "off",
        Text::ModeOn => "on",
        Text::Never => "never",
        Text::NewData => "The page has new parts.",
        Text::Newest => "newest",
        Text::NoAlarms => {
            "No alarm is active. If something goes wrong, this place says what it means and what to do."
        }
        Text::NoEvents => {
            "No events yet. Starts, alarms, deliveries, pauses and actions appear here as they happen."
        }
        Text::Older => "older",
        Text::Overview => "Overview",
        Text::Password => "Password",
        Text::PushColumn => "Last request of the Market",
        Text::RejectedColumn => "Rejected",
        Text::Reload => "Reload",
        Text::Remedy => "What to do",
        Text::Shop => "Shop",
        Text::Shops => "Shops",
        Text::SkipToContent => "Skip to the content",
        Text::SkusColumn => "SKUs",
        Text::StartingLead => "The service reads its store. This page reloads by itself.",
        Text::StartingTitle => "The service is starting",
        Text::StateColumn => "State",
        Text::Time => "Time",
        Text::WaitingColumn => "Waiting to be sent",
        Text::WholeService => "whole service",
        Text::WrongPassword => "This password is wrong.",
    }
}
