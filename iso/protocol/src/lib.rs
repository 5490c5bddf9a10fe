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
pub mod image_name;
pub mod iso9660;
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

/// The volume of the ISO that carries a whole image.
pub const ISO_VOLUME: &str = "CORACLE";
/// The root file system on the ISO.
pub const ISO_ROOT: &str = "root.erofs";

/// The layer of a Kubernetes version on the ISO.
#[must_use]
pub fn iso_layer(version: &str) -> String {
    format!("kubernetes-{version}.erofs")
}

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

/// Whether a text is a registry without a certificate: `HOST`, `HOST:PORT`, or a range of addresses. What is
/// neither keeps dockerd from starting.
#[must_use]
pub fn is_registry(text: &str) -> bool {
    if let Some((address, bits)) = text.split_once('/') {
        let most = match address.parse() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        return bits.parse::<u8>().is_ok_and(|bits| bits <= most);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    is_host(host) && is_port
}

/// Whether a text is a mirror of a registry: a URL with a host and perhaps a path.
#[must_use]
pub fn is_mirror(text: &str) -> bool {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest else {
        return false;
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    !host.contains('/') && is_registry(host) && path.chars().all(is_plain)
}

fn is_host(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let ends_well = |text: &str| !text.starts_with(['-', '.']) && !text.ends_with(['-', '.']);
    !text.is_empty() && text.chars().all(is_plain) && ends_well(text)
}

/// Where folders of the host may be mounted in the machine: below one of these at its root.
pub const MOUNT_ROOTS: [&str; 12] = [
    "mnt", "home", "root", "srv", "opt", "tmp", "data", "host", "src", "work", "Users", "Volumes",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_hosts_with_ports_or_ranges() {
        for text in [
            "registry.lan",
            "registry.lan:5000",
            "10.0.0.1:80",
            "10.0.0.0/8",
            "fd00::/8",
        ] {
            assert!(is_registry(text), "{text}");
        }
        for text in [
            "",
            "a b",
            "h:99999",
            "h:0",
            "registry.lan:5000/team",
            "http://a",
            "10.0.0.0/33",
            "a\"b",
            ".a",
        ] {
            assert!(!is_registry(text), "{text}");
        }
        for text in ["https://m.example", "http://m.example:5000/a/b"] {
            assert!(is_mirror(text), "{text}");
        }
        for text in [
            "m.example",
            "ftp://m",
            "https://",
            "https://m/?x",
            "https://m\"",
            "https://a@m",
        ] {
            assert!(!is_mirror(text), "{text}");
        }
    }

    #[test]
    fn paths_of_windows_have_a_place_in_the_machine() {
        for (path, place) in [
            (r"C:\Users\me", Some("/host/c/Users/me")),
            ("d:/x", Some("/host/d/x")),
            ("/home/me", None),
            ("c:", None),
            ("é:/x", None),
        ] {
            assert_eq!(machine_path(path).as_deref(), place, "{path}");
        }
    }
}
