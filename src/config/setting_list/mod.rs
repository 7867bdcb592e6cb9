//! Every setting: its key, default, rule, effect and an example.
//!
//! The types of the tables, error texts, the template of `stockbridge config template`, the schema
//! and the reference in `docs/configuration.md` are made from these lists, so they cannot disagree.

/// Defines the settings of a table: a constant list of them, and the type of the table, which is
/// read from the file and printed.
///
/// Each setting has its effect as documentation, then `key: type, "rule"` and further properties
/// of [`Setting`].
macro_rules! settings {
    (
        $(#[$list_doc:meta])+
        $list:ident for $table:ident;
        $(
            $(#[doc = $effect:literal])+
            $key:ident: $type:ty, $rule:literal $(.$property:ident($($value:expr),*))+;
        )+
    ) => {
        $(#[$list_doc])+
        pub const $list: &[Setting] = &[$(
            Setting::new(stringify!($key), $rule, concat!($($effect),+).trim_ascii_start())
                $(.$property($($value),*))+,
        )+];

        /// One table with its values.
        #[derive(serde::Serialize)]
        pub(in crate::config) struct $table {
            $(pub(in crate::config) $key: $type,)+
        }

        impl $table {
            pub(in crate::config) fn read(reader: &mut SettingsReader<'_>) -> Self {
                Self { $($key: reader.field(stringify!($key)),)+ }
            }
        }
    };
}

mod notify;
mod service;
mod shop;
mod source;

pub use self::notify::NOTIFY_SETTINGS;
pub(super) use self::notify::{ChannelKindName, ChannelTable};
pub use self::service::SETTINGS;
pub(super) use self::service::ServiceTable;
pub use self::shop::SHOP_SETTINGS;
pub(super) use self::shop::ShopTable;
pub use self::source::SOURCE_SETTINGS;
pub(super) use self::source::SourceTable;

/// Minimum length of a secret that the seller chooses. A shorter one can be guessed over a network.
pub(super) const MIN_CHOSEN_SECRET_CHARS: usize = 8;

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
    /// Minimum length of the secret that the file contains, or an environment variable that is
    /// named without `_FILE`. `None` for other settings.
    pub min_secret_chars: Option<usize>,
    /// True if a reload applies a new value. The other settings need a restart.
    pub is_live: bool,
    /// True if each replica may have another value: a setting of one machine, or the path of a file whose
    /// content is compared instead.
    pub is_per_machine: bool,
}

impl Setting {
    const fn new(key: &'static str, rule: &'static str, effect: &'static str) -> Self {
        Self {
            key,
            default: None,
            rule,
            effect,
            example: "",
            kinds: &[],
            is_required: false,
            min_secret_chars: None,
            is_live: false,
            is_per_machine: false,
        }
    }

    const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
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

    const fn secret(mut self) -> Self {
        self.min_secret_chars = Some(1);
        self
    }

    const fn live(mut self) -> Self {
        self.is_live = true;
        self
    }

    const fn per_machine(mut self) -> Self {
        self.is_per_machine = true;
        self
    }

    const fn chosen_secret(mut self) -> Self {
        self.min_secret_chars = Some(MIN_CHOSEN_SECRET_CHARS);
        self
    }

    /// Key without the `_file` of a secret: in messages, and in names of environment variables.
    pub(super) fn bare_key(&self) -> &'static str {
        let bare = self.key.strip_suffix("_file");
        bare.filter(|_| self.min_secret_chars.is_some())
            .unwrap_or(self.key)
    }

    /// Returns true if all replicas of a database must have the same value. Secrets are not compared.
    pub(super) fn is_shared(&self) -> bool {
        !self.is_per_machine && self.min_secret_chars.is_none()
    }

    /// Returns true if the value is a list.
    pub(super) fn is_list(&self) -> bool {
        self.example.starts_with('[')
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

/// Parses a value in TOML syntax: an example or a default.
pub(super) fn parse_toml(text: &str) -> toml::Value {
    let document = format!("value = {text}").parse::<toml::Table>();
    let value = document
        .ok()
        .and_then(|mut document| document.remove("value"));
    value.expect("examples and defaults are TOML")
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
