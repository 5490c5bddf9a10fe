//! Whether a host can carry what is asked of it, before anything is created.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::host::HostResources;
use crate::size::Size;

/// The resources of a machine that a user can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceRequest {
    /// Virtual processors.
    pub cpus: NonZeroU32,
    /// Guest memory.
    pub memory: Size,
    /// How large the guest sees the data disk. The file on the host grows as it is filled.
    pub disk: Size,
}

/// The least that a guest works with. The caller knows what runs inside, this crate does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// Guest memory.
    pub memory: Size,
    /// The data disk.
    pub disk: Size,
}

/// A request or a specification that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No processors at all.
    #[error("a machine needs at least one CPU")]
    NoCpus,
    /// More processors than the host has.
    #[error("{asked} CPUs are asked for, and the host has {host}")]
    TooManyCpus {
        /// What was asked for.
        asked: NonZeroU32,
        /// What there is.
        host: NonZeroU32,
    },
    /// Less memory than the guest works with.
    #[error("{asked} of memory is too little: at least {minimum} is needed")]
    TooLittleMemory {
        /// What was asked for.
        asked: Size,
        /// What is needed.
        minimum: Size,
    },
    /// More memory than the host has.
    #[error("{asked} of memory is asked for, and the host has {host} in all")]
    TooMuchMemory {
        /// What was asked for.
        asked: Size,
        /// What there is, used or not.
        host: Size,
    },
    /// A smaller disk than the guest works with.
    #[error("a disk of {asked} is too small: at least {minimum} is needed")]
    TooSmallDisk {
        /// What was asked for.
        asked: Size,
        /// What is needed.
        minimum: Size,
    },
    /// A disk that is larger than what it would lie on.
    #[error("a disk of {asked} does not fit: {path} lies on a file system of {total}")]
    TooLargeDisk {
        /// What was asked for.
        asked: Size,
        /// The size of the file system.
        total: Size,
        /// Where.
        path: PathBuf,
    },
    /// A file system that not even a fresh guest fits on.
    #[error("a cluster does not fit: {path} has {free} free, and at least {minimum} is needed")]
    TooLittleSpace {
        /// What is free.
        free: Size,
        /// What is needed.
        minimum: Size,
        /// Where.
        path: PathBuf,
    },
    /// Guest memory must be counted in whole MiB.
    #[error("guest memory must be a whole number of MiB, not {asked} ({} bytes)", asked.bytes())]
    MemoryNotWhole {
        /// What was asked for.
        asked: Size,
    },
    /// A path that depends on the working folder.
    #[error("the path {path} is not absolute")]
    RelativePath {
        /// The path.
        path: PathBuf,
    },
    /// Two disks with one role or one file.
    #[error("the disk {role} ({path}) is there twice")]
    DiskTwice {
        /// The role of the second one.
        role: &'static str,
        /// The file of the second one.
        path: PathBuf,
    },
    /// A disk to be created blank that the guest could never write.
    #[error("the disk {role} would be created blank and read-only")]
    BlankReadOnlyDisk {
        /// The disk's role.
        role: &'static str,
    },
    /// Two forwards from one port of the host.
    #[error("the host's port {host} is forwarded twice")]
    PortTwice {
        /// Where the host would listen.
        host: SocketAddr,
    },
}

/// Something that works and that the user should know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caution {
    /// The host has this much memory, but other programs use much of it.
    MemoryIsTight {
        /// What was asked for.
        asked: Size,
        /// What could be had now without swapping.
        available: Size,
    },
    /// Disks grow as they are filled, and this one would meet the end of the host's space first.
    DiskIsTight {
        /// What was asked for.
        asked: Size,
        /// What is free.
        free: Size,
        /// Where.
        path: PathBuf,
    },
}

impl std::fmt::Display for Caution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MemoryIsTight { asked, available } => {
                write!(
                    f,
                    "{asked} of memory is asked for, and only {available} is free on the host now"
                )
            }
            Self::DiskIsTight { asked, free, path } => {
                write!(
                    f,
                    "the disk may grow to {asked}, and {path} has only {free} free now: when that is used up the cluster pauses",
                    path = path.display()
                )
            }
        }
    }
}

/// Checks a number of processors that a user typed.
pub fn cpus(count: u32) -> Result<NonZeroU32, SpecError> {
    NonZeroU32::new(count).ok_or(SpecError::NoCpus)
}

