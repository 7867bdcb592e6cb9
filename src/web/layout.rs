//! Frame of every page: header, navigation, language switch, search and clock.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use tracing::error;

use super::assets::{ICON, SCRIPT, STYLESHEET};
use super::cell::TitledText;
use super::page_context::PageContext;
use super::page_request::PageRequest;
use super::screen_marks::screen_marks;
use super::shop_health::HealthLevel;
use super::texts::{self, Text};
use crate::i18n::Language;

/// Screen that the navigation leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::VariantArray)]
pub(super) enum Screen {
    Overview,
    Sources,
    Events,
    SwitchOver,
}

impl Screen {
    const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    const fn path_and_title(self) -> (&'static str, Text) {
        match self {
            Self::Overview => ("/", Text::OVERVIEW),
            Self::Events => ("/events", Text::EVENTS),
            Self::Sources => ("/sources", Text::SOURCES),
            Self::SwitchOver => ("/ready", Text::SWITCH_OVER),
        }
    }
}

/// Entry of the navigation.
pub(super) struct NavigationEntry {
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    /// Value of `aria-current`: `page`, or `true` for the screen above this page; empty for others.
    pub(super) current: &'static str,
    /// Worst severity of the facts on that screen, if it is not good.
    pub(super) mark: Option<HealthLevel>,
}

/// Entry of the language switch.
pub(super) struct LanguageLink {
    pub(super) language: Language,
    pub(super) address: String,
    pub(super) is_current: bool,
}

/// Values that the frame of a page shows.
pub(super) struct Layout {
    pub(super) context: PageContext,
    pub(super) has_login: bool,
    /// Name of the replica that serves the page, and a sentence about it.
    pub(super) replica: Option<TitledText>,
    pub(super) title: String,
    pub(super) navigation: Vec<NavigationEntry>,
    pub(super) languages: Vec<LanguageLink>,
    /// Path of the stream that keeps the page current; empty if it has none.
    pub(super) live_path: String,
    /// SKU in the search field.
    pub(super) searched_sku: String,
    /// Shop that the search field prefers; empty for all.
    pub(super) searched_shop: String,
}

impl Layout {
    /// Creates the frame of a screen. The navigation marks the screens with facts that need attention.
    pub(super) fn new(
        page: &PageRequest,
        screen: Screen,
        title: impl Into<String>,
        live_path: impl Into<String>,
    ) -> Self {
        let marks = screen_marks(&page.ops);
        let entry = |other: Screen| {
            let (path, title) = other.path_and_title();
            let severities = marks.iter().filter(|(marked, _)| *marked == other);
            NavigationEntry {
                path,
                title: page.text(title),
                current: if other == screen { "page" } else { "" },
                mark: severities
                    .map(|(_, severity)| *severity)
                    .find(|severity| *severity > HealthLevel::Waiting),
            }
        };
        let separator = if page.address.contains('?') { '&' } else { '?' };
        let link = |other: Language| LanguageLink {
            language: other,
            address: format!("{}{separator}lang={}", page.address, other.code()),
            is_current: other == page.language,
        };
        Self {
            context: page.context(),
            has_login: page.ops.login().is_needed(),
            replica: page.ops.state().and_then(|state| {
                let text = state.replica.clone()?;
                let title = texts::served_by(&text, page.language);
                Some(TitledText { text, title })
            }),
            title: title.into(),
            navigation: Screen::ALL.iter().copied().map(entry).collect(),
            languages: Language::ALL.into_iter().map(link).collect(),
            live_path: live_path.into(),
            searched_sku: String::new(),
            searched_shop: String::new(),
        }
    }

    /// Marks the page as a part of its screen.
    pub(super) fn into_subpage(mut self) -> Self {
        let entries = self.navigation.iter_mut();
        let of_screen = entries.filter(|entry| !entry.current.is_empty());
        of_screen.for_each(|entry| entry.current = "true");
        self
    }

    /// Fills the search field. The shop is preferred among those that have the SKU.
    pub(super) fn with_search(mut self, sku: &str, shop: &str) -> Self {
        // A browser cannot show or send these, and no SKU has one.
        self.searched_sku = sku.replace(char::is_control, "");
        shop.clone_into(&mut self.searched_shop);
        self
    }

    /// Returns a fixed text.
    pub(super) fn t(&self, text: Text) -> &'static str {
        self.context.text(text)
    }

    pub(super) fn style(&self) -> &str {
        &STYLESHEET.path
    }

    pub(super) fn script(&self) -> &str {
        &SCRIPT.path
    }

    pub(super) fn icon(&self) -> &str {
        &ICON.path
    }
}

/// Renders a page. Rendering fails only by an error in a template.
pub(super) fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            error!(error = %error, "failed to render a page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Page while the store is read. It reloads itself.
#[derive(Template)]
#[template(path = "starting.html")]
struct StartingPage {
    language: Language,
}

/// Responds that the store is still being read.
pub(super) fn starting(language: Language) -> Response {
    let page = render(&StartingPage { language });
    (StatusCode::SERVICE_UNAVAILABLE, page).into_response()
}
