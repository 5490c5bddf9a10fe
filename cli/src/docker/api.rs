//! Requests to the Docker API of a cluster's machine, for what its image store is asked to do.
//!
//! bollard knows this API too; but with BuildKit it brings a reader of the host's certificate store, which
//! needs Apple's frameworks, and without BuildKit it cannot read what a build answers.

use crate::cluster::{self, Cluster, TlsCredentials};
use crate::error::{Context as _, Error, ErrorId, Result};
use bytes::Bytes;
use coracle_protocol::DISK_FULL;
use futures::{Stream, StreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::io;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

/// The version of the API that is spoken: the oldest that this engine serves.
const VERSION: &str = "/v1.44";
/// What one line of an answer holds at the most: a part of a build's log, in base64.
const LONGEST_LINE: usize = 16 << 20;
/// What an error's body holds at the most.
const LONGEST_ERROR: usize = 1 << 20;
/// What says that somebody has an image: the machine's agent, and dockerd.
const IN_USE: [&str; 3] = ["uses it", "is using", "is being used"];
/// What may stand in a path as it is.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// What is sent.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The engine of one cluster.
#[derive(Debug, Clone)]
pub struct Engine {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    server: String,
}

impl Engine {
    /// The one of a cluster, whose machine runs.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        // What has none says so.
        super::Access::of(cluster)?;
        let files = cluster.identity_files();
        let read = cluster::identity::read;
        let authority = read(&files.docker_ca())?;
        let certificate = read(&files.docker_client())?;
        let key = read(&files.docker_client_key())?;
        let tls = cluster::tls(TlsCredentials {
            authority: &authority,
            certificate: &certificate,
            key: &key,
        })?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_http1()
            .build();
        let address = cluster.endpoint().docker();
        let server = address.map(|address| format!("https://{address}"));
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            server: server.unwrap_or_default(),
        })
    }

    /// Sends a request; what dockerd refuses is an error in its own words.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Body,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{VERSION}{path}", self.server));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(body);
        let request = request.context(ErrorId::Usage, || "that is no request".into())?;
        let answer = self.client.request(request).await;
        let answer = answer.context(ErrorId::Runtime, || {
            "the Docker engine does not answer".into()
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(refusal(answer).await)
    }

    /// Sends a request and gives the JSON of its answer; null for an empty one.
    pub async fn json(&self, method: Method, path: &str) -> Result<Value> {
        let answer = self.send(method, path, &[], empty()).await?;
        let body = answer.into_body().collect().await;
        let body = body.context(ErrorId::Runtime, broke_off)?.to_bytes();
        match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body).context(ErrorId::Runtime, broke_off),
        }
    }
}

/// The messages of an answer that goes on for a while, one JSON value a line. One that tells of an error is one.
pub fn messages(answer: Response<Incoming>) -> impl Stream<Item = Result<Value>> + Unpin {
    let bytes = answer.into_body().into_data_stream();
    let reader = StreamReader::new(Box::pin(bytes.map(|chunk| chunk.map_err(io::Error::other))));
    FramedRead::new(reader, LinesCodec::new_with_max_length(LONGEST_LINE)).map(|line| {
        let line = line.context(ErrorId::Runtime, broke_off)?;
        let message: Value = serde_json::from_str(&line).context(ErrorId::Runtime, broke_off)?;
        let error = &message["errorDetail"]["message"];
        match error.as_str().or_else(|| message["error"].as_str()) {
            Some(error) => Err(Error::new(id_of(error), error.to_owned())),
            None => Ok(message),
        }
    })
}

/// Nothing is sent.
pub fn empty() -> Body {
    Full::default()
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Bytes are sent as they come.
pub fn stream(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(bytes.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A name as it stands in a path.
pub fn in_path(name: &str) -> String {
    utf8_percent_encode(name, IN_PATH).to_string()
}

/// A query of these names and values.
pub fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = pairs.into_iter().map(|(name, value)| {
        let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

async fn refusal(answer: Response<Incoming>) -> Error {
    let status = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), LONGEST_ERROR);
    let body = body.collect().await.map(|body| body.to_bytes());
    let value: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let said = value["message"].as_str().map(str::to_owned);
    let said = said.unwrap_or_else(|| format!("the Docker engine answers {status}"));
    let id = match status {
        StatusCode::NOT_FOUND => ErrorId::GuestNotFound,
        StatusCode::BAD_REQUEST => ErrorId::Usage,
        StatusCode::CONFLICT if IN_USE.iter().any(|words| said.contains(words)) => {
            ErrorId::ImageInUse
        }
        _ => id_of(&said),
    };
    Error::new(id, said)
}

/// What failed when something in the machine did, by its words.
fn id_of(said: &str) -> ErrorId {
    match said.contains(DISK_FULL) {
        true => ErrorId::GuestStorage,
        false => ErrorId::Runtime,
    }
}

fn broke_off() -> String {
    "the Docker engine's answer broke off".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_paths_and_queries() {
        assert_eq!(in_path("a.example:5000/b/c:1"), "a.example:5000/b/c:1");
        assert_eq!(in_path("a b?c"), "a%20b%3Fc");
        let pairs = [("t", "a:1".to_owned()), ("q", "{}".to_owned())];
        assert_eq!(query(pairs), "t=a%3A1&q=%7B%7D");
    }
}