impl ResourceRequest {
    /// Checks the request for a new machine against what is needed and what the host has. Gives what
    /// the user should be told although it works.
    pub fn check(
        &self,
        minimum: &Minimum,
        host: &HostResources,
    ) -> Result<Vec<Caution>, SpecError> {
        self.check_running(minimum, host)?;
        if self.disk < minimum.disk {
            return Err(SpecError::TooSmallDisk {
                asked: self.disk,
                minimum: minimum.disk,
            });
        }
        if self.disk > host.disk_total {
            return Err(SpecError::TooLargeDisk {
                asked: self.disk,
                total: host.disk_total,
                path: host.disk_path.clone(),
            });
        }
        if host.disk_free < minimum.disk {
            return Err(SpecError::TooLittleSpace {
                free: host.disk_free,
                minimum: minimum.disk,
                path: host.disk_path.clone(),
            });
        }
        Ok(self.cautions(host))
    }

    fn cautions(&self, host: &HostResources) -> Vec<Caution> {
        let memory = (self.memory > host.memory_available).then_some(Caution::MemoryIsTight {
            asked: self.memory,
            available: host.memory_available,
        });
        let disk = (self.disk > host.disk_free).then(|| Caution::DiskIsTight {
            asked: self.disk,
            free: host.disk_free,
            path: host.disk_path.clone(),
        });
        memory.into_iter().chain(disk).collect()
    }

    /// Checks only what an existing machine needs again at each start: processors and memory.
    pub fn check_running(&self, minimum: &Minimum, host: &HostResources) -> Result<(), SpecError> {
        if self.memory < minimum.memory {
            return Err(SpecError::TooLittleMemory {
                asked: self.memory,
                minimum: minimum.memory,
            });
        }
        if self.memory > host.memory_total {
            return Err(SpecError::TooMuchMemory {
                asked: self.memory,
                host: host.memory_total,
            });
        }
        if self.cpus > host.cpus {
            return Err(SpecError::TooManyCpus {
                asked: self.cpus,
                host: host.cpus,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: Minimum = Minimum {
        memory: Size::from_mib(1800),
        disk: Size::from_gib(2),
    };

    fn host() -> HostResources {
        HostResources {
            cpus: cpus(4).unwrap(),
            memory_total: Size::from_gib(8),
            memory_available: Size::from_gib(3),
            disk_path: PathBuf::from("/data"),
            disk_total: Size::from_gib(50),
            disk_free: Size::from_gib(30),
        }
    }

    fn request(cpu: u32, memory: &str, disk: &str) -> ResourceRequest {
        ResourceRequest {
            cpus: cpus(cpu).unwrap(),
            memory: memory.parse().unwrap(),
            disk: disk.parse().unwrap(),
        }
    }

    #[test]
    fn what_fits_is_accepted_and_what_is_tight_is_told() {
        assert_eq!(request(2, "3g", "30g").check(&MINIMUM, &host()), Ok(vec![]));
        let cautions = request(4, "4g", "31g").check(&MINIMUM, &host()).unwrap();
        let told: Vec<_> = cautions.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "4 GiB of memory is asked for, and only 3 GiB is free on the host now",
                "the disk may grow to 31 GiB, and /data has only 30 GiB free now: when that is used up the cluster pauses",
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        for (request, message) in [
            (
                request(2, "250m", "20g"),
                "250 MiB of memory is too little: at least 1800 MiB is needed",
            ),
            (
                request(2, "9g", "20g"),
                "9 GiB of memory is asked for, and the host has 8 GiB in all",
            ),
            (
                request(5, "3g", "20g"),
                "5 CPUs are asked for, and the host has 4",
            ),
            (
                request(2, "3g", "1g"),
                "a disk of 1 GiB is too small: at least 2 GiB is needed",
            ),
            (
                request(2, "3g", "51g"),
                "a disk of 51 GiB does not fit: /data lies on a file system of 50 GiB",
            ),
        ] {
            assert_eq!(
                request.check(&MINIMUM, &host()).unwrap_err().to_string(),
                message
            );
        }
        assert_eq!(cpus(0), Err(SpecError::NoCpus));
        let mut full = host();
        full.disk_free = Size::from_gib(1);
        assert_eq!(
            request(2, "3g", "20g")
                .check(&MINIMUM, &full)
                .unwrap_err()
                .to_string(),
            "a cluster does not fit: /data has 1 GiB free, and at least 2 GiB is needed"
        );
    }

    #[test]
    fn an_existing_machine_starts_on_a_full_host() {
        let mut full = host();
        full.disk_free = Size::from_mib(1);
        assert_eq!(
            request(2, "3g", "20g").check_running(&MINIMUM, &full),
            Ok(())
        );
    }
}
