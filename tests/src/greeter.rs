//! A server of the host for whoever gets through to it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

/// What it answers to all.
pub const GREETING: &str = "from the host";

/// Serves HTTP on the loopback address of the host for as long as the test runs; gives its port.
pub fn greet() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{GREETING}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}
