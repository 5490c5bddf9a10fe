//! What BuildKit tells of a build while it goes on: messages `moby.buildkit.v1.StatusResponse` of its control
//! API, of which the fields that are shown are declared here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};

/// How many lines of the logs are kept for an error.
const LAST: usize = 12;

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "1")]
    vertexes: Vec<Vertex>,
    #[prost(message, repeated, tag = "3")]
    logs: Vec<Log>,
}

/// A step.
#[derive(Clone, PartialEq, prost::Message)]
struct Vertex {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(bool, tag = "4")]
    cached: bool,
    #[prost(message, optional, tag = "5")]
    started: Option<prost_types::Timestamp>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Log {
    #[prost(string, tag = "1")]
    vertex: String,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

/// What was told so far.
#[derive(Debug, Default)]
pub struct Trace {
    /// How often each step was told of: begun, from the cache.
    steps: BTreeMap<String, (bool, bool)>,
    /// What is no whole line yet, by step.
    parts: BTreeMap<String, String>,
    last: VecDeque<String>,
}

impl Trace {
    /// Takes one message in base64, and gives the lines that are new. What cannot be read tells nothing.
    pub fn take(&mut self, encoded: &str) -> Vec<String> {
        let bytes = STANDARD.decode(encoded).unwrap_or_default();
        let status = Status::decode(bytes.as_slice()).unwrap_or_default();
        let mut lines = Vec::new();
        for vertex in status.vertexes {
            let (begun, cached) = self.steps.entry(vertex.digest).or_default();
            if vertex.cached && !*cached {
                lines.push(format!("{} (cached)", vertex.name));
            } else if vertex.started.is_some() && !*begun && !vertex.cached {
                lines.push(vertex.name);
            }
            *begun |= vertex.started.is_some();
            *cached |= vertex.cached;
        }
        for log in status.logs {
            let part = self.parts.entry(log.vertex).or_default();
            part.push_str(&String::from_utf8_lossy(&log.text));
            while let Some((line, rest)) = part.split_once('\n') {
                let line = line.trim_end().to_owned();
                *part = rest.to_owned();
                self.last.push_back(line.clone());
                if self.last.len() > LAST {
                    self.last.pop_front();
                }
                lines.push(line);
            }
        }
        lines
    }

    /// What the steps' programs said last.
    pub fn said_last(&self) -> Vec<String> {
        let unfinished = self.parts.values().filter(|part| !part.is_empty());
        self.last.iter().chain(unfinished).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_once_and_logs_by_lines() {
        let vertex = |started: bool, cached| Vertex {
            digest: "sha256:a".into(),
            name: "[1/2] RUN make".into(),
            cached,
            started: started.then(prost_types::Timestamp::default),
        };
        let log = |text: &str| Log {
            vertex: "sha256:a".into(),
            text: text.into(),
        };
        let message = |vertexes: Vec<Vertex>, logs: Vec<Log>| {
            STANDARD.encode(Status { vertexes, logs }.encode_to_vec())
        };
        let mut trace = Trace::default();
        assert_eq!(
            trace
                .take(&message(vec![vertex(false, false)], vec![]))
                .len(),
            0
        );
        let begun = message(vec![vertex(true, false)], vec![log("one\ntw")]);
        assert_eq!(trace.take(&begun), ["[1/2] RUN make", "one"]);
        let done = message(vec![vertex(true, false)], vec![log("o\n")]);
        assert_eq!(trace.take(&done), ["two"]);
        trace.take(&message(vec![], vec![log("no end")]));
        assert_eq!(trace.said_last(), ["one", "two", "no end"]);
        assert_eq!(trace.take("no base64"), Vec::<String>::new());
        let cached = message(vec![vertex(true, true)], vec![]);
        assert_eq!(Trace::default().take(&cached), ["[1/2] RUN make (cached)"]);
    }
}
