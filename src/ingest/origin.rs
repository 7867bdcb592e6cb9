//! Origin of a statement about stock, with its permanent number and name.

use serde::{Deserialize, Serialize};

/// Way by which a statement about stock arrived.
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Origin {
    /// The seller's program, with a request to a campaign.
    #[serde(rename = "put /v2/campaigns")]
    #[strum(serialize = "put /v2/campaigns")]
    CampaignPut,
    /// The seller's program, with a request to a business.
    #[serde(rename = "post /v3/businesses")]
    #[strum(serialize = "post /v3/businesses")]
    BusinessPost,
    /// File or HTTP file source.
    File,
    /// The shop's old handler of the push API.
    #[serde(rename = "old handler")]
    #[strum(serialize = "old handler")]
    OldHandler,
    /// 1C, through its exchange with a site.
    #[serde(rename = "1c exchange")]
    #[strum(serialize = "1c exchange")]
    Exchange,
    /// `MoySklad`.
    MoySklad,
    /// SQL database.
    Sql,
    /// File that an operator imported by hand.
    Import,
}

impl Origin {
    /// All origins, each at the index of its number.
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the number in activity and history. It is on disk and never changes.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the origin with that number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Returns the origin with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Returns the name in logs, in the status and in notes of the store. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}
