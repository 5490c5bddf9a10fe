//! QEMU's monitor protocol (docs/interop/qmp-spec in QEMU): one line of JSON a message.
//!
//! Commands and their answers are the types of the crate `qapi`. Its own stream is not used: an
//! event that its closed enum does not know, or an answer that comes after its time limit, ends
//! that stream with an error. Here both are passed over.
//!
//! QEMU talks to one client at a time; a second one waits for its greeting until the first has
//! gone. So connections are short: connect, ask, drop.

mod command;
mod endpoint;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use qapi::{Command, Execute};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

pub use command::{
    BlockNode, BlockResize, BlockStatus, BlockStream, BlockdevAdd, BlockdevSnapshot, Image,
    IoStatus, Medium, Migrate, MigrateIncoming, MigrateSetCapabilities, MigrateSetParameters,
    MigrationStatus, QueryBlock, QueryBlockJobs, QueryMigrate, QueryNodes, QueryStatus, RunStatus,
    SaveDevices, migration_capability,
};
pub use endpoint::{Connection, QmpEndpoint};

/// How long one command may take unless said otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// What went wrong while talking to a monitor.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody could be reached.
    #[error("cannot reach the monitor at {endpoint}")]
    Connect {
        /// Where.
        endpoint: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the monitor's connection broke during {command}")]
    Broken {
        /// The command that was under way.
        command: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There was no answer in time.
    #[error("the monitor did not answer {command} within {} ms", limit.as_millis())]
    TimedOut {
        /// The command that was under way.
        command: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// QEMU refused a command.
    #[error("QEMU refused {command}: {description}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's class of the error.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// A message was not what the protocol wants.
    #[error("the monitor sent an unexpected message during {command}: {message}")]
    Unexpected {
        /// The command that was under way.
        command: &'static str,
        /// The message or the fault in it.
        message: String,
    },
}

impl QmpError {
    /// Whether nobody is there: no socket, one that its owner left behind, or an owner that is
    /// ending and closes what it had accepted.
    pub fn is_absence(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        match self {
            Self::Connect { source, .. } => matches!(source.kind(), ConnectionRefused | NotFound),
            Self::Broken { .. } => true,
            _ => false,
        }
    }
}

/// An event that QEMU sent by itself.
#[derive(Debug, Clone)]
pub struct MonitorEvent {
    /// Its name, for example `SHUTDOWN`.
    pub name: String,
    /// Its content, if this is an event that the crate `qapi` knows.
    pub known: Option<qapi::qmp::Event>,
}

/// The name under which the greeting appears in errors.
const GREETING: &str = "the greeting";

/// One conversation with a monitor.
pub struct QmpClient {
    stream: BufReader<Connection>,
    /// What was read of a line so far; kept here so that a read may be cancelled.
    line: Vec<u8>,
    last_id: u64,
    limit: Duration,
    events: VecDeque<MonitorEvent>,
}

impl QmpClient {
    /// Connects and gets ready for commands, all within `limit`.
    pub async fn connect(endpoint: &QmpEndpoint, limit: Duration) -> Result<Self, QmpError> {
        let open = async {
            let connect = |source| QmpError::Connect {
                endpoint: endpoint.to_string(),
                source,
            };
            let stream = BufReader::new(endpoint.connect().await.map_err(connect)?);
            let mut client = Self {
                stream,
                line: Vec::new(),
                last_id: 0,
                limit: COMMAND_LIMIT,
                events: VecDeque::new(),
            };
            let greeting = client.read_message(GREETING).await?;
            if greeting.get("QMP").is_none() {
                return Err(QmpError::Unexpected {
                    command: GREETING,
                    message: greeting.to_string(),
                });
            }
            client
                .execute(qapi::qmp::qmp_capabilities { enable: None })
                .await?;
            Ok(client)
        };
        let late = || QmpError::TimedOut {
            command: GREETING,
            limit,
        };
        tokio::time::timeout(limit, open)
            .await
            .map_err(|_| late())?
    }

    /// How long each further command may take; [`COMMAND_LIMIT`] at first.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Runs a command. Events that come meanwhile are kept for [`next_event`](Self::next_event).
    pub async fn execute<C: Command>(&mut self, command: C) -> Result<C::Ok, QmpError> {
        let limit = self.limit;
        let late = |_| QmpError::TimedOut {
            command: C::NAME,
            limit,
        };
        tokio::time::timeout(limit, self.exchange(command))
            .await
            .map_err(late)?
    }

    /// The next event. Waits without a limit; may be cancelled.
    pub async fn next_event(&mut self) -> Result<MonitorEvent, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            // An answer can only be a late one, to a command that was given up.
            let message = self.read_message("an event").await?;
            self.keep_event(&message);
        }
    }

    /// Waits until QEMU closes the connection, which it does when it ends.
    pub async fn closed(&mut self) {
        while self.next_event().await.is_ok() {}
    }

    /// Sends a command and reads until its own answer comes.
    async fn exchange<C: Command>(&mut self, command: C) -> Result<C::Ok, QmpError> {
        self.last_id += 1;
        let id = self.last_id;
        let unexpected = |message: String| QmpError::Unexpected {
            command: C::NAME,
            message,
        };
        let mut request = serde_json::to_vec(&Execute::with_id(command, id))
            .map_err(|error| unexpected(error.to_string()))?;
        request.push(b'\n');
        let broken = |source| QmpError::Broken {
            command: C::NAME,
            source,
        };
        self.stream
            .get_mut()
            .write_all(&request)
            .await
            .map_err(broken)?;
        self.stream.get_mut().flush().await.map_err(broken)?;
        loop {
            let mut message = self.read_message(C::NAME).await?;
            if self.keep_event(&message) || message.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            if let Some(error) = message.get("error") {
                let text = |key: &str| {
                    error
                        .get(key)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                return Err(QmpError::Refused {
                    command: C::NAME,
                    class: text("class"),
                    description: text("desc"),
                });
            }
            let answer = message
                .get_mut("return")
                .map(Value::take)
                .unwrap_or_default();
            return serde_json::from_value(answer).map_err(|error| unexpected(error.to_string()));
        }
    }

    /// Puts a message aside if it is an event. An event of an unknown kind is kept by its name.
    fn keep_event(&mut self, message: &Value) -> bool {
        let Some(name) = message.get("event").and_then(Value::as_str) else {
            return false;
        };
        let known = serde_json::from_value(message.clone()).ok();
        self.events.push_back(MonitorEvent {
            name: name.to_owned(),
            known,
        });
        true
    }

    /// Reads one line of JSON.
    async fn read_message(&mut self, command: &'static str) -> Result<Value, QmpError> {
        let broken = |source| QmpError::Broken { command, source };
        let count = self
            .stream
            .read_until(b'\n', &mut self.line)
            .await
            .map_err(broken)?;
        if count == 0 || !self.line.ends_with(b"\n") {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = std::mem::take(&mut self.line);
        serde_json::from_slice(&line).map_err(|error| QmpError::Unexpected {
            command,
            message: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests;
