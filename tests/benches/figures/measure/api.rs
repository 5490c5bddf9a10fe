//! A small client of the Kubernetes API: one HTTP/1.1 connection over TLS, with the credentials of a
//! kubeconfig. kubectl takes longer to start than what is to be measured.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A name that every API server's certificate has.
const NAME: &str = "kubernetes";
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long requests are repeated.
const LIMIT: Duration = Duration::from_secs(300);
/// The pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(5);

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// How an answer begins.
struct Head {
    status: u16,
    length: usize,
    is_chunked: bool,
}

/// A server, and who calls it.
pub(crate) struct Api {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    connection: Option<Connection>,
    /// Requests that did not reach the server, or that it refused.
    pub(crate) repeated: u32,
}

impl Api {
    /// As nobody in particular; `authority` is the file of the authority that is believed.
    pub(crate) fn anonymous(server: SocketAddr, authority: &Path) -> Self {
        let tls = builder(authority).with_no_client_auth();
        Self::new(server, tls)
    }

    /// What a kubeconfig says of a context.
    pub(crate) fn of_kubeconfig(file: &Path, context: &str) -> Self {
        let text = std::fs::read_to_string(file).expect("a start writes a kubeconfig");
        let config: Value = serde_yaml::from_str(&text).expect("a kubeconfig is YAML");
        let entry = |list: &str, name: &str, of: &str| {
            let entries = config[list].as_array().expect("a kubeconfig has lists");
            let found = entries.iter().find(|entry| entry["name"] == name);
            found.unwrap_or_else(|| panic!("no {name} in {text}"))[of].clone()
        };
        let word = |value: &Value| {
            value
                .as_str()
                .unwrap_or_else(|| panic!("{text}"))
                .to_owned()
        };
        let context = entry("contexts", context, "context");
        let cluster = entry("clusters", &word(&context["cluster"]), "cluster");
        let user = entry("users", &word(&context["user"]), "user");
        let path = |value: &Value| PathBuf::from(word(value));
        let certificates = certificates(&path(&user["client-certificate"]));
        let key = PrivateKeyDer::from_pem_file(path(&user["client-key"])).expect("a client key");
        let tls = builder(&path(&cluster["certificate-authority"]))
            .with_client_auth_cert(certificates, key)
            .expect("a client certificate with its key");
        let server = word(&cluster["server"]);
        let address = server.trim_start_matches("https://").parse();
        Self::new(address.expect("an address and a port"), tls)
    }

    fn new(server: SocketAddr, tls: ClientConfig) -> Self {
        Self {
            server,
            tls: Arc::new(tls),
            connection: None,
            repeated: 0,
        }
    }

    /// Makes a ConfigMap and reads it back.
    pub(crate) fn write_and_read_back(&mut self) {
        let value = format!("{:?}", Instant::now());
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"generateName": "bench-"},
            "data": {"written": value},
        });
        let maps = "/api/v1/namespaces/default/configmaps";
        let made = self.until_done("POST", maps, Some(&object));
        let name = made["metadata"]["name"].as_str().expect("it has a name");
        let read = self.until_done("GET", &format!("{maps}/{name}"), None);
        assert_eq!(read["data"]["written"], value, "what was written: {read}");
    }

    /// Repeats a request until it is done; its answer.
    pub(crate) fn until_done(&mut self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let accept = |status| (200..300).contains(&status);
        let answer = self.until(accept, method, path, body);
        serde_json::from_slice(&answer).expect("the API speaks JSON")
    }

    /// Repeats a request until the server answers, whatever it says.
    pub(crate) fn until_it_answers(&mut self, path: &str) {
        self.until(|_| true, "GET", path, None);
    }

    fn until(
        &mut self,
        accept: impl Fn(u16) -> bool,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Vec<u8> {
        let begun = Instant::now();
        loop {
            let said = match self.request(method, path, body) {
                Ok((status, answer)) if accept(status) => return answer,
                Ok((status, answer)) => format!("{status} {}", String::from_utf8_lossy(&answer)),
                Err(error) => {
                    self.connection = None;
                    error.to_string()
                }
            };
            assert!(begun.elapsed() < LIMIT, "{method} {path}: {said}");
            self.repeated += 1;
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Follows the objects of a list until one is as it should be. Looking again and again would cost the
    /// guest more than what is to be measured.
    pub(crate) fn watch_until(&mut self, list: &str, mut is_met: impl FnMut(&Value) -> bool) {
        let mut watched = || -> io::Result<()> {
            let path = format!("{list}?watch=true");
            let (mut connection, answer) = self.ask("GET", &path, None)?;
            connection.get_ref().sock.set_read_timeout(Some(LIMIT))?;
            let mut text = Vec::new();
            while let Some(more) = chunk(&mut connection)? {
                text.extend(more);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let event: Vec<u8> = text.drain(..=end).collect();
                    let event: Value = serde_json::from_slice(&event).map_err(malformed)?;
                    if is_met(&event["object"]) {
                        // What else would come on this connection is not waited for.
                        return Ok(());
                    }
                }
            }
            Err(malformed(format!("{} and then nothing", answer.status)))
        };
        let watched = watched();
        self.connection = None;
        watched.unwrap_or_else(|error| panic!("watching {list}: {error}"));
    }

    /// One request: its status and body (RFC 9112).
    fn request(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(u16, Vec<u8>)> {
        let (mut connection, answer) = self.ask(method, path, body)?;
        let mut text = Vec::new();
        if answer.is_chunked {
            while let Some(more) = chunk(&mut connection)? {
                text.extend(more);
            }
        } else {
            text.resize(answer.length, 0);
            connection.read_exact(&mut text)?;
        }
        self.connection = Some(connection);
        Ok((answer.status, text))
    }

    /// Sends a request; what its answer begins with.
    fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(Connection, Head)> {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => self.connect()?,
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nAccept: application/json\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let status = line(&mut connection)?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut head = Head {
            status: status.ok_or_else(|| malformed("no status"))?,
            length: 0,
            is_chunked: false,
        };
        loop {
            let header = line(&mut connection)?.to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => {
                    head.length = value.parse().map_err(malformed)?
                }
                Some(("transfer-encoding", value)) => head.is_chunked = value == "chunked",
                Some(_) => {}
                None => return Ok((connection, head)),
            }
        }
    }

    fn connect(&self) -> io::Result<Connection> {
        let socket = TcpStream::connect_timeout(&self.server, REQUEST_LIMIT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(REQUEST_LIMIT))?;
        let name = ServerName::try_from(NAME).map_err(malformed)?;
        let client = ClientConnection::new(Arc::clone(&self.tls), name).map_err(malformed)?;
        Ok(BufReader::new(StreamOwned::new(client, socket)))
    }
}

fn builder(
    authority: &Path,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(authority));
    assert!(added > 0, "no authority in {}", authority.display());
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots)
}

fn certificates(file: &Path) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn line(source: &mut impl io::BufRead) -> io::Result<String> {
    let mut text = String::new();
    if source.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end().to_owned())
}

fn malformed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The next part of an answer that comes in parts; `None` after the last.
fn chunk(connection: &mut Connection) -> io::Result<Option<Vec<u8>>> {
    let size = line(connection)?;
    let size = usize::from_str_radix(&size, 16).map_err(malformed)?;
    let mut part = vec![0; size];
    connection.read_exact(&mut part)?;
    line(connection)?;
    Ok((size > 0).then_some(part))
}
