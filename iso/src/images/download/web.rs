//! Requests to servers, with every wait bounded, and answers turned into what they mean.

use super::error::{DownloadError, Reason};
use super::source::{Source, shown};
use super::transfer::Version;
use super::{Patience, Proxy};
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE,
    RETRY_AFTER,
};
use reqwest::{NoProxy, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::error::Error;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Redirects that are followed for one request.
const REDIRECTS: usize = 10;

/// How proxies are spoken to.
const PROXY_SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// A client of web servers.
#[derive(Debug)]
pub(super) struct Web {
    client: Client,
    patience: Patience,
}

/// The answer to a request for a file: its bytes are still to come.
pub(super) struct Answer {
    response: Response,
    /// Where in the file its bytes begin.
    pub(super) begins: u64,
    /// The length of the whole file at the server, where it tells.
    pub(super) length: Option<u64>,
    /// What it says of the file.
    pub(super) version: Version,
}

impl Web {
    /// Reads neither the environment nor the host's certificates: all it uses is given.
    pub(super) fn new(
        proxy: &Proxy,
        authorities: &[String],
        patience: &Patience,
    ) -> Result<Self, DownloadError> {
        let mut builder = Client::builder()
            .use_preconfigured_tls(tls(authorities)?)
            .connect_timeout(patience.connect)
            // For each read, and for all that comes before the first.
            .timeout(patience.stall)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .referer(false)
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        for (scheme, url) in [("http", &proxy.http), ("https", &proxy.https)] {
            let Some(url) = url else { continue };
            let unusable = |reason: String| DownloadError::Proxy { scheme, reason };
            let url = proxy_url(url).map_err(unusable)?;
            let made = match scheme {
                "http" => reqwest::Proxy::http(url),
                _ => reqwest::Proxy::https(url),
            };
            let made = made.map_err(|error| unusable(last_cause(&error.without_url())))?;
            let exceptions = proxy.exceptions.as_deref().unwrap_or_default();
            builder = builder.proxy(made.no_proxy(NoProxy::from_string(exceptions)));
        }
        let client = builder.build().map_err(|error| DownloadError::Authority {
            reason: last_cause(&error),
        })?;
        Ok(Self {
            client,
            patience: patience.clone(),
        })
    }

    /// Asks for a file, from a place on where some of it is there.
    ///
    /// The rest is asked for on the condition that the file is still the one that `have` tells of;
    /// where the server did not tell, the digest finds out. An answer with the whole file is as good.
    pub(super) fn get(
        &self,
        url: &Url,
        what: &str,
        from: u64,
        have: &Version,
    ) -> Result<Answer, Reason> {
        let mut request = self
            .client
            .get(url.clone())
            // What a range counts are the bytes of the file, not of something made of it on the way.
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
            if let Some(condition) = have.etag.as_ref().or(have.last_modified.as_ref()) {
                request = request.header(IF_RANGE, condition);
            }
        }
        let response = request.send().map_err(|error| self.failed(error))?;
        let status = response.status();
        let headers = response.headers();
        let code = status.as_u16();
        let (begins, length) = match status {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT => match content_range(headers) {
                Some((begins, length)) => (begins, length),
                None => return Err(Reason::Refused { status: code }),
            },
            _ => return Err(refusal(status, headers, what)),
        };
        let version = Version {
            url: shown(url),
            // A weak one may stand for other bytes.
            etag: text(headers, ETAG).filter(|tag| !tag.starts_with("W/")),
            last_modified: text(headers, LAST_MODIFIED),
        };
        Ok(Answer {
            response,
            begins,
            length,
            version,
        })
    }

    /// The next bytes of an answer; none at its end.
    pub(super) fn read(&self, answer: &mut Answer, buffer: &mut [u8]) -> Result<usize, Reason> {
        loop {
            match answer.response.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broke_off(&error)),
            }
        }
    }

    fn failed(&self, error: reqwest::Error) -> Reason {
        // Its URL may hold a password, and the source is named anyway.
        let error = error.without_url();
        if let Some(detail) = untrusted(&error) {
            return Reason::Untrusted { detail };
        }
        if error.is_timeout() && !error.is_connect() {
            return Reason::Stalled {
                limit: self.patience.stall,
            };
        }
        let detail = last_cause(&error);
        match error.is_connect() || error.is_redirect() {
            true => Reason::Unreachable { detail },
            false => Reason::BrokeOff { detail },
        }
    }

    fn broke_off(&self, error: &io::Error) -> Reason {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<reqwest::Error>());
        let is_timeout = error.kind() == io::ErrorKind::TimedOut
            || inner.is_some_and(reqwest::Error::is_timeout);
        match is_timeout {
            true => Reason::Stalled {
                limit: self.patience.stall,
            },
            false => Reason::BrokeOff {
                detail: last_cause(error),
            },
        }
    }
}

/// A proxy of a kind that is known; what is wrong with another one, without its text.
fn proxy_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("no URL: {error}"))?;
    match PROXY_SCHEMES.contains(&url.scheme()) && url.has_host() {
        true => Ok(url),
        false => Err(format!("it is none of {}", PROXY_SCHEMES.join(", "))),
    }
}

/// TLS that believes the authorities of the web and those that are given.
fn tls(authorities: &[String]) -> Result<rustls::ClientConfig, DownloadError> {
    let unusable = |reason: String| DownloadError::Authority { reason };
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for pem in authorities {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| unusable(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What an answer other than the file means.
fn refusal(status: StatusCode, headers: &HeaderMap, what: &str) -> Reason {
    let code = status.as_u16();
    match status {
        // Some stores of objects say so of what is not there.
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            Source::lacks(what, Some(code))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            busy(code, headers)
        }
        _ if status.is_server_error() => busy(code, headers),
        _ => Reason::Refused { status: code },
    }
}

fn busy(status: u16, headers: &HeaderMap) -> Reason {
    let wait = text(headers, RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    Reason::Busy {
        status,
        wait: wait.map(Duration::from_secs),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// First byte and whole length of `bytes FIRST-LAST/LENGTH` (RFC 9110, 14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = text(headers, CONTENT_RANGE)?;
    let (range, length) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let length = match length {
        "*" => None,
        length => Some(length.parse().ok()?),
    };
    let is_sound = first <= last && length.is_none_or(|length| last < length);
    is_sound.then_some((first, length))
}

/// Why a certificate is not believed, if that is what an error stems from.
fn untrusted(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|cause| match innermost(cause).downcast_ref()? {
        error @ rustls::Error::InvalidCertificate(_) => Some(error.to_string()),
        _ => None,
    })
}

/// What an error of the standard library was made of: its own source is the one behind that.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut found = error;
    while let Some(inner) = found
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        found = inner;
    }
    found
}

/// The innermost cause, which says most.
fn last_cause(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().unwrap_or(error);
    innermost(last).to_string()
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_strictly() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(read("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((5, None)));
        for wrong in ["5-9/10", "bytes 9-5/10", "bytes 5-10/10", "bytes */10", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_server_may_say_how_long_it_wants_to_be_left_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let wait = Some(Duration::from_secs(7));
        let busy = refusal(StatusCode::SERVICE_UNAVAILABLE, &headers, "x");
        assert_eq!(busy, Reason::Busy { status: 503, wait });
        assert!(busy.may_pass());
        assert!(!refusal(StatusCode::NOT_FOUND, &headers, "x").may_pass());
        assert!(!refusal(StatusCode::UNAUTHORIZED, &headers, "x").may_pass());
    }
}
