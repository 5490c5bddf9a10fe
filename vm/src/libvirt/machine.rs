//! One machine in libvirt: found by its UUID, and touched only if it is ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::answers::KnownDomain;
use super::failure::{is_absent, refused};
use super::link::Link;
use super::session::Session;
use super::{LIMIT, unable};
use crate::driver::{DriverError, Note as _};
use crate::program::Programs;
use crate::store::MachineDir;

/// A machine that is ours.
#[derive(Debug)]
pub(super) struct Machine {
    session: Session,
    id: Uuid,
}

/// A machine that libvirt knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct There {
    /// What it is called there.
    pub(super) name: String,
    /// The folder that it belongs to, if Coracle made it.
    pub(super) folder: Option<PathBuf>,
    /// Whether a process runs it.
    pub(super) is_active: bool,
}

impl There {
    /// Refuses one that is not the machine of `folder`. A folder that was moved is still its own.
    pub(super) fn check_owner(&self, folder: &Path) -> Result<(), DriverError> {
        let name = &self.name;
        let Some(owner) = &self.folder else {
            return Err(unable(format!(
                "libvirt has another machine with its identifier, {name}, which Coracle did not make \
                 and does not touch"
            )));
        };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        match (owner == folder, real(owner)) {
            (false, Some(other)) if real(folder) != Some(other.clone()) => Err(unable(format!(
                "libvirt's machine {name} belongs to {}",
                owner.display()
            ))),
            _ => Ok(()),
        }
    }
}

impl Machine {
    /// A machine that is known to be ours.
    pub(super) fn new(session: Session, id: Uuid) -> Self {
        Self { session, id }
    }

    /// The machine of a folder; `None` if libvirt knows none.
    pub(super) async fn find(
        programs: &Programs,
        dir: &MachineDir,
        limit: Duration,
    ) -> Result<Option<Self>, DriverError> {
        let Some(link) = Link::read(dir)? else {
            return Ok(None);
        };
        let session = Session::open(programs, &link.uri, limit).await?;
        let Some(there) = look(&session, link.id, limit).await? else {
            return Ok(None);
        };
        there.check_owner(dir.path())?;
        Ok(Some(Self::new(session, link.id)))
    }

    /// Has something done with it. One that libvirt does not know any more, or that does not run after
    /// an error, is not running.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Domain) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, DriverError> {
        self.with(what, limit, |domain| {
            work(domain).map_err(|error| match domain.is_active() {
                Ok(false) => DriverError::NotRunning,
                _ => refused(what)(error),
            })
        })
        .await
    }

    /// As [`ask`](Self::ask), of a machine that need not run.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Domain) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let id = self.id;
        self.session
            .ask(what, limit, move |connect| match find(connect, id) {
                Ok(Some(domain)) => work(&domain),
                Ok(None) => Err(DriverError::NotRunning),
                Err(error) => Err(refused(what)(error)),
            })
            .await
    }

    /// Whether a process runs it.
    pub(super) async fn is_active(&self, limit: Duration) -> Result<bool, DriverError> {
        let what = "tell whether the machine runs";
        let asked = self.with(what, limit, move |domain| {
            domain.is_active().map_err(refused(what))
        });
        match asked.await {
            Err(DriverError::NotRunning) => Ok(false),
            asked => asked,
        }
    }

    /// Ends its process: libvirt asks it, and kills it after a while.
    pub(super) async fn destroy(&self, limit: Duration) -> Result<(), DriverError> {
        match self.ask("end the machine", limit, Domain::destroy).await {
            Err(DriverError::NotRunning) => Ok(()),
            done => done,
        }
    }

    /// Has libvirt forget it, with what was saved of it. It has to be off.
    pub(super) async fn undefine(&self) -> Result<(), DriverError> {
        let what = "forget the machine";
        let flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        let done = self.with(what, LIMIT, move |domain| {
            if domain.is_active().map_err(refused(what))? {
                let detail = "it still runs".to_owned();
                return Err(DriverError::Refused { what, detail });
            }
            domain.undefine_flags(flags).map_err(refused(what))
        });
        match done.await {
            Err(DriverError::NotRunning) => Ok(()),
            done => done,
        }
    }

    /// The connection that it was found by.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }
}

