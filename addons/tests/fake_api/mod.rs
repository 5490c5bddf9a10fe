//! An API server in this process, as far as add-ons use one: server-side apply, get, list, watch,
//! delete and the resources of a group, over real HTTP. It validates nothing and runs no
//! controllers: a test plays those with [`FakeApi::put`], and lets requests fail with
//! [`FakeApi::answer`]. Objects are kept by their path.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

/// What a scripted request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status object with this code, message and kind in its details.
    Status(u16, &'static str, &'static str),
    /// The connection is closed without an answer.
    Close,
    /// No answer, ever.
    Hang,
}

struct Script {
    method: Method,
    path: String,
    answer: Answer,
    times: usize,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    resources: BTreeMap<String, Vec<Value>>,
    scripts: Vec<Script>,
    requests: Vec<Recorded>,
}

/// The server; it ends with its tests' runtime.
#[derive(Clone)]
pub(crate) struct FakeApi {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Path and event of every change.
    changes: broadcast::Sender<(String, Value)>,
    /// Ends every open watch.
    hang_up: broadcast::Sender<()>,
}

type Body = BoxBody<Bytes, Infallible>;

impl FakeApi {
    /// A server on a free port of loopback.
    pub(crate) async fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    /// A server on a port that was bound before.
    pub(crate) fn listen(listener: TcpListener) -> Self {
        let api = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
            changes: broadcast::channel(64).0,
            hang_up: broadcast::channel(1).0,
        };
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = server.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(|request| api.serve(request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        api
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        client(self.address)
    }

    /// Makes an object what `object` says, as a controller would.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let kind = if state.objects.contains_key(path) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        state.objects.insert(path.to_owned(), object.clone());
        drop(state);
        let _ = self
            .changes
            .send((path.to_owned(), json!({"type": kind, "object": object})));
    }

    /// Sets the status of an object that is there.
    pub(crate) fn put_status(&self, path: &str, status: Value) {
        let mut object = self.object(path).unwrap();
        object["status"] = status;
        self.put(path, object);
    }

    /// The object at a path.
    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// Lets discovery of `GROUP/VERSION` tell of a kind.
    pub(crate) fn serve_kind(
        &self,
        group_version: &str,
        kind: &str,
        plural: &str,
        namespaced: bool,
    ) {
        let resource = json!({
            "name": plural, "singularName": "", "kind": kind, "namespaced": namespaced,
            "verbs": ["get", "list", "watch", "patch", "delete"],
        });
        let mut state = self.state.lock().unwrap();
        state
            .resources
            .entry(format!("/apis/{group_version}"))
            .or_default()
            .push(resource);
    }

    /// Answers the next `times` requests with this method to this path in another way.
    pub(crate) fn answer(&self, method: Method, path: &str, answer: Answer, times: usize) {
        let path = path.to_owned();
        self.state.lock().unwrap().scripts.push(Script {
            method,
            path,
            answer,
            times,
        });
    }

    /// Ends all watches that are open.
    pub(crate) fn hang_up(&self) {
        let _ = self.hang_up.send(());
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Paths of the requests so far with this method.
    pub(crate) fn paths(&self, method: &Method) -> Vec<String> {
        let requests = self.requests();
        requests
            .into_iter()
            .filter(|request| request.method == *method)
            .map(|request| request.path)
            .collect()
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        let recorded = record(request).await;
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.requests.push(recorded.clone());
            let script = state.scripts.iter_mut().find(|script| {
                script.times > 0 && script.method == recorded.method && script.path == recorded.path
            });
            script.map(|script| {
                script.times -= 1;
                script.answer.clone()
            })
        };
        match answer {
            Some(Answer::Status(code, message, kind)) => Ok(status(code, message, kind)),
            Some(Answer::Close) => Err(Closed),
            Some(Answer::Hang) => std::future::pending().await,
            None => Ok(self.respond(&recorded)),
        }
    }

