//! Address of the database that keeps the stock.

use std::fmt;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

/// Address of a PostgreSQL database with user name and password, which `Display` and `Debug` omit.
#[derive(Clone)]
pub struct StoreUrl {
    options: Box<PgConnectOptions>,
    /// Address for notifications, if it is another one.
    listen_options: Option<Box<PgConnectOptions>>,
    display: String,
}

impl StoreUrl {
    /// Reads `postgres://name:password@host:port/database?sslmode=require`.
    ///
    /// Returns `None` if the text is not such an address. The reason is not returned, because it
    /// may contain the password.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://")?;
        if !matches!(scheme, "postgres" | "postgresql") || rest.is_empty() {
            return None;
        }
        let options: PgConnectOptions = text.parse().ok()?;
        let options = options
            .application_name("stockbridge")
            .disable_statement_logging();
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let (port, database) = (
            options.get_port(),
            options.get_database().unwrap_or_default(),
        );
        Some(Self {
            display: format!("postgres://{host}:{port}/{database}"),
            options: Box::new(options),
            listen_options: None,
        })
    }

    /// Returns the same address with another one for notifications, because a pooler in between may
    /// not pass them on.
    #[must_use]
    pub fn with_listen_url(self, other: Self) -> Self {
        Self {
            listen_options: Some(other.options),
            ..self
        }
    }

    /// Returns true if there is another address for notifications.
    #[must_use]
    pub fn has_listen_url(&self) -> bool {
        self.listen_options.is_some()
    }

    pub(super) fn listen_options(&self) -> &PgConnectOptions {
        self.listen_options.as_deref().unwrap_or(&self.options)
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.display)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_shown_without_its_user() {
        let url =
            StoreUrl::parse(" postgres://stock:s3cret@db.example:6432/shop?sslmode=disable\n");
        let url = url.unwrap();
        assert_eq!(url.to_string(), "postgres://db.example:6432/shop");
        assert_eq!(format!("{url:?}"), url.to_string());
    }

    #[test]
    fn rejects_other_addresses() {
        for text in [
            "",
            "postgres",
            "postgres://",
            "mysql://a@b/c",
            "/var/lib/stockbridge",
        ] {
            assert!(StoreUrl::parse(text).is_none(), "{text}");
        }
    }
}