/// What libvirt knows of the machine with this identifier.
pub(super) async fn look(
    session: &Session,
    id: Uuid,
    limit: Duration,
) -> Result<Option<There>, DriverError> {
    let what = "find the machine";
    session
        .ask(what, limit, move |connect| {
            let domain = find(connect, id).map_err(refused(what))?;
            domain.as_ref().map(describe).transpose()
        })
        .await
}

/// Whether libvirt knows a machine of this name.
pub(super) async fn is_name_taken(session: &Session, name: &str) -> Result<bool, DriverError> {
    let what = "find machines by name";
    let name = name.to_owned();
    session
        .ask(what, LIMIT, move |connect| {
            match Domain::lookup_by_name(connect, &name) {
                Ok(_) => Ok(true),
                Err(error) if is_absent(&error) => Ok(false),
                Err(error) => Err(refused(what)(error)),
            }
        })
        .await
}

/// The domain with this identifier, if there is one.
pub(super) fn find(connect: &Connect, id: Uuid) -> Result<Option<Domain>, Error> {
    match Domain::lookup_by_uuid_string(connect, &id.to_string()) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn describe(domain: &Domain) -> Result<There, DriverError> {
    let failed = |error| refused("describe the machine")(error);
    let text = domain.get_xml_desc(0).map_err(failed)?;
    let known: KnownDomain = quick_xml::de::from_str(&text)
        .map_err(|error| unable(format!("what libvirt tells of it cannot be read: {error}")))?;
    Ok(There {
        name: domain.get_name().map_err(failed)?,
        folder: known.folder().map(PathBuf::from),
        is_active: domain.is_active().map_err(failed)?,
    })
}

/// Stops the processors. Stopped already is no error.
pub(super) fn suspend(domain: &Domain) -> Result<(), Error> {
    let stopped = domain.suspend().map(drop);
    if stopped.is_err() && is_in(domain, sys::VIR_DOMAIN_PAUSED) {
        return Ok(());
    }
    stopped
}

/// Lets the processors go on. Going on already is no error.
pub(super) fn resume(domain: &Domain) -> Result<(), Error> {
    let resumed = domain.resume().map(drop);
    if resumed.is_err() && is_in(domain, sys::VIR_DOMAIN_RUNNING) {
        return Ok(());
    }
    resumed
}

/// Presses the power button.
pub(super) fn press(domain: &Domain) -> Result<(), Error> {
    domain
        .shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        .map(drop)
}

fn is_in(domain: &Domain, state: sys::virDomainState) -> bool {
    domain.get_state().is_ok_and(|(found, _)| found == state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_another_folder_or_of_nobody_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let (own, other) = (home.path().join("own"), home.path().join("other"));
        std::fs::create_dir(&own).unwrap();
        let there = |folder: Option<&Path>| There {
            name: "coracle-dev".to_owned(),
            folder: folder.map(Path::to_owned),
            is_active: false,
        };
        there(Some(&own)).check_owner(&own).unwrap();
        // It was there before it was moved here.
        there(Some(&other)).check_owner(&own).unwrap();
        std::os::unix::fs::symlink(&own, &other).unwrap();
        there(Some(&other)).check_owner(&own).unwrap();
        std::fs::remove_file(&other).unwrap();
        std::fs::create_dir(&other).unwrap();
        let refused = there(Some(&other)).check_owner(&own).unwrap_err();
        assert!(refused.to_string().contains("belongs to"), "{refused}");
        let refused = there(None).check_owner(&own).unwrap_err();
        assert!(refused.to_string().contains("did not make"), "{refused}");
    }
}
