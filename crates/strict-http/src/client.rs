//! Outbound HTTP client, used for every call to other servers.
//!
//! It sets timeouts, follows no redirects, uses no proxy, and reads at most a given number of
//! bytes. It can refuse addresses that a rule does not allow.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use reqwest::redirect::Policy;
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls_platform_verifier::Verifier;
use thiserror::Error;

use super::address_rule::{AddressRule, FilteringResolver};

/// Certificate authorities that a client trusts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// The authorities of the operating system and those of `extra_ca_file`.
    #[default]
    System,
    /// None, for a client that calls only `http://`. It starts on a machine without installed
    /// certificates. Every `https://` call fails.
    PlainHttpOnly,
}

impl Trust {
    /// Returns the trust that a call to this URL needs: only `https://` needs certificates.
    #[must_use]
    pub fn needed_for(url: &str) -> Self {
        if url.starts_with("https://") {
            Self::System
        } else {
            Self::PlainHttpOnly
        }
    }
}

/// Timeouts, trust and address rule of an outbound client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Timeout for the TCP connection and the TLS handshake together.
    pub connect_timeout: Duration,
    /// Longest pause between two parts of a response.
    pub read_timeout: Duration,
    /// Timeout for the whole call.
    pub total_timeout: Duration,
    /// Time an idle connection is kept for the next call. It is short because a server or load
    /// balancer that closes the connection first fails a call that may not be safe to repeat.
    pub pool_idle_timeout: Duration,
    /// Trusted certificate authorities.
    pub trust: Trust,
    /// PEM file of certificates that are trusted in addition to those of the operating system.
    pub extra_ca_file: Option<PathBuf>,
    /// True if a response carries the server's certificate, as `reqwest::tls::TlsInfo`.
    pub show_certificate: bool,
    /// Rule for the addresses that host names resolve to; `None` allows every address. The caller
    /// checks an IP address that is written in the URL.
    pub address_rule: Option<AddressRule>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(60),
            pool_idle_timeout: Duration::from_secs(20),
            trust: Trust::System,
            extra_ca_file: None,
            show_certificate: false,
            address_rule: None,
        }
    }
}

/// Error while a client is built.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The file of extra certificates cannot be read or is not PEM.
    #[error("cannot read certificates from {path}")]
    CaFile {
        /// Path of the file.
        path: PathBuf,
        /// Cause reported by the PEM parser.
        #[source]
        source: pem::Error,
    },
    /// The file of extra certificates contains no certificate.
    #[error("{0} contains no certificate in PEM format")]
    NoCertificate(PathBuf),
    /// The operating system has no certificate authorities, and no extra file was configured.
    #[error(
        "this system has no certificate authorities: install the package ca-certificates, or set \
        ca_file or the environment variable SSL_CERT_FILE to a PEM file"
    )]
    NoTrustedRoots(#[source] rustls::Error),
    /// The TLS library rejected the configuration or a certificate.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// The HTTP library could not build the client.
    #[error("cannot set up the HTTP client")]
    Build(#[from] reqwest::Error),
}

/// Builds a client for outbound calls. Clones share one connection pool.
///
/// The client follows no redirect, because the credential in the request header would go along.
/// It speaks HTTP/1.1 and does not decompress, so a small response cannot become a large one.
///
/// # Errors
/// The configuration cannot be used, or the operating system has no trusted certificates.
pub fn client(config: &ClientConfig) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls_config(config)?)
        .tls_info(config.show_certificate)
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.total_timeout)
        .pool_idle_timeout(config.pool_idle_timeout)
        .tcp_nodelay(true)
        .user_agent(concat!("stockbridge/", env!("CARGO_PKG_VERSION")));
    if let Some(rule) = config.address_rule {
        builder = builder.dns_resolver(Arc::new(FilteringResolver(rule)));
    }
    Ok(builder.build()?)
}

/// Error while a response body is read.
#[derive(Debug, Error)]
pub enum ReadResponseError {
    /// The body exceeds the limit.
    #[error("the response is longer than {limit} bytes")]
    TooLarge {
        /// Most bytes that are read.
        limit: usize,
    },
    /// The body ended early or took too long.
    #[error("the response was cut off")]
    Transport(#[source] reqwest::Error),
}

/// Reads a whole response body of at most `max_bytes`.
///
/// # Errors
/// The body is too long, did not arrive in time, or is incomplete.
pub async fn read_response(
    mut response: Response,
    max_bytes: usize,
) -> Result<Bytes, ReadResponseError> {
    let too_large = || ReadResponseError::TooLarge { limit: max_bytes };
    let declared = usize::try_from(response.content_length().unwrap_or(0));
    if declared.is_ok_and(|length| length > max_bytes) || declared.is_err() {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    // The source would print the whole URL, and a URL may hold a token.
    let transport_error = |e: reqwest::Error| ReadResponseError::Transport(e.without_url());
    while let Some(piece) = response.chunk().await.map_err(transport_error)? {
        if body.len() + piece.len() > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Returns the text of an error with all its causes, because reqwest's own text rarely names the
/// cause.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn tls_config(config: &ClientConfig) -> Result<rustls::ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let with_verifier = match config.trust {
        Trust::System => {
            let verifier = verifier(extra_roots(config)?, provider)?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
        Trust::PlainHttpOnly => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(with_verifier.with_no_client_auth())
}

fn verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, ClientError> {
    Verifier::new_with_extra_roots(extra, provider).map_err(|error| match error {
        // The verifier returns this error only if neither the system nor the extra file has a root.
        rustls::Error::General(_) => ClientError::NoTrustedRoots(error),
        other => ClientError::Tls(other),
    })
}

fn extra_roots(config: &ClientConfig) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let Some(path) = &config.extra_ca_file else {
        return Ok(Vec::new());
    };
    let unreadable = |source| ClientError::CaFile {
        path: path.clone(),
        source,
    };
    let roots = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let roots: Vec<_> = roots.map_err(unreadable)?;
    if roots.is_empty() {
        return Err(ClientError::NoCertificate(path.clone()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_missing_and_empty_ca_files() {
        let with = |path: PathBuf| {
            client(&ClientConfig {
                extra_ca_file: Some(path),
                ..ClientConfig::default()
            })
        };
        let missing = with("/nowhere/ca.pem".into()).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot read certificates from /nowhere/ca.pem"
        );
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            with(empty.path().into()),
            Err(ClientError::NoCertificate(_))
        ));
    }

    #[test]
    fn plain_http_client_needs_no_certificates() {
        let config = ClientConfig {
            trust: Trust::PlainHttpOnly,
            extra_ca_file: Some("/nowhere/ca.pem".into()),
            ..ClientConfig::default()
        };
        client(&config).unwrap();
    }
}
