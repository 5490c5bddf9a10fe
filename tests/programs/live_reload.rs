//! A server as developers run it in a container: it has its pages in memory, and reads them anew when
//! inotify says that they changed. `live-reload FOLDER PORT`.
//!
//! ```text
//! GET /FILE   as it was when it was read last
//! GET /.seen  what inotify told, one `EVENT NAME` a line
//! ```
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What was read, and what was told.
#[derive(Default)]
struct Known {
    pages: HashMap<String, Vec<u8>>,
    seen: String,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let port: u16 = arguments.next().expect("a port").parse().unwrap();
    let known = Arc::new(Mutex::new(Known::default()));
    let watching = (folder.clone(), Arc::clone(&known));
    let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
    // First: what changes after that is told.
    inotify::add_watch(&watch, &folder, WatchFlags::ALL_EVENTS).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        read(&folder, &name, &known);
    }
    std::thread::spawn(move || follow(&watch, &watching.0, &watching.1));
    for stream in TcpListener::bind(("0.0.0.0", port)).unwrap().incoming() {
        answer(&stream.unwrap(), &known);
    }
}

fn read(folder: &Path, name: &str, known: &Mutex<Known>) {
    let page = fs::read(folder.join(name));
    let pages = &mut known.lock().unwrap().pages;
    match page {
        Ok(page) => pages.insert(name.to_owned(), page),
        Err(_) => pages.remove(name),
    };
}

fn follow(watch: &rustix::fd::OwnedFd, folder: &Path, known: &Mutex<Known>) {
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    loop {
        let event = reader.next().unwrap();
        let name = event.file_name().map_or("", |name| name.to_str().unwrap());
        for (flag, word) in [
            (ReadFlags::CREATE, "create"),
            (ReadFlags::MODIFY, "modify"),
            (ReadFlags::CLOSE_WRITE, "close-write"),
            (ReadFlags::DELETE, "delete"),
            (ReadFlags::MOVED_FROM, "moved-from"),
            (ReadFlags::MOVED_TO, "moved-to"),
        ] {
            if event.events().contains(flag) {
                read(folder, name, known);
                known.lock().unwrap().seen += &format!("{word} {name}\n");
            }
        }
    }
}

fn answer(mut stream: &TcpStream, known: &Mutex<Known>) {
    let mut request = String::new();
    // A connection without a request is a probe.
    if BufReader::new(stream).read_line(&mut request).is_err() {
        return;
    }
    let name = request
        .split(' ')
        .nth(1)
        .unwrap_or("/")
        .trim_start_matches('/');
    let known = known.lock().unwrap();
    let page = match name {
        ".seen" => Some(known.seen.as_bytes()),
        name => known.pages.get(name).map(Vec::as_slice),
    };
    let (status, body) = page.map_or(("404 Not Found", &b""[..]), |page| ("200 OK", page));
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}
