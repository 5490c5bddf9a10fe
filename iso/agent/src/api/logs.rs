//! Logs: the bounded files, read and followed.

use super::{Agent, Replies};
use crate::logs::Log;
use coracle_protocol::api::logs_server::Logs as Service;
use coracle_protocol::api::{LogChunk, ReadLogRequest};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

pub(super) struct LogFiles(pub(super) Arc<Agent>);

type Sender = mpsc::Sender<Result<LogChunk, Status>>;

#[tonic::async_trait]
impl Service for LogFiles {
    type ReadStream = Replies<LogChunk>;

    async fn read(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let ReadLogRequest {
            component,
            follow,
            tail_lines,
        } = request.into_inner();
        let all = component.is_empty();
        let names = if all {
            self.0.logs.names()
        } else {
            vec![component]
        };
        let (sender, receiver) = mpsc::channel(4);
        for name in names {
            let log = self.0.logs.existing(&name);
            // A component that has not been started yet has no log, but it will.
            let known = || {
                self.0
                    .supervisor
                    .watch()
                    .borrow()
                    .iter()
                    .any(|one| one.name == name)
            };
            let log = match log {
                Some(log) => log,
                None if known() => self.0.logs.log(&name)?,
                None => return Err(Status::not_found(format!("there is no log of {name}"))),
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                if let Err(error) = send(&log, &name, all, follow, tail_lines, &sender).await {
                    let _ = sender.send(Err(error.into())).await;
                }
            });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn send(
    log: &Log,
    name: &str,
    led: bool,
    follow: bool,
    tail_lines: u32,
    sender: &Sender,
) -> io::Result<()> {
    let mut written = log.subscribe();
    let Range { start, end } = log.tail(tail_lines)?;
    let mut position = start;
    loop {
        let (mut bytes, next) = log.read(position)?;
        if !follow {
            // What was written since is not among the last lines that were asked for.
            let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
            bytes.truncate(left);
        }
        if !bytes.is_empty() {
            position = next;
            let data = if led { lead(name, &bytes) } else { bytes };
            if sender
                .send(Ok(LogChunk {
                    component: name.to_owned(),
                    data,
                }))
                .await
                .is_err()
            {
                return Ok(());
            }
        } else if !follow {
            return Ok(());
        } else {
            tokio::select! {
                changed = written.changed() => if changed.is_err() { return Ok(()) },
                () = sender.closed() => return Ok(()),
            }
        }
    }
}

/// Puts the source before every line.
fn lead(name: &str, lines: &[u8]) -> Vec<u8> {
    let mut led = Vec::with_capacity(lines.len() * 5 / 4);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        led.extend_from_slice(name.as_bytes());
        led.extend_from_slice(b": ");
        led.extend_from_slice(line);
    }
    led
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_line_is_led_by_its_source() {
        assert_eq!(super::lead("etcd", b"a\nb\n"), b"etcd: a\netcd: b\n");
    }
}
