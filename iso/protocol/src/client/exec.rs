//! Programs run inside the machine: a session of input and output.

use super::error::AgentError;
use super::{AgentClient, transfer::CHUNK};
use crate::api::{
    ExecReply, ExecRequest, ExecStart, TerminalSize, exec_reply::Reply, exec_request::Request,
    processes_client::ProcessesClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// A program that runs inside the machine. Dropping both halves kills it.
#[derive(Debug)]
pub struct ExecSession {
    /// What goes to the program.
    pub input: ExecInput,
    /// What comes from it.
    pub output: ExecOutput,
}

/// The way to a running program; clones lead to the same one.
#[derive(Debug, Clone)]
pub struct ExecInput(mpsc::Sender<ExecRequest>);

/// The way from a running program.
#[derive(Debug)]
pub struct ExecOutput(tonic::Streaming<ExecReply>);

/// What a running program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Bytes of its standard output, or of its terminal.
    Stdout(Vec<u8>),
    /// Bytes of its standard error; never with a terminal.
    Stderr(Vec<u8>),
    /// Its end; nothing follows.
    Exit {
        /// The exit status; 128 plus the signal's number when a signal ended it.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
    },
}

impl AgentClient {
    /// Starts a program. An unknown user or program is [`AgentError::NotFound`].
    pub async fn exec(&self, start: ExecStart) -> Result<ExecSession, AgentError> {
        let (sender, receiver) = mpsc::channel(16);
        let input = ExecInput(sender);
        input.send(Request::Start(start)).await?;
        let mut client = ProcessesClient::new(self.channel());
        let output = client
            .exec(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(ExecSession {
            input,
            output: ExecOutput(output),
        })
    }

    /// Runs a program without input or terminal to its end and returns its exit status,
    /// standard output and standard error. For programs that print little.
    pub async fn run(&self, start: ExecStart) -> Result<(i32, Vec<u8>, Vec<u8>), AgentError> {
        let mut session = self.exec(start).await?;
        session.input.end().await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match session.output.next().await? {
                ExecEvent::Stdout(bytes) => stdout.extend(bytes),
                ExecEvent::Stderr(bytes) => stderr.extend(bytes),
                ExecEvent::Exit { code, .. } => return Ok((code, stdout, stderr)),
            }
        }
    }
}

impl ExecInput {
    async fn send(&self, request: Request) -> Result<(), AgentError> {
        let request = ExecRequest {
            request: Some(request),
        };
        let gone = |_| AgentError::Gone("the program has ended".to_owned());
        self.0.send(request).await.map_err(gone)
    }

    /// Sends bytes to standard input, or to the terminal.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), AgentError> {
        for part in bytes.chunks(CHUNK) {
            self.send(Request::Stdin(part.to_vec())).await?;
        }
        Ok(())
    }

    /// Closes standard input.
    pub async fn end(&self) -> Result<(), AgentError> {
        self.send(Request::StdinEof(true)).await
    }

    /// Tells the terminal its size.
    pub async fn resize(&self, rows: u32, columns: u32) -> Result<(), AgentError> {
        self.send(Request::Resize(TerminalSize { rows, columns }))
            .await
    }

    /// Sends a signal, by its number on Linux, to the program's process group.
    pub async fn signal(&self, number: i32) -> Result<(), AgentError> {
        self.send(Request::Signal(number)).await
    }
}

impl ExecOutput {
    /// The next event. An end of the stream without an exit is an error, so that a broken
    /// connection is never taken for success.
    pub async fn next(&mut self) -> Result<ExecEvent, AgentError> {
        loop {
            let Some(reply) = self.0.message().await? else {
                return Err(AgentError::Gone(
                    "it ended before the program did".to_owned(),
                ));
            };
            return Ok(match reply.reply {
                Some(Reply::Stdout(bytes)) => ExecEvent::Stdout(bytes),
                Some(Reply::Stderr(bytes)) => ExecEvent::Stderr(bytes),
                Some(Reply::Exit(exit)) => ExecEvent::Exit {
                    code: exit.code,
                    signal: (exit.signal != 0).then_some(exit.signal),
                },
                // A kind of message that this version does not know.
                None => continue,
            });
        }
    }
}
