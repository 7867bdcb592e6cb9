//! Address of the database that keeps the stock.

use std::fmt;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

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
    /// # Errors
    /// The rule that the text breaks, without any part of the text, which has the password.
    pub fn parse(text: &str) -> Result<Self, StoreAddressError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(StoreAddressError::Form)?;
        if !matches!(scheme, "postgres" | "postgresql") || rest.is_empty() {
            return Err(StoreAddressError::Form);
        }
        let (before_query, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = before_query.split_once('/').unwrap_or((before_query, ""));
        // A password with such a character would be read as a host, a port or a database.
        if rest.contains('#') || path.contains('@') {
            return Err(StoreAddressError::ReservedCharacter);
        }
        let options: PgConnectOptions = text.parse().map_err(|_| {
            if parameters.contains('@') && !authority.contains('@') {
                StoreAddressError::ReservedCharacter
            } else if has_unknown_ssl_mode(parameters) {
                StoreAddressError::SslMode
            } else {
                StoreAddressError::Form
            }
        })?;
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
        Ok(Self {
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

/// Returns true if the parameters of an address have an `sslmode` that does not exist.
fn has_unknown_ssl_mode(parameters: &str) -> bool {
    let modes = parameters.split('&').filter_map(|parameter| {
        let (name, mode) = parameter.split_once('=')?;
        matches!(name, "sslmode" | "ssl-mode").then_some(mode)
    });
    modes
        .into_iter()
        .any(|mode| mode.parse::<PgSslMode>().is_err())
}

/// Rule that the address of a database breaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreAddressError {
    /// The text is not such an address.
    #[error("must hold an address such as postgres://name:password@host:5432/database")]
    Form,
    /// A part has a character that separates parts.
    #[error(
        "has a reserved character in its user, password or database: write # as %23, @ as %40, / as \
         %2F, ? as %3F and % as %25 there"
    )]
    ReservedCharacter,
    /// The parameter `sslmode` has an unknown value.
    #[error(
        "has an unknown sslmode: it must be disable, allow, prefer, require, verify-ca or verify-full"
    )]
    SslMode,
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
            let error = StoreUrl::parse(text).unwrap_err();
            assert_eq!(error, StoreAddressError::Form, "{text}");
        }
    }

    #[test]
    fn fault_of_an_address_names_the_rule() {
        use StoreAddressError::{Form, ReservedCharacter, SslMode};
        for (text, expected) in [
            ("postgres://stock:s#cret@db/shop", ReservedCharacter),
            ("postgres://stock:12#cret@db/shop", ReservedCharacter),
            ("postgres://stock:s/cret@db/shop", ReservedCharacter),
            ("postgres://stock:12/cret@db/shop", ReservedCharacter),
            ("postgres://stock:s@cr/et@db/shop", ReservedCharacter),
            ("postgres://stock:s?cret@db/shop", ReservedCharacter),
            ("postgres://stock:cret@db/shop?sslmode=verifyfull", SslMode),
            ("postgres://stock:cret@db/shop?a=b&sslmode=", SslMode),
            ("postgres://stock:cret@db:port/shop", Form),
        ] {
            let error = StoreUrl::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("cret"), "{error}");
        }
        for text in [
            "postgres://stock:s%23c%40r%2Fet@db/shop?sslmode=verify-full",
            "postgres://stock:s@cret@db/shop",
            "postgres://stock@db/shop?user=a@b",
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), "postgres://db:5432/shop");
        }
    }
}
