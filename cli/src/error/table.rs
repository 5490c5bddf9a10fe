//! Every error id with its exit code and what to do about it, as one table.
//!
//! The exit code's decade says where it went wrong (1x program, 2x host resources, 3x machine,
//! 4x network outside, 5x driver, 6x image and templates, 7x host network, 8x guest, 9x runtime,
//! 10x control plane, 11x service); its last digit what kind (0 error, 1 conflict, 2 time-out,
//! 3 not running, 4 usage, 5 not found, 6 unsupported, 7 permission, 8 configuration,
//! 9 unavailable). 23, 26 and 29 are memory, storage and CPUs. docs/errors.md is made from
//! this table and a test holds the two together.

/// One row: what scripts match on, and what a person is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Stable name, printed as `error[CORACLE_NAME]`.
    pub name: &'static str,
    /// Exit code of the process.
    pub exit_code: u8,
    /// When it happens.
    pub meaning: &'static str,
    /// What to do; `{profile}` is the cluster's name. Empty when the message says it all.
    pub help: &'static str,
}

macro_rules! table {
    ($($variant:ident = $name:literal, $code:literal, $meaning:literal, $help:literal;)*) => {
        /// The id of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorId {
            $(#[doc = $meaning] $variant,)*
        }
        impl ErrorId {
            /// All ids, in the table's order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The id of this name, as `error[CORACLE_NAME]` prints it.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|id| id.entry().name == name)
            }

            /// The row of this id.
            pub fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry { name: $name, exit_code: $code, meaning: $meaning, help: $help },)*
                }
            }
        }
    };
}

