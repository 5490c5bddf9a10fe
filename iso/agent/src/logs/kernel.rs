//! The kernel's messages, copied into a log of their own.

use crate::logs::Logs;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// Copies /dev/kmsg, from the first message that the kernel still has, into the log `kernel`
/// for as long as the machine runs.
pub async fn follow(logs: Arc<Logs>) {
    if let Err(error) = copy(&logs).await {
        logs.note(&format!("kernel messages are not kept: {error}"));
    }
}

async fn copy(logs: &Logs) -> io::Result<()> {
    let log = logs.log("kernel")?;
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open("/dev/kmsg")?;
    // SAFETY: the file owns its descriptor and is never replaced.
    let file = unsafe { AsyncFd::register(file) }?;
    let mut record = vec![0; 8192];
    loop {
        let mut ready = file.readable().await?;
        match ready.try_io(|file| file.get_ref().read(&mut record)) {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(length)) => {
                if let Some(line) = line(&String::from_utf8_lossy(&record[..length])) {
                    log.append(line.as_bytes());
                }
            }
            // Messages were overwritten before they were read.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT` (Documentation/ABI/testing/dev-kmsg) as a line
/// the way dmesg shows it; continuation lines begin with a space and are left out.
fn line(record: &str) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    let text = text.lines().next()?;
    Some(format!(
        "[{:5}.{:06}] {text}\n",
        micros / 1_000_000,
        micros % 1_000_000
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_lines() {
        let record = "6,339,5140900,-;NET: Registered PF_NETLINK\n SUBSYSTEM=net\n";
        assert_eq!(
            line(record).unwrap(),
            "[    5.140900] NET: Registered PF_NETLINK\n"
        );
        assert_eq!(line("garbage"), None);
    }
}
