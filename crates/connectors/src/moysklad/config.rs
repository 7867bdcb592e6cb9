//! Settings of a MoySklad source.

use strict_http::secret::Secret;
use strict_http::{ClientConfig, Trust};

use super::REQUEST_TIMEOUT;

/// Base URL of the service.
const BASE_URL: &str = "https://api.moysklad.ru/api/remap/1.2";

/// Credentials for the service.
#[derive(Clone, Debug)]
pub enum MoySkladCredentials {
    /// Token, sent as `Bearer`.
    Token(Secret),
    /// User name and password, sent as `Basic`.
    Password {
        /// User name.
        login: String,
        /// Password.
        password: Secret,
    },
}

/// Stores whose stock counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreSelection {
    /// All stores, added up by the service, including reserves without a store.
    Total,
    /// The stores with these ids, each as its own warehouse.
    ///
    /// Reserves without a store are rows without a store id. They are ignored, because the store
    /// that will serve them is not known yet.
    Named(Vec<String>),
}

/// Kind of stock to read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StockType {
    /// Physical stock less reserves.
    #[default]
    Free,
    /// Physical stock and stock in transit, less reserves.
    Available,
    /// Physical stock.
    Physical,
}

impl StockType {
    /// Returns the name on the wire, in queries and in rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "freeStock",
            Self::Available => "quantity",
            Self::Physical => "stock",
        }
    }

    /// Returns the value with this wire name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Free, Self::Available, Self::Physical]
            .into_iter()
            .find(|it| it.name() == name)
    }
}

/// Field of a product that contains the SKU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "camelCase")]
pub enum SkuField {
    /// The article. Variants of a product have none.
    #[default]
    Article,
    /// The code.
    Code,
    /// The external code.
    ExternalCode,
    /// The name of the product.
    Name,
}

impl SkuField {
    /// Returns the name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the value with this wire name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

/// Settings of a MoySklad source.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL before `/entity` and `/report`; by default that of the public service.
    pub base_url: String,
    /// Credentials.
    pub credentials: MoySkladCredentials,
    /// Stores whose stock counts.
    pub stores: StoreSelection,
    /// Kind of stock to read.
    pub stock_type: StockType,
    /// Field that contains the SKU.
    pub sku_field: SkuField,
}

impl Config {
    /// Creates settings for the free stock of all stores, with the article as SKU.
    #[must_use]
    pub fn new(credentials: MoySkladCredentials) -> Self {
        Self {
            base_url: BASE_URL.to_owned(),
            credentials,
            stores: StoreSelection::Total,
            stock_type: StockType::default(),
            sku_field: SkuField::default(),
        }
    }

    /// Returns the settings of an HTTP client that waits for large reports.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            read_timeout: REQUEST_TIMEOUT,
            total_timeout: REQUEST_TIMEOUT,
            trust: Trust::needed_for(&self.base_url),
            ..ClientConfig::default()
        }
    }
}