table! {
    Internal = "INTERNAL", 10, "Something that should not happen did.",
        "please report it with what `coracle logs -p {profile} --bundle FILE` writes";
    Write = "WRITE", 10, "A file or folder of Coracle's own cannot be read or written.",
        "check the owner and the free space of the folder; CORACLE_HOME moves it elsewhere";
    LockBusy = "LOCK_BUSY", 11, "Another process holds the lock of this cluster or cache.",
        "wait for it to end, or end it, and run the command again";
    ContextTaken = "CONTEXT_TAKEN", 11, "The kubeconfig, or the docker command, has a context of this name that leads elsewhere.",
        "choose another name with -p, or remove it: `kubectl config delete-context {profile}`";
    KubeconfigLocked = "KUBECONFIG_LOCKED", 12, "The kubeconfig stayed locked by another program.",
        "if no program is writing it, remove the lock file that is named above";
    Usage = "USAGE", 14, "A flag, a value or a name is malformed.",
        "`coracle help` lists commands and flags";
    ConfigNotFound = "CONFIG_NOT_FOUND", 15, "There is no such setting.",
        "`coracle config defaults` lists all settings";
    Unsupported = "UNSUPPORTED", 16, "This version cannot do that.", "";
    KubeconfigPermission = "KUBECONFIG_PERMISSION", 17, "The kubeconfig cannot be read or written.",
        "make it writable for you, or set KUBECONFIG to a file that is, and run the command again";
    KubeconfigInvalid = "KUBECONFIG_INVALID", 18, "The kubeconfig is not one; nothing was changed in it.",
        "repair it (`kubectl config view` shows what is wrong), or set KUBECONFIG to another file";
    ConfigInvalid = "CONFIG_INVALID", 18, "A settings file or cluster file is not valid.",
        "correct the line that is named above";
    ComposeInvalid = "COMPOSE_INVALID", 18, "A Compose file, or a file of variables beside it, is not valid.",
        "correct the line that is named above; `docker compose config` checks it too";
    ManifestInvalid = "MANIFEST_INVALID", 18, "A file of manifests cannot be read, or not be changed in place.",
        "correct the line that is named above, or write it in a plainer form; `kubectl apply --dry-run=client -f FILE` checks it too";
    CertificateInvalid = "CERTIFICATE_INVALID", 18, "A file in the folder of certificates to trust is not one.",
        "replace the file that is named above, or take it out of the folder";
    FilesInvalid = "FILES_INVALID", 18, "A file for all machines cannot be read, or has no place in one.",
        "take what is named above out of the folder";
    HostMemory = "HOST_MEMORY", 23, "Too little memory asked for, or more than the host has.",
        "choose another size, for example `coracle start -p {profile} --memory 4g`";
    HostStorage = "HOST_STORAGE", 26, "The host's disk has too little space.",
        "make space, choose another size, for example `coracle start -p {profile} --disk-size 10g`, or set CORACLE_HOME to a folder on a larger disk";
    HostCpus = "HOST_CPUS", 29, "Too few or too many CPUs asked for.",
        "choose another number, for example `coracle start -p {profile} --cpus 2`";
    Machine = "MACHINE", 30, "The machine could not be made, started or stopped.",
        "`coracle logs -p {profile}` shows what it said; `coracle delete -p {profile}` removes it";
    MachineSettings = "MACHINE_SETTINGS", 31, "An existing machine has other settings than asked for.",
        "`coracle delete -p {profile}` and start again, or use another profile with -p";
    MachineTimeout = "MACHINE_TIMEOUT", 32, "The machine did not do in time what was asked.",
        "run the command again; `coracle logs -p {profile}` shows what it is doing";
    MachineNotRunning = "MACHINE_NOT_RUNNING", 33, "The machine is not running.",
        "`coracle start -p {profile}` starts it";
    MachineNotFound = "MACHINE_NOT_FOUND", 35, "There is no machine of this name.",
        "`coracle start -p {profile}` makes it; `coracle list` shows those there are";
    MachineBroken = "MACHINE_BROKEN", 38, "The machine's record is damaged.",
        "`coracle delete -p {profile}` removes it; then start again";
    Download = "DOWNLOAD", 40, "The image could not be fetched.",
        "check the network and the proxy, and run the command again: it goes on from what came; CORACLE_IMAGE_MIRROR names other sources";
    DownloadMismatch = "DOWNLOAD_MISMATCH", 41, "A source of the image sent something else than was asked for by its digest.",
        "the source is of another version, or something on the way changes what passes: CORACLE_IMAGE_MIRROR names other sources";
    DownloadTimeout = "DOWNLOAD_TIMEOUT", 42, "A source of the image stopped sending.",
        "run the command again: it goes on from what came; CORACLE_IMAGE_MIRROR names other sources";
    DownloadNotFound = "DOWNLOAD_NOT_FOUND", 45, "No source has the image.",
        "CORACLE_IMAGE_MIRROR names other sources, URLs or folders; `coracle image-export FOLDER` makes one where the image is";
    DownloadCertificate = "DOWNLOAD_CERTIFICATE", 47, "A source of the image has a certificate that is not believed.",
        "put the authority's certificate into `certs/` of the state folder, and run the command again";
    ImageMirrorInvalid = "IMAGE_MIRROR_INVALID", 48, "CORACLE_IMAGE_MIRROR or CORACLE_IMAGE_DIGEST cannot be used.",
        "write sources like https://HOST/FOLDER, file:///FOLDER or /FOLDER, separated by commas, and a digest like sha256:HEX";
    ProxyInvalid = "PROXY_INVALID", 48, "A proxy of the environment cannot be used.",
        "write it like http://HOST:PORT, or unset it";
    Driver = "DRIVER", 50, "The hypervisor failed.",
        "`coracle doctor` checks the host";
    DriverUnknown = "DRIVER_UNKNOWN", 54, "There is no driver of this name.",
        "`coracle start --help` names the drivers";
    DriverNotInstalled = "DRIVER_NOT_INSTALLED", 55, "The driver's program is not installed.",
        "install it, then `coracle doctor` checks the host";
    DriverUnsupported = "DRIVER_UNSUPPORTED", 56, "The driver is not available in this build or cannot do this.",
        "leave out --driver to use the default";
    DriverPermission = "DRIVER_PERMISSION", 57, "The hypervisor may not be used by this user.",
        "`coracle doctor` says what to change";
    ImageBuild = "IMAGE_BUILD", 60, "The image could not be built.",
        "mend what is named above, then `coracle image-build` goes on from where it stopped";
    Template = "TEMPLATE", 60, "A machine could not be frozen, or not go on from what was saved.",
        "`coracle start -p {profile} --cold` starts without templates";
    Snapshot = "SNAPSHOT", 60, "A snapshot is damaged.",
        "`coracle snapshot delete` removes it";
    SnapshotExists = "SNAPSHOT_EXISTS", 61, "There is a snapshot of this name already.",
        "choose another name, or `coracle snapshot delete` removes it";
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND", 65, "There is no snapshot of this name.",
        "`coracle snapshot list -p {profile}` shows those there are";
    ImageNotFound = "IMAGE_NOT_FOUND", 65, "There is no VM image yet, or not this one.",
        "`coracle image-build` in the source folder builds it";
    ImageDamaged = "IMAGE_DAMAGED", 68, "A part of the image is not what its digest says.",
        "`coracle image-build` makes it anew";
    PortTaken = "PORT_TAKEN", 71, "A port that the cluster needs is in use on the host.",
        "end the program that uses it, or choose another with --apiserver-port";
    Guest = "GUEST", 80, "Something failed inside the machine.",
        "`coracle logs -p {profile}` shows what it said";
    GuestStorage = "GUEST_STORAGE", 80, "The machine's disk is full.",
        "`coracle start -p {profile} --disk-size 40g` grows it; `coracle image prune --all -p {profile}` frees some of it";
    GuestTimeout = "GUEST_TIMEOUT", 82, "The machine booted, but its agent did not answer in time.",
        "`coracle start -p {profile}` tries on; the console is in the machine's serial.log";
    GuestNotFound = "GUEST_NOT_FOUND", 85, "There is no such file, component or image.", "";
    Runtime = "RUNTIME", 90, "The container runtime refused.",
        "`coracle logs -p {profile} --component containerd` shows why";
    ImageInUse = "IMAGE_IN_USE", 91, "A pod or a container uses the image.",
        "remove what uses it first: `coracle kubectl -p {profile} -- get pods -A` and `docker ps -a` show it";
    ControlPlaneTimeout = "CONTROL_PLANE_TIMEOUT", 102, "Kubernetes did not become ready in time.",
        "`coracle start -p {profile}` waits on; `coracle logs -p {profile}` shows what it is doing";
    NoKubernetes = "NO_KUBERNETES", 106, "The machine was made without Kubernetes.",
        "`coracle start -p OTHER` makes a cluster beside it; `coracle docker-env -p {profile}` leads to its Docker engine";
    KubectlNotFound = "KUBECTL_NOT_FOUND", 105, "There is no kubectl for this cluster's version.",
        "install kubectl within one minor version of the cluster's";
    AddonTimeout = "ADDON_TIMEOUT", 112, "An add-on did not become ready in time.",
        "`coracle start -p {profile}` waits on; `coracle kubectl -p {profile} -- get pods -A` shows the pods";
    AddonNotFound = "ADDON_NOT_FOUND", 115, "There is no add-on of this name.", "";
    Addon = "ADDON", 110, "An add-on could not be applied.",
        "`coracle start -p {profile}` applies it again";
    ServiceNotFound = "SERVICE_NOT_FOUND", 115, "There is no such Service or namespace.",
        "`coracle service list -p {profile}` shows the Services";
    ServiceWithoutEndpoints = "SERVICE_WITHOUT_ENDPOINTS", 115, "No pod behind the Service is ready.", "";
    ServiceInternal = "SERVICE_INTERNAL", 116, "The Service has no port that the host could reach.", "";
    Interrupted = "INTERRUPTED", 130, "Ctrl-C ended the command.", "";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_codes_are_in_a_known_decade() {
        let names: HashSet<_> = ErrorId::ALL.iter().map(|id| id.entry().name).collect();
        assert_eq!(names.len(), ErrorId::ALL.len());
        for id in ErrorId::ALL {
            let code = id.entry().exit_code;
            assert!(
                (10..=119).contains(&code) || code == 130,
                "{id:?} has exit code {code}"
            );
        }
    }

    #[test]
    fn the_documented_table_is_this_table() {
        let mut rows = String::new();
        for id in ErrorId::ALL {
            let entry = id.entry();
            rows.push_str(&format!(
                "| `CORACLE_{}` | {} | {} | {} |\n",
                entry.name,
                entry.exit_code,
                entry.meaning,
                entry.help.replace("{profile}", "NAME")
            ));
        }
        let document = include_str!("../../../docs/errors.md");
        assert!(
            document.contains(&rows),
            "docs/errors.md should hold these rows:\n{rows}"
        );
    }
}
