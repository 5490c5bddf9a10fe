//! A client of the cluster's Kubernetes API, over this program's own TLS.
//!
//! kube's own TLS features read the host's certificate store, which a cluster with an authority
//! of its own does not need.

use crate::error::{Context as _, Error, ErrorId, Result};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::ConfigExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;

/// How often an open connection is asked whether there is still somebody, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Who calls, and whom the caller believes; PEM texts.
#[derive(Clone, Copy)]
pub struct ApiCredentials<'a> {
    /// Authority of the serving certificate.
    pub authority: &'a str,
    /// Client certificate.
    pub certificate: &'a str,
    /// Its key.
    pub key: &'a str,
}

/// A client for `https://ADDRESS:PORT`.
pub fn client(server: &str, credentials: ApiCredentials<'_>) -> Result<kube::Client> {
    let uri: http::Uri = server.parse().context(ErrorId::Internal, || {
        format!("{server} is not the URL of an API server")
    })?;
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls(credentials)?)
        .https_only()
        .enable_http1()
        .enable_http2()
        .build();
    let mut builder = HttpClient::builder(TokioExecutor::new());
    // A machine that was reset knows nothing of its connections, and says so only to who sends something.
    builder
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE);
    let config = kube::Config::new(uri);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .service(builder.build(connector));
    Ok(kube::Client::new(service, config.default_namespace))
}

/// TLS with these credentials, and nobody else's.
pub fn tls(credentials: ApiCredentials<'_>) -> Result<rustls::ClientConfig> {
    let unusable = |reason: String| {
        Error::new(
            ErrorId::MachineBroken,
            "the cluster's credentials are not usable",
        )
        .because(reason)
    };
    let certificates = |pem: &str| {
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|error| unusable(error.to_string()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(credentials.authority)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(credentials.certificate)?, key)
        .map_err(|error| unusable(error.to_string()))
}
