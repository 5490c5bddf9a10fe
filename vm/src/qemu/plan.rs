//! From where a machine begins to how QEMU is started for it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::command_line::Memory;
#[cfg(target_os = "linux")]
use super::inherited::memory_file;
use super::inherited::{INHERITED_PATH, Inherited};
use super::restore::{Restore, State};
use super::{capture, migration};
use crate::driver::{DriverError, Origin, failed};
use crate::qmp::migration_capability::IGNORE_SHARED;
use crate::saved::{Kept, Saved, Saves};
use crate::spec::MachineSpec;
use crate::store::MachineDir;
use crate::template::TemplateFiles;

/// What holds the guest's memory.
#[derive(Debug)]
pub(super) enum Held {
    /// QEMU alone.
    Anonymous,
    /// The file that QEMU inherits, which this process can copy.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "such a file is Linux's own")
    )]
    Inherited,
    /// Private copies of a file's pages.
    CopyOf(PathBuf),
}

impl Held {
    /// The same for the command line.
    pub(super) fn as_invoked(&self) -> Memory<'_> {
        match self {
            Self::Anonymous => Memory::Anonymous,
            Self::Inherited => Memory::File {
                path: Path::new(INHERITED_PATH),
                share: true,
            },
            Self::CopyOf(path) => Memory::File { path, share: false },
        }
    }
}

/// How QEMU is started.
#[derive(Debug)]
pub(super) struct LaunchPlan {
    pub(super) memory: Held,
    pub(super) inherited: Inherited,
    /// What is restored before the guest runs; `None` for a boot.
    pub(super) restore: Option<Restore>,
}

impl LaunchPlan {
    /// Puts the machine's folder in order for a launch, and opens what is needed.
    pub(super) fn prepare(
        origin: &Origin,
        dir: &MachineDir,
        spec: &MachineSpec,
    ) -> Result<Self, DriverError> {
        let saves = Saves::new(dir);
        for disk in spec.disks.iter().filter(|disk| !disk.read_only) {
            capture::sweep(&disk.path)?;
        }
        match origin {
            Origin::Boot => {
                saves.forget()?;
                Self::boot(spec)
            }
            Origin::Template(files) => {
                saves.forget()?;
                let files = match saves.set_base(files) {
                    Ok(links) => links,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(DriverError::RestoreFailed {
                            status: "its files are gone".to_owned(),
                            last_lines: Vec::new(),
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no links; a stop will write all memory");
                        files.clone()
                    }
                };
                Self::copy_of(&files, None)
            }
            Origin::Saved(saved) => Self::saved(saved, spec),
        }
    }

    #[cfg(target_os = "linux")]
    fn boot(spec: &MachineSpec) -> Result<Self, DriverError> {
        Ok(Self {
            memory: Held::Inherited,
            inherited: Inherited(Some(memory_file(spec.memory)?)),
            restore: None,
        })
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, reason = "the same shape as on Linux")]
    fn boot(_spec: &MachineSpec) -> Result<Self, DriverError> {
        Ok(Self {
            memory: Held::Anonymous,
            inherited: Inherited::default(),
            restore: None,
        })
    }

    fn copy_of(files: &TemplateFiles, saved: Option<&Saved>) -> Result<Self, DriverError> {
        let pages = saved.filter(|saved| saved.record.kept == Kept::Pages);
        read_ahead(files);
        let devices = match pages {
            Some(saved) => saved.files().whole().devices,
            None => files.devices.clone(),
        };
        Ok(Self {
            memory: Held::CopyOf(files.ram.clone()),
            inherited: open(&devices)?,
            restore: Some(Restore {
                state: State::Inherited,
                capabilities: &[(IGNORE_SHARED, true)],
                changed: pages.map(|saved| (files.ram.clone(), saved.files().pages())),
                spent: saved.cloned(),
            }),
        })
    }

    fn saved(saved: &Saved, spec: &MachineSpec) -> Result<Self, DriverError> {
        let files = saved.files();
        match saved.record.kept {
            Kept::Pages => Self::copy_of(&files.base(), Some(saved)),
            Kept::Whole => Self::copy_of(&files.whole(), Some(saved)),
            Kept::Stream => Ok(Self {
                memory: Held::Anonymous,
                inherited: open(&files.stream())?,
                restore: Some(Restore {
                    state: State::Inherited,
                    capabilities: &migration::CAPABILITIES,
                    changed: None,
                    spent: Some(saved.clone()),
                }),
            }),
            Kept::MappedStream => Ok(Self {
                restore: Some(Restore {
                    state: State::File(files.stream()),
                    capabilities: &migration::MAPPED_CAPABILITIES,
                    changed: None,
                    spent: Some(saved.clone()),
                }),
                ..Self::boot(spec)?
            }),
            Kept::Held => Err(DriverError::RestoreFailed {
                status: "it was saved by another driver".to_owned(),
                last_lines: Vec::new(),
            }),
        }
    }
}

fn open(path: &Path) -> Result<Inherited, DriverError> {
    let file = File::open(path).map_err(failed("read", path))?;
    Ok(Inherited(Some(file)))
}

/// Goes on in the background while QEMU starts.
#[cfg(target_os = "linux")]
fn read_ahead(files: &TemplateFiles) {
    let files = files.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = super::working_set::read_ahead(&files) {
            tracing::debug!(%error, "a template is not read ahead");
        }
    });
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_files: &TemplateFiles) {}
