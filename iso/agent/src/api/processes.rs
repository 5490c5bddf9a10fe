//! Processes: programs run on behalf of the host.

use super::{Agent, Replies};
use crate::accounts;
use crate::children::Exit;
use crate::session::{Group, Input, Program, Session, Source, hang_up};
use coracle_protocol::api::exec_reply::Reply;
use coracle_protocol::api::exec_request::Request as Message;
use coracle_protocol::api::processes_server::Processes as Service;
use coracle_protocol::api::{ExecExit, ExecReply, ExecRequest, ExecStart, TerminalSize};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// After a program has ended, what it started may hold its output open: so long without a
/// byte means that the rest is not waited for.
const QUIET: Duration = Duration::from_millis(500);

pub(super) struct Processes(pub(super) Arc<Agent>);

type Sender = mpsc::Sender<Result<ExecReply, Status>>;

#[tonic::async_trait]
impl Service for Processes {
    type ExecStream = Replies<ExecReply>;

    async fn exec(
        &self,
        request: Request<Streaming<ExecRequest>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut requests = request.into_inner();
        let Some(ExecRequest {
            request: Some(Message::Start(start)),
        }) = requests.message().await?
        else {
            return Err(Status::invalid_argument(
                "the first message of an exec is its start",
            ));
        };
        let program = self.program(start)?;
        let session = program
            .start(&self.0.children)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    let name = program
                        .argv
                        .first()
                        .map_or("the login shell", String::as_str);
                    Status::not_found(format!("cannot run {name}: {error}"))
                }
                _ => Status::internal(format!("cannot run it: {error}")),
            })?;
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(run(session, requests, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Processes {
    fn program(&self, start: ExecStart) -> Result<Program, Status> {
        let user = if start.user.is_empty() {
            "root"
        } else {
            &start.user
        };
        let account = accounts::find(&self.0.etc, user)?
            .ok_or_else(|| Status::not_found(format!("there is no user {user}")))?;
        let folder = start.working_directory;
        Ok(Program {
            argv: start.argv,
            account,
            environment: start.environment.into_iter().collect(),
            folder: (!folder.is_empty()).then(|| folder.into()),
            terminal: start.terminal.map(size),
        })
    }
}

fn size(size: TerminalSize) -> (u16, u16) {
    let cells = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    (cells(size.rows), cells(size.columns))
}

async fn run(session: Session, requests: Streaming<ExecRequest>, sender: Sender) {
    let Session {
        mut child,
        input,
        stdout,
        stderr,
        group,
    } = session;
    let (lost, caller_lost) = oneshot::channel();
    let feeding = tokio::spawn(feed(requests, input, group, lost));
    let mut outputs = tokio::task::JoinSet::new();
    let (alive, ended) = tokio::sync::watch::channel(());
    outputs.spawn(copy(stdout, Reply::Stdout, sender.clone(), ended.clone()));
    if let Some(stderr) = stderr {
        outputs.spawn(copy(stderr, Reply::Stderr, sender.clone(), ended));
    }
    let exit = tokio::select! {
        exit = child.exit() => Some(exit),
        () = sender.closed() => None,
        Ok(()) = caller_lost => None,
    };
    if let Some(exit) = exit {
        drop(alive);
        while outputs.join_next().await.is_some() {}
        let signal = if let Exit::Signal(signal) = exit {
            signal
        } else {
            0
        };
        let exit = Reply::Exit(ExecExit {
            code: exit.code(),
            signal,
        });
        let _ = sender.send(Ok(ExecReply { reply: Some(exit) })).await;
    } else {
        outputs.abort_all();
        hang_up(&mut child).await;
    }
    feeding.abort();
}

/// Passes on what the caller sends, until it has nothing more to send; tells when it is lost.
async fn feed(
    mut requests: Streaming<ExecRequest>,
    mut input: Input,
    group: Group,
    lost: oneshot::Sender<()>,
) {
    loop {
        match requests.message().await {
            Ok(Some(request)) => match request.request {
                Some(Message::Stdin(bytes)) => input.write(&bytes).await,
                Some(Message::StdinEof(true)) => input.end().await,
                Some(Message::Resize(wanted)) => {
                    let (rows, columns) = size(wanted);
                    input.resize(rows, columns);
                }
                Some(Message::Signal(number)) => {
                    let _ = group.signal(number);
                }
                _ => {}
            },
            Ok(None) => {
                // The caller sends no more; a pipe ends, a terminal stays.
                if matches!(input, Input::Pipe(_)) {
                    input.end().await;
                }
                return;
            }
            Err(_) => {
                let _ = lost.send(());
                return;
            }
        }
    }
}

/// Copies output until its end; once the program has ended (`alive` is closed), until it has
/// been quiet for a moment.
async fn copy(
    mut source: Source,
    wrap: fn(Vec<u8>) -> Reply,
    sender: Sender,
    mut alive: tokio::sync::watch::Receiver<()>,
) {
    let mut buffer = vec![0; super::CHUNK];
    let mut over = false;
    loop {
        let length = tokio::select! {
            length = source.read(&mut buffer) => length,
            _ = alive.changed(), if !over => {
                over = true;
                continue;
            }
            () = tokio::time::sleep(QUIET), if over => 0,
        };
        if length == 0 {
            return;
        }
        let reply = ExecReply {
            reply: Some(wrap(buffer[..length].to_vec())),
        };
        if sender.send(Ok(reply)).await.is_err() {
            return;
        }
    }
}