    fn respond(&self, request: &Recorded) -> Response<Body> {
        let path = request.path.as_str();
        match request.method {
            Method::PATCH => {
                let known = self.object(path);
                let mut object = request.body.clone();
                if let Some(known) = &known {
                    object["status"] = known["status"].clone();
                }
                self.put(path, object);
                reply(
                    if known.is_some() { 200 } else { 201 },
                    &self.object(path).unwrap(),
                )
            }
            Method::DELETE => self.delete(path),
            Method::GET if request.query.contains_key("watch") => self.watch(request),
            Method::GET => match (self.object(path), self.list(request)) {
                (Some(object), _) => reply(200, &object),
                (None, Some(list)) => reply(200, &list),
                (None, None) => status(404, "there is no such object", ""),
            },
            _ => status(405, "not one of the methods of this server", ""),
        }
    }

    /// An object with finalizers stays, marked as being deleted.
    fn delete(&self, path: &str) -> Response<Body> {
        let Some(mut object) = self.object(path) else {
            return status(404, "there is no such object", "");
        };
        if object["metadata"]["finalizers"].is_array() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            self.put(path, object.clone());
            return reply(200, &object);
        }
        self.state.lock().unwrap().objects.remove(path);
        let _ = self.changes.send((
            path.to_owned(),
            json!({"type": "DELETED", "object": object}),
        ));
        reply(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}),
        )
    }

    /// Objects below the path that have the labels, or the resources of a group.
    fn list(&self, request: &Recorded) -> Option<Value> {
        let state = self.state.lock().unwrap();
        if let Some(resources) = state.resources.get(&request.path) {
            let version = request.path.strip_prefix("/apis/");
            return Some(json!({
                "kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": version, "resources": resources,
            }));
        }
        let last = request.path.rsplit('/').next()?;
        if !["pods", "events"].contains(&last) {
            return None;
        }
        let wanted: Vec<(&str, &str)> = request
            .query
            .get("labelSelector")
            .into_iter()
            .flat_map(|selector| selector.split(','))
            .filter_map(|label| label.split_once('='))
            .collect();
        let prefix = format!("{}/", request.path);
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(path, _)| path.starts_with(&prefix))
            .map(|(_, object)| object)
            .filter(|object| {
                wanted
                    .iter()
                    .all(|(key, value)| object["metadata"]["labels"][key] == *value)
            })
            .collect();
        Some(json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
    }

    /// Changes after the version that was asked for; at most one can be missed in between, and that
    /// one is the object's newest state.
    fn watch(&self, request: &Recorded) -> Response<Body> {
        let name = request.query["fieldSelector"]
            .strip_prefix("metadata.name=")
            .unwrap();
        let path = format!("{}/{name}", request.path);
        let after: u64 = request.query["resourceVersion"].parse().unwrap();
        let (changes, hang_up) = (self.changes.subscribe(), self.hang_up.subscribe());
        let missed = self.object(&path).filter(|object| {
            object["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > after
        });
        let missed = missed.map(|object| json!({"type": "MODIFIED", "object": object}));
        let later =
            futures::stream::unfold((changes, hang_up), move |(mut changes, mut hang_up)| {
                let path = path.clone();
                async move {
                    loop {
                        tokio::select! {
                            _ = hang_up.recv() => return None,
                            change = changes.recv() => match change {
                                Ok((changed, event)) if changed == path => {
                                    return Some((event, (changes, hang_up)));
                                }
                                Ok(_) => {}
                                Err(_) => return None,
                            },
                        }
                    }
                }
            });
        let events = futures::stream::iter(missed)
            .chain(later)
            .map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
        Response::new(BodyExt::boxed(StreamBody::new(events)))
    }
}

/// A client of whatever listens at `address`, without kube's own layer that tries again.
pub(crate) fn client(address: SocketAddr) -> Client {
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed, as the test asked")
    }
}

impl std::error::Error for Closed {}

async fn record(request: Request<Incoming>) -> Recorded {
    let (parts, body) = request.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let query = parts.uri.query().unwrap_or_default();
    Recorded {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                (
                    key.to_owned(),
                    value.replace("%3D", "=").replace("%2C", ","),
                )
            })
            .collect(),
        content_type: parts
            .headers
            .get("content-type")
            .map_or_else(String::new, |value| value.to_str().unwrap().to_owned()),
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

fn reply(code: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(body.boxed());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16, message: &str, kind: &str) -> Response<Body> {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        422 => "Invalid",
        503 => "ServiceUnavailable",
        _ => "Unknown",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {},
        "code": code, "reason": reason, "message": message, "details": {"kind": kind},
    });
    reply(code, &body)
}
