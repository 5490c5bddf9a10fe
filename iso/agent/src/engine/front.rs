//! From a client of the Docker API to dockerd, request by request.
//!
//! What a client and dockerd say to each other passes as it is, also where they go on with something else
//! than HTTP (attach, exec, a build's session). Only requests about images, and for new containers, are
//! looked at. A client that goes takes its request with it: dockerd sees that as it would without anybody in between.

use super::Engine;
use super::asked::{Asked, unversioned};
use super::binds::{Client, names_folders};
use super::images::{Verdict, without_kubelets};
use crate::tls::Connection;
use bytes::Bytes;
use coracle_protocol::DISK_FULL;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::UnixStream;

/// What helps against a full disk; it stands within a JSON string.
const GROWS: &str = " (`coracle start` with a larger --disk-size grows the machine's disk)";
/// Bytes of an answer that this process reads itself.
const MOST: usize = 64 << 20;

type AnswerBody = BoxBody<Bytes, hyper::Error>;
type Answer = Response<AnswerBody>;

impl Engine {
    /// Serves one connection until its client goes.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        client: Client,
    ) {
        let service = hyper::service::service_fn(|request| {
            let engine = Arc::clone(&self);
            async move { Ok::<_, Infallible>(engine.answer(request, client).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            // A client may keep a connection for its next request.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // Whatever ends it, its client is gone.
        let _ = connection.await;
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, client: Client) -> Answer {
        let counts = client == Client::Outside && !only_watches(request.uri().path());
        let caller = counts.then(|| self.callers.enter());
        let answer = self.answer_of(request, client, caller.clone()).await;
        // Until the answer's end, which may be hours after its beginning.
        answer.map(|body| {
            let held = body.map_frame(move |frame| {
                let _ = &caller;
                frame
            });
            held.boxed()
        })
    }

    async fn answer_of(
        self: &Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        caller: Option<Connection>,
    ) -> Answer {
        if let Err(error) = self.begin().await {
            let log = "`coracle logs --component dockerd` says more";
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}; {log}"));
        }
        if names_folders(request.method(), request.uri().path()) {
            return self.pass_with_folders(request, client).await;
        }
        let verdict = match Asked::of(request.method(), request.uri()) {
            Some(asked) => self.judge(asked).await,
            None => Ok(Verdict::Pass),
        };
        let answered = match verdict {
            Ok(Verdict::Pass) => self.pass(request, caller).await,
            Ok(Verdict::PassWithout) => self.pass_without(request).await,
            Ok(Verdict::Done(report)) => return json(StatusCode::OK, &report),
            Ok(Verdict::Refused(reason)) => return refusal(StatusCode::CONFLICT, &reason),
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| no_answer(&error))
    }

    /// Passes a request for a container or volume whose folders are there.
    async fn pass_with_folders(&self, request: Request<Incoming>, client: Client) -> Answer {
        let (mut head, body) = request.into_parts();
        let body = match whole(body).await {
            Ok(body) => body,
            Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
        };
        let body = match self.settle_binds(body, client).await {
            Ok(body) => body,
            Err(reason) => return refusal(StatusCode::BAD_REQUEST, &reason),
        };
        for gone in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(gone);
        }
        let request = Request::from_parts(head, Full::new(body));
        let passed = self.send(request).await;
        passed.map_or_else(|error| no_answer(&error), with_advice)
    }

    async fn pass(
        &self,
        mut request: Request<Incoming>,
        caller: Option<Connection>,
    ) -> io::Result<Answer> {
        let client = hyper::upgrade::on(&mut request);
        let does_something = matches!(*request.method(), Method::POST | Method::PUT);
        let mut response = self.send(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let dockerd = hyper::upgrade::on(&mut response);
            tokio::spawn(async move {
                let (client, dockerd) = tokio::try_join!(client, dockerd)?;
                let (mut client, mut dockerd) = (TokioIo::new(client), TokioIo::new(dockerd));
                // Either may go at any time, and takes the other along.
                let _ = copy_bidirectional(&mut client, &mut dockerd).await;
                drop(caller);
                Ok::<_, hyper::Error>(())
            });
        }
        match does_something {
            true => Ok(with_advice(response)),
            false => Ok(response.map(BodyExt::boxed)),
        }
    }

    /// Passes a request whose answer is about images.
    async fn pass_without(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (mut head, body) = self.send(request).await?.into_parts();
        let mut value = read(body).await?;
        without_kubelets(&mut value);
        for gone in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(gone);
        }
        Ok(Response::from_parts(head, body_of(&value)))
    }

    async fn send<B>(&self, request: Request<B>) -> io::Result<Response<Incoming>>
    where
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let stream = UnixStream::connect(&self.socket).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Sends dockerd a request of this process' own.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
    ) -> io::Result<Response<Incoming>> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(HOST, "docker");
        let request = request.body(Empty::<Bytes>::new());
        self.send(request.map_err(io::Error::other)?).await
    }

    /// The same; status and body of the answer.
    pub(super) async fn ask(&self, method: Method, path: &str) -> io::Result<(StatusCode, Value)> {
        let response = self.request(method, path).await?;
        let status = response.status();
        Ok((status, read(response.into_body()).await?))
    }
}

