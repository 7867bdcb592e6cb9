//! Scopes of an Api-Key and the rights that they give.

/// Name and scopes of an Api-Key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ApiKeyInfo {
    /// Name in the seller's account, which is not secret.
    pub name: String,
    /// Scopes, such as `ALL_METHODS`.
    pub scopes: Vec<String>,
}

impl ApiKeyInfo {
    /// Returns true if the key may send stock. Source: `updateStocks`, `x-auth-scopes`.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.has_any(&["ALL_METHODS", "OFFERS_AND_CARDS_MANAGEMENT"])
    }

    /// Returns true if the key may read stock back. Source: `getStocks`, `x-auth-scopes`.
    #[must_use]
    pub fn may_readback(&self) -> bool {
        self.may_send()
            || self.has_any(&[
                "ALL_METHODS_READ_ONLY",
                "OFFERS_AND_CARDS_MANAGEMENT_READ_ONLY",
            ])
    }

    /// Returns true if the key may list warehouses. Source: `getPagedWarehouses`, `x-auth-scopes`.
    #[must_use]
    pub fn may_list_warehouses(&self) -> bool {
        self.has_any(&[
            "ALL_METHODS",
            "ALL_METHODS_READ_ONLY",
            "INVENTORY_AND_ORDER_PROCESSING",
            "INVENTORY_AND_ORDER_PROCESSING_READ_ONLY",
        ])
    }

    fn has_any(&self, scopes: &[&str]) -> bool {
        let mut ours = self.scopes.iter();
        ours.any(|scope| scopes.contains(&scope.as_str()))
    }
}
