//! The one way out: a client with deadlines, that goes only where it was told to go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use reqwest::{Proxy, Response};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls_platform_verifier::Verifier;
use thiserror::Error;

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
    pub pool_idle: Duration,
    /// Certificates, in PEM, to trust besides those the operating system trusts.
    pub extra_ca_file: Option<PathBuf>,
    /// The proxy for every call. The environment's `HTTPS_PROXY` is not read.
    pub proxy: Option<String>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            read_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(60),
            pool_idle: Duration::from_secs(20),
            extra_ca_file: None,
            proxy: None,
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
    /// Nothing is trusted, or a certificate is unusable.
    #[error("cannot set up tls")]
    Tls(#[from] rustls::Error),
    /// The proxy's address, or the rest.
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
        .tls_backend_preconfigured(tls(config)?)
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(config.connect_timeout)
        .read_timeout(config.read_timeout)
        .timeout(config.total_timeout)
        .pool_idle_timeout(config.pool_idle)
        .tcp_nodelay(true)
        .user_agent(concat!("stockbridge/", env!("CARGO_PKG_VERSION")));
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(Proxy::all(proxy)?);
    }
    Ok(builder.build()?)
}

/// An answer that was not read to its end.
#[derive(Debug, Error)]
pub enum AnswerCut {
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
pub async fn read_answer(mut response: Response, max_bytes: usize) -> Result<Bytes, AnswerCut> {
    let too_large = || AnswerCut::TooLarge { limit: max_bytes };
    let declared = usize::try_from(response.content_length().unwrap_or(0));
    if declared.is_ok_and(|length| length > max_bytes) || declared.is_err() {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    // The source would print the whole URL, and a URL may hold a token.
    let cut = |e: reqwest::Error| AnswerCut::Transport(e.without_url());
    while let Some(piece) = response.chunk().await.map_err(cut)? {
        if whole.len() + piece.len() > max_bytes {
            return Err(too_large());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn tls(config: &ClientConfig) -> Result<rustls::ClientConfig, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(extra_roots(config)?, Arc::clone(&provider))?;
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn extra_roots(config: &ClientConfig) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let Some(path) = &config.extra_ca_file else { return Ok(Vec::new()) };
    let unreadable = |source| ClientError::CaFile { path: path.clone(), source };
    let roots: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable)?;
    if roots.is_empty() { Err(ClientError::NoCertificate(path.clone())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_missing_or_empty_is_named() {
        let with = |path: PathBuf| {
            client(&ClientConfig { extra_ca_file: Some(path), ..ClientConfig::default() })
        };
        let missing = with("/nowhere/ca.pem".into()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read certificates from /nowhere/ca.pem");
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(with(empty.path().into()), Err(ClientError::NoCertificate(_))));
    }
}
