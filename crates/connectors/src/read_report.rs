//! Report of a connector about a delivery, and the completeness of the delivery.
//!
//! [`Completeness`] decides between the format, the settings and the kind of source whether a
//! delivery is a snapshot.

use stock_import::formats::FileSummary;
use stock_import::shape_change::RecordedShape;
use stock_import::{DeliveryScope, VariantListing};

/// Completeness of a delivery, as far as the connector knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Completeness {
    /// Unknown: the settings decide.
    Unknown,
    /// Declared by the format. The settings may override it.
    Declared(DeliveryScope),
    /// Certain. The settings cannot override it.
    Certain(DeliveryScope),
    /// One file of an exchange with 1C. It is always a delta, because an export may have several
    /// files.
    ExchangeFile {
        /// Completeness that the file declares.
        declared: Option<DeliveryScope>,
        /// True if its name has a number: it may be one of several files of an export.
        is_numbered: bool,
    },
}

impl Completeness {
    /// Returns the scope; `configured` is the setting.
    #[must_use]
    pub fn scope(self, configured: Option<DeliveryScope>) -> DeliveryScope {
        match self {
            Self::Certain(scope) => scope,
            Self::Declared(scope) => configured.unwrap_or(scope),
            Self::Unknown => configured.unwrap_or(DeliveryScope::Delta),
            Self::ExchangeFile { .. } => DeliveryScope::Delta,
        }
    }

    /// Returns the variants that the delivery lists; `configured` is the setting of the scope.
    #[must_use]
    pub fn listing(self, configured: Option<DeliveryScope>) -> VariantListing {
        let (declared, is_numbered) = match self {
            Self::Certain(_) | Self::Declared(_) | Self::Unknown => {
                (Some(self.scope(configured)), false)
            }
            Self::ExchangeFile {
                declared,
                is_numbered,
            } => (declared, is_numbered),
        };
        match declared {
            Some(DeliveryScope::Snapshot) if is_numbered => VariantListing::Partial,
            Some(DeliveryScope::Snapshot) => VariantListing::Complete,
            Some(DeliveryScope::Delta) | None => VariantListing::Changes,
        }
    }
}

impl From<Option<DeliveryScope>> for Completeness {
    fn from(declared: Option<DeliveryScope>) -> Self {
        declared.map_or(Self::Unknown, Self::Declared)
    }
}

/// Report of a connector after it has sent all rows.
#[derive(Clone, Debug)]
pub struct ReadReport {
    /// Completeness of the delivery.
    pub completeness: Completeness,
    /// Shapes of its files.
    pub shapes: Vec<RecordedShape>,
    /// Notices for the operator.
    pub notices: Vec<String>,
}

impl ReadReport {
    /// Creates a report about files, in the order in which they were read.
    #[must_use]
    pub fn from_files(completeness: Completeness, summaries: Vec<FileSummary>) -> Self {
        let shapes = summaries
            .iter()
            .map(|summary| RecordedShape::from(&summary.shape))
            .collect();
        let notices = summaries
            .into_iter()
            .flat_map(|summary| summary.notices)
            .collect();
        Self {
            completeness,
            shapes,
            notices,
        }
    }
}

impl<C: Into<Completeness>> From<C> for ReadReport {
    fn from(completeness: C) -> Self {
        Self {
            completeness: completeness.into(),
            shapes: Vec::new(),
            notices: Vec::new(),
        }
    }
}
