//! Values on the pages.

use super::shop_health::HealthLevel;
use super::visible::{cut, visible};
use crate::i18n::Language;

/// Value of a page that may change while the page is open.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cell {
    /// Id of the element; empty for a value that stays.
    pub(super) id: String,
    pub(super) text: String,
    pub(super) severity: Option<HealthLevel>,
    /// Exact form of a rounded value, for the title of the element.
    pub(super) title: String,
}

impl Cell {
    pub(super) fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            ..Self::default()
        }
    }

    pub(super) fn with_severity(self, severity: impl Into<Option<HealthLevel>>) -> Self {
        Self {
            severity: severity.into(),
            ..self
        }
    }

    /// Creates a number, which has the severity unless it is 0.
    pub(super) fn count(
        id: impl Into<String>,
        n: u64,
        severity: HealthLevel,
        language: Language,
    ) -> Self {
        Self::new(id, language.number(n)).with_severity(Some(severity).filter(|_| n > 0))
    }

    /// Creates a value with a title.
    pub(super) fn titled(id: impl Into<String>, text: TitledText) -> Self {
        Self {
            title: text.title,
            ..Self::new(id, text.text)
        }
    }

    pub(super) fn severity_name(&self) -> &'static str {
        self.severity.map_or("", HealthLevel::name)
    }
}

/// Value with its name.
pub(super) struct NamedCell {
    pub(super) name: &'static str,
    pub(super) cell: Cell,
}

/// Short text, and the whole one for the title of its element.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TitledText {
    pub(super) text: String,
    pub(super) title: String,
}

impl From<String> for TitledText {
    fn from(text: String) -> Self {
        let title = String::new();
        Self { text, title }
    }
}

impl TitledText {
    /// Cuts hostile text to so many characters. The title has the whole text if it is cut.
    pub(super) fn cut(text: &str, max_chars: usize) -> Self {
        let title = visible(text);
        let text = cut(&title, max_chars);
        if text == title {
            return text.into();
        }
        Self { text, title }
    }
}
