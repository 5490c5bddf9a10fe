//! A web server of a folder that does what servers and networks do to a download: it breaks off, falls
//! silent, lies, sends something else. It remembers what it was asked, and how much it sent.

use crate::wait::sleep;
use crate::{Authority, until};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a server that fell silent keeps a connection, and waits for a request.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are sent at a time.
const PIECE: usize = 1 << 14;

/// What a server does instead of sending the file.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It answers with this status and nothing else.
    Status(u16),
    /// It answers 503, and asks to be left alone for so many seconds.
    Busy(u64),
    /// It sends the file elsewhere.
    Redirect(String),
    /// It sends so many bytes and closes the connection.
    BreakOff(usize),
    /// It sends so many bytes, and nothing more.
    FallSilent(usize),
    /// It sends at most so many bytes a second.
    Slow(usize),
    /// It says this length.
    SayLength(usize),
    /// It says no length: the file ends where the connection does, after so many bytes if that is sooner.
    SayNoLength(usize),
    /// It sends the whole file whatever range was asked for.
    IgnoreRange,
    /// It changes one byte, the last of what was asked for.
    ChangeByte,
    /// It sends this instead.
    Content(Vec<u8>),
}

/// What was asked of a server.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is behind the host's name, without a query.
    pub path: String,
    /// First byte of the range.
    pub range: Option<usize>,
    /// The condition on it.
    pub if_range: Option<String>,
    /// The whole head.
    pub head: String,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the file that were sent.
    pub sent: usize,
}

struct Shared {
    folder: PathBuf,
    version: Mutex<String>,
    /// End of a path, what happens to requests for it, how often.
    faults: Mutex<Vec<(String, Fault, usize)>>,
    requests: Mutex<Vec<Request>>,
}

/// A server on a loopback port, which lives as long as the test. It is a proxy for HTTP too, of servers
/// that all have this folder.
pub struct Mirror {
    port: u16,
    is_secure: bool,
    shared: Arc<Shared>,
}

impl Mirror {
    /// Serves a folder.
    pub fn of(folder: impl Into<PathBuf>) -> Self {
        Self::start(folder.into(), None)
    }

    /// Serves a folder as `https://localhost`.
    pub fn secure(folder: impl Into<PathBuf>, authority: &Authority) -> Self {
        Self::start(
            folder.into(),
            Some(Arc::new(authority.serving("localhost"))),
        )
    }

    fn start(folder: PathBuf, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            folder,
            version: Mutex::new("\"one\"".into()),
            faults: Mutex::default(),
            requests: Mutex::default(),
        });
        let is_secure = tls.is_some();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&serving), tls.clone());
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(SILENCE));
                    let raw = stream.try_clone();
                    // A client may leave at any moment.
                    let _ = match tls {
                        None => shared.serve(stream),
                        Some(config) => ServerConnection::new(config)
                            .map_err(std::io::Error::other)
                            .and_then(|tls| shared.serve(StreamOwned::new(tls, stream))),
                    };
                    let _ = raw.and_then(|raw| raw.shutdown(Shutdown::Both));
                });
            }
        });
        Self {
            port,
            is_secure,
            shared,
        }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self.is_secure {
            true => format!("https://localhost:{}/", self.port),
            false => format!("http://127.0.0.1:{}/", self.port),
        }
    }

    /// Does this to the next `times` requests for paths that end so, unless an earlier fault holds.
    pub fn fault(&self, path: &str, fault: Fault, times: usize) {
        let mut faults = self.shared.faults.lock().unwrap();
        faults.push((path.to_owned(), fault, times));
    }

    /// Does nothing of the kind any more.
    pub fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Calls what it sends from now on by another entity tag, with its quotes, or by none.
    pub fn set_version(&self, tag: &str) {
        tag.clone_into(&mut self.shared.version.lock().unwrap());
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests for paths that end so.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path.ends_with(path));
        requests
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.requests.lock().unwrap().clear();
    }

    /// Bytes of files that were sent.
    pub fn sent(&self) -> usize {
        self.requests().iter().map(|request| request.sent).sum()
    }

    /// Waits until so many bytes were sent of a path that ends so.
    #[track_caller]
    pub fn until_sent(&self, path: &str, bytes: usize) {
        let what = format!("{bytes} bytes of {path} are sent");
        until(&what, SILENCE, || {
            let requests = self.requests_for(path);
            requests.iter().map(|request| request.sent).sum::<usize>() >= bytes
        });
    }
}

/// An answer: its head, and what of the file follows.
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// Bytes that are sent before the connection is closed or falls silent.
    until: usize,
    falls_silent: bool,
    /// Bytes a second.
    rate: Option<usize>,
}

