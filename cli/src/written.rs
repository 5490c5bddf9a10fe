//! What blocking code writes, such as a tar archive, for somebody who reads it meanwhile.

use std::io::{self, BufWriter, Write as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes on their way.
const PIPE: usize = 256 << 10;

/// Where it is written.
pub type Sink = BufWriter<SyncIoBridge<DuplexStream>>;

/// Has something written: what comes out, which ends early where that fails, and how it ended.
pub fn piped(
    write: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static,
) -> (DuplexStream, JoinHandle<io::Result<()>>) {
    let (here, there) = tokio::io::duplex(PIPE);
    let bridge = SyncIoBridge::new(here);
    let writing = tokio::task::spawn_blocking(move || {
        let mut sink = BufWriter::with_capacity(PIPE, bridge);
        write(&mut sink)?;
        sink.flush()
    });
    (there, writing)
}

/// Has something written: what comes out. Where that fails, reading does at that point.
pub fn stream(
    write: impl FnOnce(&mut Sink) -> io::Result<()> + Send + 'static,
) -> impl AsyncRead + Send + Unpin + 'static {
    let (bytes, writing) = piped(write);
    let end = futures::stream::once(async move {
        let ended = writing.await.map_err(io::Error::other).flatten();
        ended.map(|()| bytes::Bytes::new())
    });
    bytes.chain(StreamReader::new(Box::pin(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_comes_behind_what_was_written() {
        let mut read = Vec::new();
        let mut whole = stream(|sink| sink.write_all(&[7; PIPE + 1]));
        whole.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), PIPE + 1);
        let mut broken = stream(|sink| {
            sink.write_all(b"some")?;
            Err(io::Error::other("no more"))
        });
        let mut read = Vec::new();
        let error = broken.read_to_end(&mut read).await.unwrap_err();
        assert_eq!(
            (read.as_slice(), error.to_string().as_str()),
            (&b"some"[..], "no more")
        );
    }
}