/// Whether a request only hears what happens, which tools do that are open all day.
fn only_watches(path: &str) -> bool {
    unversioned(path) == "/events"
}

/// An answer in which a full disk comes with what helps: an error, or messages of which one may be.
fn with_advice(mut response: Response<Incoming>) -> Answer {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return response.map(BodyExt::boxed);
    }
    response.headers_mut().remove(CONTENT_LENGTH);
    let is_error = !response.status().is_success();
    let advise = move |part| advised(part, is_error);
    response.map(|body| body.map_frame(move |frame| frame.map_data(advise)).boxed())
}

/// A part of an answer. dockerd sends each message at once, so that the words are in one part; it says them
/// twice, for clients of two ages.
fn advised(part: Bytes, is_error: bool) -> Bytes {
    let is_error = is_error || memchr::memmem::find(&part, b"\"errorDetail\"").is_some();
    let found: Vec<usize> = memchr::memmem::find_iter(&part, DISK_FULL).collect();
    if !is_error || found.is_empty() {
        return part;
    }
    let mut advised = Vec::with_capacity(part.len() + found.len() * GROWS.len());
    let mut taken = 0;
    for at in found {
        let end = at + DISK_FULL.len();
        advised.extend_from_slice(&part[taken..end]);
        advised.extend_from_slice(GROWS.as_bytes());
        taken = end;
    }
    advised.extend_from_slice(&part[taken..]);
    advised.into()
}

/// The JSON of an answer; null for an empty one.
async fn read(body: Incoming) -> io::Result<Value> {
    let body = whole(body).await?;
    match body.is_empty() {
        true => Ok(Value::Null),
        false => serde_json::from_slice(&body).map_err(io::Error::other),
    }
}

async fn whole(body: Incoming) -> io::Result<Bytes> {
    let body = http_body_util::Limited::new(body, MOST);
    Ok(body.collect().await.map_err(io::Error::other)?.to_bytes())
}

fn body_of(value: &Value) -> AnswerBody {
    let whole = Full::new(Bytes::from(value.to_string()));
    whole.map_err(|never| match never {}).boxed()
}

fn no_answer(error: &io::Error) -> Answer {
    let said = format!("dockerd does not answer: {error}");
    refusal(StatusCode::BAD_GATEWAY, &said)
}

/// An error in the form that clients of the Docker API know.
fn refusal(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "message": message }))
}

fn json(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(body_of(value));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_comes_with_what_helps() {
        let full = "write /x: no space left on device";
        let part = |name: &str| {
            let said = format!(r#"{{"error":"{full}","{name}":{{"message":"{full}"}}}}"#);
            Bytes::from(said)
        };
        let message = advised(part("errorDetail"), false);
        let value: Value = serde_json::from_slice(&message).unwrap();
        for said in [&value["error"], &value["errorDetail"]["message"]] {
            assert_eq!(said.as_str().unwrap(), format!("{full}{GROWS}"));
        }
        assert_ne!(advised(part("message"), true), part("message"));
        // What is no error stays as it is.
        assert_eq!(advised(part("stream"), false), part("stream"));
    }
}
