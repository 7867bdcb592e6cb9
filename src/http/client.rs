//! The one way out: a client with deadlines, that goes only where it was told to go.

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

/// Whose certificates are believed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// Those the operating system trusts, and the extra ones.
    #[default]
    System,
    /// Nobody's: for a client that only ever calls `http://`, which so starts on a machine
    /// without certificates. With it every call of `https://` fails.
    PlainHttpOnly,
}

impl Trust {
    /// What calling this address takes: certificates are needed for `https://` alone.
    #[must_use]
    pub fn needed_for(url: &str) -> Self {
        if url.starts_with("https://") {
            Self::System
        } else {
            Self::PlainHttpOnly
        }
    }
}

/// How outbound calls are made.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    pub read_timeout: Duration,
    /// For the whole call.
    pub total_timeout: Duration,
    /// How long a connection is kept for the next call. Short: a server or a balancer that
    /// closes it first would fail a call that is not always safe to repeat.
    pub pool_idle_timeout: Duration,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// Certificates, in PEM, to trust besides those the operating system trusts.
    pub extra_ca_file: Option<PathBuf>,
    /// Whether an answer carries the certificate it came under, `reqwest::tls::TlsInfo`.
    pub show_certificate: bool,
    /// Rule that the addresses of host names must fulfil; `None` allows every address. An address
    /// that stands in the URL itself is the caller's to check.
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

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The file of extra certificates is missing or is no PEM.
    #[error("cannot read certificates from {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The file of extra certificates has none.
    #[error("there is no certificate in {0}")]
    NoCertificate(PathBuf),
    /// The operating system trusts nobody, and no file of extra certificates was named.
    #[error(
        "this system has no certificate authorities: install its ca-certificates, or name a PEM \
         file of them in ca_file or in the variable SSL_CERT_FILE"
    )]
    NoTrustedRoots(#[source] rustls::Error),
    /// A certificate is unusable.
    #[error("cannot set up tls")]
    Tls(#[from] rustls::Error),
    /// The library could not put it together.
    #[error("cannot set up the http client")]
    Build(#[from] reqwest::Error),
}

/// A client for outbound calls. Clones share one pool of connections.
///
/// It follows no redirect: the key in the request's header would go along. It speaks HTTP/1.1
/// and does not decompress, so a small answer cannot become a large one.
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

/// An answer that was not read to its end.
#[derive(Debug, Error)]
pub enum ReadResponseError {
    /// It is longer than we read, in bytes.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The most we read, in bytes.
        limit: usize,
    },
    /// It ended too soon or took too long.
    #[error("the answer was cut")]
    Transport(#[source] reqwest::Error),
}

/// Reads a whole answer of at most `max_bytes`.
///
/// # Errors
/// The answer is too long, too slow or incomplete.
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

/// An error with all its causes: reqwest's own sentence rarely says which of them it was.
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
        // What the verifier says, and only then, if neither it nor we found a single one.
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
    let roots: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(unreadable)?;
    if roots.is_empty() {
        Err(ClientError::NoCertificate(path.clone()))
    } else {
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_or_empty_is_named() {
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
    fn a_client_that_believes_nobody_needs_no_certificates() {
        let config = ClientConfig {
            trust: Trust::PlainHttpOnly,
            extra_ca_file: Some("/nowhere/ca.pem".into()),
            ..ClientConfig::default()
        };
        client(&config).unwrap();
    }
}
