//! The leaves' typed errors turned into ids and advice, in one place.

use super::{Error, ErrorId};
use coracle_addons::{ApplyError, WaitError};
use coracle_iso::images::download::{DownloadError, FailureKind};
use coracle_iso::images::{ExportError, ImageError};
use coracle_iso::{BuildError, LockError};
use coracle_kubeconfig::KubeconfigError;
use coracle_kubeconfig::pki::PkiError;
use coracle_protocol::client::{AgentError, ConnectError};
use coracle_vm::address::{AddressError, holder};
use coracle_vm::driver::UnknownDriver;
use coracle_vm::spec::Protocol;
use coracle_vm::{DriverError, SavedError, SpecError, StoreError, TemplateError};

impl From<SpecError> for Error {
    fn from(error: SpecError) -> Self {
        let id = match &error {
            SpecError::NoCpus | SpecError::TooManyCpus { .. } => ErrorId::HostCpus,
            SpecError::TooLittleMemory { .. }
            | SpecError::TooMuchMemory { .. }
            | SpecError::MemoryNotWhole { .. } => ErrorId::HostMemory,
            SpecError::TooSmallDisk { .. }
            | SpecError::TooLargeDisk { .. }
            | SpecError::TooLittleSpace { .. } => ErrorId::HostStorage,
            _ => ErrorId::Machine,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<UnknownDriver> for Error {
    fn from(error: UnknownDriver) -> Self {
        Self::new(ErrorId::DriverUnknown, error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let id = match &error {
            StoreError::NotFound { .. } => ErrorId::MachineNotFound,
            StoreError::Exists { .. } => ErrorId::MachineSettings,
            StoreError::Broken { .. } => ErrorId::MachineBroken,
            StoreError::Locked { .. } => ErrorId::LockBusy,
            StoreError::Io { source, .. } if is_full(source) => ErrorId::HostStorage,
            StoreError::Io { .. } => ErrorId::Write,
            _ => ErrorId::Internal,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        let id = match &error {
            DriverError::NotBuiltIn { .. } | DriverError::Unable { .. } => {
                ErrorId::DriverUnsupported
            }
            DriverError::NotInstalled { .. } => ErrorId::DriverNotInstalled,
            DriverError::Accelerator(_)
            | DriverError::KvmPermission { .. }
            | DriverError::Forbidden { .. } => ErrorId::DriverPermission,
            DriverError::MissingFile { .. } => ErrorId::ImageDamaged,
            DriverError::AlreadyRunning { .. } | DriverError::DiskInUse { .. } => ErrorId::LockBusy,
            DriverError::NotRunning => ErrorId::MachineNotRunning,
            DriverError::PortTaken { .. } | DriverError::PortForbidden { .. } => ErrorId::PortTaken,
            DriverError::NoSpace { .. } => ErrorId::HostStorage,
            DriverError::NoMemory { .. } => ErrorId::HostMemory,
            DriverError::RestoreFailed { .. } => ErrorId::Template,
            DriverError::TimedOut { .. } => ErrorId::MachineTimeout,
            DriverError::Io { source, .. } if is_full(source) => ErrorId::HostStorage,
            DriverError::Saved(error) => saved(error),
            _ => ErrorId::Driver,
        };
        let mut told = Self::caused_by(id, error.to_string(), &error);
        match &error {
            DriverError::NotInstalled { install, .. } => told = told.help(install.clone()),
            DriverError::Unready { mend, .. } | DriverError::Forbidden { mend, .. } => {
                told = told.help(mend.clone());
            }
            DriverError::NotBuiltIn { help, .. } => told = told.help(*help),
            DriverError::Unreachable { help, .. } => told = told.help(help.clone()),
            DriverError::LaunchFailed { last_lines, .. }
            | DriverError::RestoreFailed { last_lines, .. } => {
                for line in last_lines {
                    told = told.because(line);
                }
            }
            DriverError::PortTaken { detail, .. }
            | DriverError::PortForbidden { detail, .. }
            | DriverError::KvmPermission { detail }
            | DriverError::NoSpace { detail }
            | DriverError::NoMemory { detail, .. }
            | DriverError::DiskInUse { detail } => told = told.because(detail),
            _ => {}
        }
        told
    }
}

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        let id = match &error {
            TemplateError::Io { source, .. } if is_full(source) => ErrorId::HostStorage,
            TemplateError::Io { .. } => ErrorId::Write,
            TemplateError::Unusable { .. } => ErrorId::Template,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<SavedError> for Error {
    fn from(error: SavedError) -> Self {
        Self::caused_by(saved(&error), error.to_string(), &error)
    }
}

fn saved(error: &SavedError) -> ErrorId {
    match error {
        SavedError::Io { source, .. } if is_full(source) => ErrorId::HostStorage,
        SavedError::Io { .. } => ErrorId::Write,
        SavedError::Unusable { .. } => ErrorId::Template,
        SavedError::Snapshot { .. } => ErrorId::Snapshot,
    }
}

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Self {
        let id = match &error {
            AgentError::NotFound(_) => ErrorId::GuestNotFound,
            AgentError::TimedOut { .. } | AgentError::NotReady { .. } => ErrorId::GuestTimeout,
            AgentError::Invalid(_) => ErrorId::Usage,
            _ => ErrorId::Guest,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Self {
        Self::caused_by(ErrorId::Addon, error.to_string(), &error)
    }
}

impl From<WaitError> for Error {
    fn from(error: WaitError) -> Self {
        let mut told = Self::caused_by(ErrorId::AddonTimeout, error.to_string(), &error);
        if let WaitError::TimedOut(report) | WaitError::Failed(report) = &error {
            for line in report.pods.iter().chain(&report.events) {
                told = told.because(line);
            }
        }
        told
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Self {
        let id = match &error {
            ImageError::NotFound(_) => ErrorId::ImageNotFound,
            ImageError::Missing { .. }
            | ImageError::Truncated { .. }
            | ImageError::Tampered { .. }
            | ImageError::Index { .. }
            | ImageError::Current { .. } => ErrorId::ImageDamaged,
            ImageError::Io { source, .. } if is_full(source) => ErrorId::HostStorage,
            ImageError::Io { .. } => ErrorId::Write,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<DownloadError> for Error {
    fn from(error: DownloadError) -> Self {
        let error = match error {
            DownloadError::Store(error) => return error.into(),
            other => other,
        };
        let id = match &error {
            // It went another way above.
            DownloadError::Store(_) => ErrorId::Internal,
            DownloadError::NoSource => ErrorId::DownloadNotFound,
            DownloadError::Failed { .. } => match error.kind() {
                Some(FailureKind::NotFound) => ErrorId::DownloadNotFound,
                Some(FailureKind::Wrong) => ErrorId::DownloadMismatch,
                Some(FailureKind::TimedOut) => ErrorId::DownloadTimeout,
                Some(FailureKind::Untrusted) => ErrorId::DownloadCertificate,
                Some(FailureKind::Unreachable) | None => ErrorId::Download,
            },
            DownloadError::NoVersion { .. } => ErrorId::ImageNotFound,
            DownloadError::NoSpace { .. } => ErrorId::HostStorage,
            DownloadError::Locked(LockError::Held { .. }) => ErrorId::LockBusy,
            DownloadError::Locked(LockError::Io { .. }) => ErrorId::Write,
            DownloadError::Proxy { .. } => ErrorId::ProxyInvalid,
            DownloadError::Authority { .. } => ErrorId::CertificateInvalid,
        };
        let mut told = Self::caused_by(id, error.to_string(), &error);
        match &error {
            DownloadError::Failed { failures, .. } => {
                for failure in failures {
                    told = told.because(failure.to_string());
                }
            }
            DownloadError::NoVersion { known, .. } => {
                let known = known.join(", ");
                told = told.help(format!(
                    "it has {known}: choose one with --kubernetes-version"
                ));
            }
            _ => {}
        }
        told
    }
}

impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Image(error) => error.into(),
            ExportError::NotEmpty { .. } => Self::new(ErrorId::Usage, error.to_string())
                .help("name a folder that is empty, or one that is not there"),
        }
    }
}

impl From<KubeconfigError> for Error {
    fn from(error: KubeconfigError) -> Self {
        let id = match &error {
            KubeconfigError::Read { .. } | KubeconfigError::Write { .. } => {
                ErrorId::KubeconfigPermission
            }
            KubeconfigError::Locked(_) => ErrorId::KubeconfigLocked,
            _ => ErrorId::KubeconfigInvalid,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

impl From<PkiError> for Error {
    fn from(error: PkiError) -> Self {
        Self::caused_by(
            ErrorId::Internal,
            "cannot make the cluster's certificates",
            &error,
        )
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        let told = Self::caused_by(ErrorId::PortTaken, error.to_string(), &error);
        let holder = match &error {
            AddressError::Taken { address } => holder(*address, Protocol::Tcp),
            _ => None,
        };
        match holder {
            Some(holder) => told.because(format!("by {holder}")),
            None => told,
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::caused_by(ErrorId::ImageBuild, error.to_string(), &error)
    }
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        let id = match &error {
            ConnectError::TimedOut { .. }
            | ConnectError::Refused { .. }
            | ConnectError::Closed { .. } => ErrorId::GuestTimeout,
            _ => ErrorId::Guest,
        };
        Self::caused_by(id, error.to_string(), &error)
    }
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull
}
