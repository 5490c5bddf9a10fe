//! What the host and the agent inside a machine say to each other.
//!
//! Two ways lead into a machine, and both are described here so that host and guest cannot
//! drift apart:
//!
//! - [`seed`]: a small read-only disk that the guest reads once, when it boots. It carries a
//!   [`guest::GuestConfig`]: settings and identity; and, where there is something, [`given`]: what
//!   the host gives beyond that.
//! - the control API ([`api`], from `proto/agent.proto`): gRPC over mutual TLS on TCP port
//!   [`AGENT_PORT`]. [`client`] is the host's end.

pub mod client;
pub mod given;
pub mod guest;
pub mod seed;
mod time;

/// The generated messages, clients and servers of `proto/agent.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod api {
    tonic::include_proto!("coracle.agent.v1");
}

/// The generated messages, client and server of `proto/folders.proto`: folders of the host in the machine.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod folders {
    tonic::include_proto!("coracle.folders.v1");
}

/// The generated messages, client and server of `proto/signer.proto`: Kubernetes' interface to an
/// external signer of service account tokens.
#[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications)]
pub mod signer {
    tonic::include_proto!("v1");
}

/// TCP port of the agent inside the machine.
pub const AGENT_PORT: u16 = 7443;
/// TCP port of the Kubernetes API inside the machine.
pub const API_PORT: u16 = 6443;
/// TCP port of sshd inside the machine.
pub const SSH_PORT: u16 = 22;
/// TCP port of the Docker API inside the machine.
pub const DOCKER_PORT: u16 = 2376;
/// The name in the agent's serving certificate.
pub const AGENT_SERVER_NAME: &str = "agent.coracle.internal";
/// The ordinary user inside the machine; it may use sudo without a password.
pub const GUEST_USER: &str = "coracle";

/// What programs say when a disk is full (`ENOSPC` as Linux and Go word it).
pub const DISK_FULL: &str = "no space left on device";

/// UUID of the root file system (erofs superblock).
pub const ROOT_UUID: &str = "636f7261-636c-4e00-8000-000000000001";
/// UUID of a Kubernetes layer (erofs superblock).
pub const KUBERNETES_UUID: &str = "636f7261-636c-4e00-8000-000000000002";
/// UUID of the data disk's ext4 file system, made by the agent on a blank disk.
pub const DATA_UUID: &str = "636f7261-636c-4e00-8000-000000000003";

/// Where the machine has a path of a Windows host (`C:\\Users\\me`); None for what is none.
#[must_use]
pub fn machine_path(windows: &str) -> Option<String> {
    let (drive, rest) = windows.split_at_checked(2)?;
    let letter = drive.strip_suffix(':').filter(|letter| letter.len() == 1)?;
    let is_drive = letter.chars().all(|letter| letter.is_ascii_alphabetic());
    if !is_drive || !rest.starts_with(['/', '\\']) {
        return None;
    }
    let letter = letter.to_ascii_lowercase();
    Some(format!("/host/{letter}{}", rest.replace('\\', "/")))
}

/// Where folders of the host may be mounted in the machine: below one of these at its root.
pub const MOUNT_ROOTS: [&str; 12] = [
    "mnt", "home", "root", "srv", "opt", "tmp", "data", "host", "src", "work", "Users", "Volumes",
];
