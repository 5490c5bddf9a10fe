//! Asks whether a component is ready, as its row in the table says.

use crate::children::Children;
use crate::pki;
use crate::table::Ready;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// One question may take this long.
const LIMIT: Duration = Duration::from_secs(5);
/// Bytes of an answer's body that are kept as the reason.
const BODY: u64 = 4096;

/// Asks components whether they are ready.
#[derive(Debug, Clone)]
pub struct Probe {
    children: Children,
    pki: PathBuf,
}

impl Probe {
    /// `pki` is the folder that [`pki::ensure`] filled.
    #[must_use]
    pub fn new(children: Children, pki: PathBuf) -> Self {
        Self { children, pki }
    }

    /// Asks once. The error says why it is not ready.
    pub async fn ask(&self, ready: &Ready) -> Result<(), String> {
        match tokio::time::timeout(LIMIT, self.answer(ready)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        }
    }

    async fn answer(&self, ready: &Ready) -> io::Result<()> {
        match ready {
            Ready::Started => Ok(()),
            Ready::Ended => Err(io::Error::other("it has not ended")),
            Ready::Socket { path } => UnixStream::connect(path).await.map(drop),
            Ready::Tcp { address } => TcpStream::connect(address).await.map(drop),
            Ready::Http {
                address,
                path,
                tls: false,
            } => get(TcpStream::connect(address).await?, path).await,
            Ready::Http {
                address,
                path,
                tls: true,
            } => {
                let stream = TcpStream::connect(address).await?;
                let connector = TlsConnector::from(Arc::new(tls_config(&self.pki)?));
                let name = ServerName::try_from(pki::NODE_NAME).map_err(io::Error::other)?;
                get(connector.connect(name, stream).await?, path).await
            }
            Ready::Exec { command } => {
                let mut program = Command::new(&command[0]);
                program.args(&command[1..]);
                let done = self.children.success(&mut program, LIMIT).await;
                done.map(drop).map_err(io::Error::other)
            }
        }
    }
}

/// A GET in its simplest form; only status 200 is an answer.
async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<()> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(BODY).read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    match (status, read) {
        ("200", _) => Ok(()),
        ("", Err(error)) => Err(error),
        ("", Ok(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        (status, _) => {
            // /readyz lists its checks; those that fail are marked so.
            let failed: Vec<&str> = answer
                .lines()
                .filter_map(|line| line.strip_prefix("[-]"))
                .filter_map(|line| line.split_whitespace().next())
                .collect();
            let detail = if failed.is_empty() {
                String::new()
            } else {
                format!(" ({})", failed.join(", "))
            };
            Err(io::Error::other(format!("{path} answers {status}{detail}")))
        }
    }
}

fn tls_config(folder: &Path) -> io::Result<ClientConfig> {
    let read = |name: &str| std::fs::read(folder.join(name));
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&read("node-ca.crt")?);
    roots
        .add(authority.map_err(io::Error::other)?)
        .map_err(io::Error::other)?;
    let certificate =
        CertificateDer::from_pem_slice(&read("admin.crt")?).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&read("admin.key")?).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 512];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn only_200_is_ready_and_the_failed_checks_are_named() {
        let probe = Probe::new(Children::start(false).unwrap(), PathBuf::new());
        let ask = async |answer| {
            let address = server(answer).await;
            probe
                .ask(&Ready::Http {
                    address,
                    path: "/readyz".into(),
                    tls: false,
                })
                .await
        };
        assert_eq!(ask("HTTP/1.0 200 OK\r\n\r\nok").await, Ok(()));
        let body = "HTTP/1.0 500 X\r\n\r\n[+]ping ok\n[-]etcd failed: reason withheld\n";
        assert_eq!(
            ask(body).await,
            Err("/readyz answers 500 (etcd)".to_owned())
        );
        assert!(ask("").await.is_err());
    }

    #[tokio::test]
    async fn sockets_and_programs() {
        let dir = tempfile::tempdir().unwrap();
        let probe = Probe::new(Children::start(false).unwrap(), PathBuf::new());
        let path = dir.path().join("s");
        let ready = Ready::Socket { path: path.clone() };
        assert!(probe.ask(&ready).await.is_err());
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        assert_eq!(probe.ask(&ready).await, Ok(()));
        assert_eq!(
            probe
                .ask(&Ready::Exec {
                    command: vec!["true".into()]
                })
                .await,
            Ok(())
        );
        let no = Ready::Exec {
            command: vec!["sh".into(), "-c".into(), "echo no >&2; false".into()],
        };
        assert!(probe.ask(&no).await.unwrap_err().contains("no"));
    }
}