impl Answer {
    fn of(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![format!("Content-Length: {}", body.len())],
            until: body.len(),
            body,
            falls_silent: false,
            rate: None,
        }
    }

    fn say_length(&mut self, length: Option<usize>) {
        self.headers
            .retain(|header| !header.starts_with("Content-Length"));
        if let Some(length) = length {
            self.headers.push(format!("Content-Length: {length}"));
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: impl Read + Write) -> std::io::Result<()> {
        let head = read_head(&mut stream)?;
        let request = asked(&head);
        let answer = self.answer(&request);
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(Request {
                status: answer.status,
                ..request
            });
            requests.len() - 1
        };
        let mut text = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status);
        for header in &answer.headers {
            text += &format!("{header}\r\n");
        }
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        let begun = Instant::now();
        let mut sent = 0;
        let piece = answer.rate.map_or(PIECE, |rate| PIECE.min(rate / 20 + 1));
        for piece in answer.body[..answer.until.min(answer.body.len())].chunks(piece) {
            stream.write_all(piece)?;
            stream.flush()?;
            sent += piece.len();
            if let Some(request) = self.requests.lock().unwrap().get_mut(number) {
                request.sent += piece.len();
            }
            if let Some(rate) = answer.rate {
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        if answer.falls_silent {
            // Until the other side leaves.
            let _ = stream.read(&mut [0]);
        }
        stream.flush()
    }

    fn answer(&self, request: &Request) -> Answer {
        let fault = self.take_fault(&request.path);
        match &fault {
            Some(Fault::Status(status)) => return Answer::of(*status, Vec::new()),
            Some(Fault::Busy(seconds)) => {
                let mut answer = Answer::of(503, Vec::new());
                answer.headers.push(format!("Retry-After: {seconds}"));
                return answer;
            }
            Some(Fault::Redirect(to)) => {
                let mut answer = Answer::of(302, Vec::new());
                answer.headers.push(format!("Location: {to}"));
                return answer;
            }
            _ => {}
        }
        let content = match &fault {
            Some(Fault::Content(content)) => Ok(content.clone()),
            _ => fs::read(self.folder.join(request.path.trim_start_matches('/'))),
        };
        let Ok(content) = content else {
            return Answer::of(404, b"not here".to_vec());
        };
        let version = self.version.lock().unwrap().clone();
        let honoured = request.range.filter(|_| {
            let is_same = |tag: &String| *tag == version;
            !matches!(fault, Some(Fault::IgnoreRange))
                && request.if_range.as_ref().is_none_or(is_same)
        });
        let mut answer = match honoured {
            Some(first) if first >= content.len() => return Answer::of(416, Vec::new()),
            Some(first) => {
                let (last, length) = (content.len() - 1, content.len());
                let mut answer = Answer::of(206, content[first..].to_vec());
                let range = format!("Content-Range: bytes {first}-{last}/{length}");
                answer.headers.push(range);
                answer
            }
            None => Answer::of(200, content),
        };
        if !version.is_empty() {
            answer.headers.push(format!("ETag: {version}"));
        }
        match fault {
            Some(Fault::BreakOff(bytes)) => answer.until = bytes,
            Some(Fault::FallSilent(bytes)) => {
                answer.until = bytes;
                answer.falls_silent = true;
            }
            Some(Fault::Slow(rate)) => answer.rate = Some(rate),
            Some(Fault::SayLength(length)) => answer.say_length(Some(length)),
            Some(Fault::SayNoLength(bytes)) => {
                answer.say_length(None);
                answer.until = bytes;
            }
            Some(Fault::ChangeByte) => {
                if let Some(last) = answer.body.last_mut() {
                    *last ^= 0x55;
                }
            }
            _ => {}
        }
        answer
    }

    fn take_fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let found = faults
            .iter_mut()
            .find(|(end, _, times)| *times > 0 && path.ends_with(end.as_str()))?;
        found.2 -= 1;
        Some(found.1.clone())
    }
}

/// The head of an HTTP request, with the empty line at its end.
pub fn read_head(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => head.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn asked(head: &str) -> Request {
    let target = head.split_whitespace().nth(1).unwrap_or_default();
    // A proxy is asked for a whole URL.
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let range = header("range").and_then(|range| {
        let (first, _) = range.strip_prefix("bytes=")?.split_once('-')?;
        first.parse().ok()
    });
    Request {
        path: path.replace("%20", " "),
        range,
        if_range: header("if-range"),
        head: head.to_owned(),
        status: 0,
        sent: 0,
    }
}
