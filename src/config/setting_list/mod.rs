//! Every setting: its key, default, rule, effect and an example.
//!
//! Error texts, the template of `stockbridge config template` and the reference in
//! `docs/configuration.md` are made from these lists, so they cannot disagree.

mod notify;
mod service;
mod shop;
mod source;

pub use self::notify::NOTIFY_SETTINGS;
pub use self::service::SETTINGS;
pub use self::shop::SHOP_SETTINGS;
pub use self::source::SOURCE_SETTINGS;

/// One setting of a table in the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Key in the file. In upper case it is the end of the environment variable's name.
    pub key: &'static str,
    /// Default, without TOML quotes. `None` if the setting is required, if it is optional
    /// without a default, or if its default depends on the kind of source or channel.
    pub default: Option<&'static str>,
    /// Values that are accepted, as in "it must be …".
    pub rule: &'static str,
    /// Effect of the setting, and when to change it.
    pub effect: &'static str,
    /// Value in TOML syntax that keeps the rule.
    pub example: &'static str,
    /// Kinds of source or channel that accept the setting. Empty outside `[[shops.sources]]` and
    /// `[[notify]]`.
    pub kinds: &'static [&'static str],
    /// True if the template sets the key: it is required in an ordinary configuration.
    pub is_required: bool,
}

impl Setting {
    const fn new(key: &'static str, rule: &'static str) -> Self {
        Self {
            key,
            default: None,
            rule,
            effect: "",
            example: "",
            kinds: &[],
            is_required: false,
        }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    const fn effect(mut self, effect: &'static str) -> Self {
        self.effect = effect;
        self
    }

    const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    const fn kinds(mut self, kinds: &'static [&'static str]) -> Self {
        self.kinds = kinds;
        self
    }

    const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// The default in TOML syntax, of the same type as the example.
    #[must_use]
    pub fn default_in_toml(&self) -> Option<String> {
        let default = self.default?;
        Some(match self.example.as_bytes().first() {
            Some(b'"') => format!("{default:?}"),
            Some(b'[') if default.is_empty() => "[]".to_owned(),
            _ => default.to_owned(),
        })
    }
}

/// Returns the setting with this key.
///
/// # Panics
/// If the list has no such setting.
pub(super) fn find_setting(key: &str, settings: &'static [Setting]) -> &'static Setting {
    settings
        .iter()
        .find(|setting| setting.key == key)
        .expect("every setting is in its list")
}
