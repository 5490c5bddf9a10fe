//! Small servers of the host that remember what they were asked.

use coracle_tests::{Authority, read_head};
use rustls::{ServerConfig, ServerConnection, Stream};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than a client under software emulation stays silent.
const SILENCE: Duration = Duration::from_secs(60);

/// A server on a loopback port: it answers each request with the same thing, and lives as long as the test.
pub(super) struct Server {
    pub(super) port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// A proxy that leads nowhere.
    pub(super) fn proxy() -> Self {
        let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        Self::start(None, answer)
    }

    /// A web server behind TLS.
    pub(super) fn secure(authority: &Authority, name: &str) -> Self {
        let answer =
            "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        Self::start(Some(Arc::new(authority.serving(name))), answer)
    }

    fn start(tls: Option<Arc<ServerConfig>>, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (tls, seen) = (tls.clone(), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(SILENCE));
                    // A client that does not trust it leaves in the middle of the handshake.
                    let head = match tls {
                        Some(config) => served_securely(&mut stream, config, answer),
                        None => served(&mut stream, answer),
                    };
                    if let Ok(head) = head {
                        seen.lock().unwrap().push(head);
                    }
                });
            }
        });
        Self { port, heads }
    }

    /// The heads of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn served_securely(
    stream: &mut TcpStream,
    config: Arc<ServerConfig>,
    answer: &str,
) -> std::io::Result<String> {
    let mut connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let head = served(&mut Stream::new(&mut connection, stream), answer)?;
    connection.send_close_notify();
    let _ = connection.complete_io(stream);
    Ok(head)
}

fn served(mut stream: impl Read + Write, answer: &str) -> std::io::Result<String> {
    let head = read_head(&mut stream)?;
    stream.write_all(answer.as_bytes())?;
    stream.flush()?;
    Ok(head)
}
