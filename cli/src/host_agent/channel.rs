//! The way from commands to a host agent. Whoever may go it is the same user.
//!
//! On Unix it is a socket in the runtime folder, which is its user's alone. On Windows it is a named pipe of
//! this machine: Windows lets nobody write to one but its user and administrators.

use crate::error::{Context as _, ErrorId, Result};
use coracle_vm::MachineDir;

pub use system::{Listener, connect, listen};

#[cfg(unix)]
mod system {
    use super::*;
    use coracle_vm::store::atomic;
    use std::io;
    use std::path::{Path, PathBuf};
    use tokio::net::{UnixListener, UnixStream};

    fn socket(dir: &MachineDir) -> Result<PathBuf> {
        dir.socket("host").context(ErrorId::Internal, || {
            "no place for the host agent's socket".into()
        })
    }

    /// A connection; None where nobody listens.
    pub async fn connect(dir: &MachineDir) -> Result<Option<UnixStream>> {
        Ok(UnixStream::connect(socket(dir)?).await.ok())
    }

    /// Where connections come in. The socket is gone with it.
    #[derive(Debug)]
    pub struct Listener {
        socket: UnixListener,
        path: PathBuf,
    }

    impl Drop for Listener {
        fn drop(&mut self) {
            // What is left behind answers nobody, and the next one removes it.
            let _ = atomic::remove(&self.path);
        }
    }

    impl Listener {
        /// The next connection.
        pub async fn accept(&mut self) -> io::Result<UnixStream> {
            let (stream, _) = self.socket.accept().await?;
            Ok(stream)
        }
    }

    /// Begins to listen, in place of a host agent that is gone. The caller is the only one there is.
    pub fn listen(dir: &MachineDir) -> Result<Listener> {
        let path = socket(dir)?;
        let failed = || format!("cannot listen on {}", path.display());
        atomic::create_private_dirs(path.parent().unwrap_or(Path::new("/")))
            .context(ErrorId::Write, failed)?;
        atomic::remove(&path).context(ErrorId::Write, failed)?;
        let socket = UnixListener::bind(&path).context(ErrorId::Write, failed)?;
        Ok(Listener { socket, path })
    }
}

#[cfg(windows)]
mod system {
    use super::*;
    use std::io;
    use std::time::{Duration, Instant};
    use tokio::net::windows::named_pipe::{
        ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
    };

    /// ERROR_PIPE_BUSY: somebody listens, and is just taking another connection.
    const BUSY: i32 = 231;
    /// How long that may take.
    const BUSY_LIMIT: Duration = Duration::from_secs(5);
    /// The pause between two attempts.
    const BUSY_PAUSE: Duration = Duration::from_millis(10);

    /// ERROR_NO_DATA: the other end is closed.
    const GONE: i32 = 232;

    /// A connection; None where nobody listens.
    pub async fn connect(dir: &MachineDir) -> Result<Option<NamedPipeClient>> {
        let name = dir.pipe("host");
        let begun = Instant::now();
        loop {
            match ClientOptions::new().open(&name) {
                Ok(stream) => return Ok(Some(stream)),
                Err(error)
                    if error.raw_os_error() == Some(BUSY) && begun.elapsed() < BUSY_LIMIT =>
                {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Where connections come in: the end of the pipe that waits for one.
    #[derive(Debug)]
    pub struct Listener {
        name: String,
        waiting: NamedPipeServer,
    }

    impl Listener {
        /// The next connection.
        pub async fn accept(&mut self) -> io::Result<NamedPipeServer> {
            while let Err(error) = self.waiting.connect().await {
                // Who came is gone already, and would keep the place of the next one.
                self.waiting.disconnect()?;
                if error.raw_os_error() != Some(GONE) {
                    return Err(error);
                }
            }
            // Before this one is served, so that there is always one to connect to.
            let next = ServerOptions::new().create(&self.name)?;
            Ok(std::mem::replace(&mut self.waiting, next))
        }
    }

    /// Begins to listen, in place of a host agent that is gone. The caller is the only one there is: one that
    /// somebody else made first is refused.
    pub fn listen(dir: &MachineDir) -> Result<Listener> {
        let name = dir.pipe("host");
        let waiting = ServerOptions::new()
            .first_pipe_instance(true)
            .create(&name)
            .context(ErrorId::Write, || format!("cannot listen on {name}"))?;
        Ok(Listener { name, waiting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::{MachineName, Store};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn one_listens_and_others_come_one_after_the_other() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path(), home.path().join("run"));
        let dir = store.machine_dir(&MachineName::new("dev").unwrap());
        assert!(connect(&dir).await.unwrap().is_none(), "nobody listens yet");
        let mut listener = listen(&dir).unwrap();
        for word in ["one", "two"] {
            let mut client = connect(&dir).await.unwrap().unwrap();
            let mut server = listener.accept().await.unwrap();
            client.write_all(word.as_bytes()).await.unwrap();
            let mut heard = [0; 3];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, word.as_bytes());
            server.write_all(b"yes").await.unwrap();
            server.flush().await.unwrap();
            drop(server);
            let mut answer = [0; 3];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"yes", "also when the other end is gone");
        }
        drop(listener);
        assert!(connect(&dir).await.unwrap().is_none(), "nobody is left");
    }
}
