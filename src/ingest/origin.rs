//! Origin of a statement about stock, with its permanent number and name.

/// Way by which a statement about stock arrived.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Origin {
    /// The seller's program, with a request to a campaign.
    CampaignPut,
    /// The seller's program, with a request to a business.
    BusinessPost,
    /// File or HTTP file source.
    File,
    /// The shop's old handler of the push API.
    OldHandler,
    /// 1C, through its exchange with a site.
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
    pub const ALL: [Self; 8] = [
        Self::CampaignPut,
        Self::BusinessPost,
        Self::File,
        Self::OldHandler,
        Self::Exchange,
        Self::MoySklad,
        Self::Sql,
        Self::Import,
    ];

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
        Self::ALL.into_iter().find(|origin| origin.name() == name)
    }

    /// Returns the name in logs, in the status and in notes of the store. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CampaignPut => "put /v2/campaigns",
            Self::BusinessPost => "post /v3/businesses",
            Self::File => "file",
            Self::OldHandler => "old handler",
            Self::Exchange => "1c exchange",
            Self::MoySklad => "moysklad",
            Self::Sql => "sql",
            Self::Import => "import",
        }
    }
}
