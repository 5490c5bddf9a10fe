//! Another identity while the machine runs: what a copy of a machine takes before anything else.
//!
//! What lets somebody in from outside is replaced, in this order: clock, random numbers, certificates
//! (the API server takes a moment to read its own again, and does so beside what follows), SSH's files,
//! the signer's key, the agent's own identity. What never leaves the machine stays: see [`crate::pki`].

use crate::boot::{self, BootError};
use crate::logs::Logs;
use crate::pki;
use crate::signer::{Signer, SignerError};
use crate::standstill::Standstill;
use crate::supervise::Supervisor;
use crate::tls::{Identity, IdentityError};
use coracle_protocol::guest::GuestConfig;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Random bytes that are taken at once.
const MOST_ENTROPY: usize = 256;
/// Until then the kubelet has fetched new tokens for all pods that ran before: it does so at four
/// fifths of their hour.
const FORMER_TOKENS: Duration = Duration::from_secs(65 * 60);
/// The controller that signs tokens in Secrets, with a key that it reads when it starts. It stands still
/// before anybody is let in, or it would sign with the former key; and another takes its place when the
/// work that a new machine is given at once is likely to be done: such Secrets get their tokens then.
const SIGNS_SECRETS: &str = "service-account-tokens";
const SIGNS_AGAIN: Duration = Duration::from_secs(20);

/// Why an identity was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RekeyError {
    /// The random generator refused.
    #[error("cannot reseed the random generator: {0}")]
    Random(io::Error),
    /// A file cannot be placed.
    #[error(transparent)]
    Files(#[from] BootError),
    /// A certificate cannot be placed.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The service account key cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The identity of an API cannot be used.
    #[error(transparent)]
    Agent(#[from] IdentityError),
}

/// What a new identity is given to.
#[derive(Debug, Clone)]
pub struct Rekey {
    /// The control API's.
    pub identity: Identity,
    /// The Docker API's; None where there is none.
    pub docker: Option<Identity>,
    /// None without Kubernetes.
    pub signer: Option<Signer>,
    /// Where certificates are.
    pub pki: PathBuf,
    /// What a copy ends when it has its identity.
    pub standstill: Standstill,
}

impl Rekey {
    /// Takes the identity of `config`; its settings are those of the machine that was copied.
    pub async fn take(
        &self,
        config: &GuestConfig,
        entropy: &[u8],
        supervisor: &Supervisor,
        logs: &Logs,
    ) -> Result<(), RekeyError> {
        let begun = Instant::now();
        // Also where this fails: the machine goes on.
        let mut end = self.standstill.end();
        reseed(entropy).map_err(RekeyError::Random)?;
        // The one stops while the other is written: each takes a while.
        let (held, placed) = tokio::join!(supervisor.hold(SIGNS_SECRETS, SIGNS_AGAIN), async {
            self.place(config)
        });
        match held {
            Ok(process) => process.into_iter().for_each(|process| end.leave(process)),
            Err(error) => logs.note(&format!("cannot hold {SIGNS_SECRETS}: {error}")),
        }
        placed?;
        self.identity.replace(&config.agent)?;
        if let (Some(identity), Some(own)) = (&self.docker, &config.docker) {
            identity.replace(own)?;
        }
        logs.note(&format!(
            "took another identity in {} ms",
            begun.elapsed().as_millis()
        ));
        Ok(())
    }

    /// Certificates, SSH's files and the signer's key.
    fn place(&self, config: &GuestConfig) -> Result<(), RekeyError> {
        if let Some(kubernetes) = &config.kubernetes {
            pki::place_identity(Path::new(boot::IDENTITY), &self.pki, &kubernetes.identity)?;
        }
        boot::place_ssh_files(&config.ssh)?;
        let (Some(kubernetes), Some(signer)) = (&config.kubernetes, &self.signer) else {
            return Ok(());
        };
        let keys = &kubernetes.identity;
        let former = signer.replace(&keys.service_account_key, &keys.service_account_public_key)?;
        if let Some(former) = former {
            let signer = signer.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FORMER_TOKENS).await;
                signer.forget(&former);
            });
        }
        Ok(())
    }
}

/// Mixes random bytes of the host into the kernel's generator, which counts them as such, and makes
/// it use them at once (random(4)).
fn reseed(entropy: &[u8]) -> io::Result<()> {
    /// `struct rand_pool_info` of linux/random.h with room for the bytes.
    #[repr(C)]
    struct Pool {
        bits: i32,
        bytes: i32,
        buffer: [u8; MOST_ENTROPY],
    }
    nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 0x03, 8), Pool);
    nix::ioctl_none!(reseed_now, b'R', 0x07);
    let entropy = &entropy[..entropy.len().min(MOST_ENTROPY)];
    let count = i32::try_from(entropy.len()).unwrap_or(0);
    let mut pool = Pool {
        bits: count * 8,
        bytes: count,
        buffer: [0; MOST_ENTROPY],
    };
    pool.buffer[..entropy.len()].copy_from_slice(entropy);
    let device = File::open("/dev/urandom")?;
    // SAFETY: the structure lives through the calls, and has as many bytes as it says.
    unsafe {
        add_entropy(device.as_raw_fd(), &raw const pool)?;
        match reseed_now(device.as_raw_fd()) {
            // A kernel before 4.14 knows no such call, and mixes by itself.
            Ok(_) | Err(Errno::ENOTTY | Errno::EINVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
