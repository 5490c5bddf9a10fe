//! From a specification to a machine that VirtualBox runs.
//!
//! ```text
//! Boot:   registered -> settings, ports, disks settled -> disk grown -> startvm
//! Saved:  still saved ----------------------------------------------> startvm -> ports settled
//! ```
//!
//! A machine that is saved takes no other settings. VirtualBox removes its saved memory by itself once
//! the guest goes on, and keeps it when that fails, so that no memory ever meets a newer disk.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::configure::{self, Drive, Place};
use super::failure::Failure;
use super::info::{self, Info, Medium, VmState};
use super::manage::{CHANGE, Manage, QUESTION, words};
use super::note::Note;
use super::vdi::Head;
use super::{cannot_clone, disks, network, observe, probe, register};
use crate::driver::{DriverError, Note as _, Origin};
use crate::log_file;
use crate::program::Programs;
use crate::saved::{Saved, Saves};
use crate::spec::MachineSpec;
use crate::store::MachineDir;

/// How long a machine may take from its start to its first instruction; one that goes on reads all of its
/// memory from the disk first.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How many lines of VirtualBox's log an error carries.
const LOG_LINES: usize = 12;

/// One launch.
struct Launch<'a> {
    manage: Manage,
    dir: &'a MachineDir,
    spec: &'a MachineSpec,
    note: Note,
    version: probe::Version,
}

/// Starts a machine that is off.
pub(super) async fn launch(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<(), DriverError> {
    configure::check(spec)?;
    let places = configure::places(spec)?;
    configure::check_files(&places)?;
    let manage = Manage::require(programs)?;
    let found = probe::version(&manage).await?;
    found.check()?;
    let launch = Launch {
        manage,
        dir,
        spec,
        note: Note::of(spec),
        version: found.version,
    };
    let there = info::find(&launch.manage, &launch.note.id(), QUESTION).await?;
    if let Some(info) = there.as_ref().filter(|info| !info.state.is_off()) {
        let state = observe::state(info);
        return Err(DriverError::AlreadyRunning { state });
    }
    network::check(spec)?;
    match origin {
        Origin::Boot => launch.boot(there, &places).await,
        Origin::Saved(saved) => launch.go_on(there, saved).await,
        Origin::Template(_) => Err(cannot_clone()),
    }
}

/// Lets a machine whose memory is saved go on, without anything else about it.
pub(super) async fn start_again(manage: &Manage, id: &str) -> Result<(), Failure> {
    let words = words(["startvm", id, "--type", "headless"]);
    manage.run(&words, START_LIMIT).await.map(drop)
}

impl Launch<'_> {
    async fn run(&self, words: &[OsString]) -> Result<(), DriverError> {
        self.manage.run(words, CHANGE).await?;
        Ok(())
    }

    async fn boot(&self, there: Option<Info>, places: &[Place]) -> Result<(), DriverError> {
        let info = register::registered(&self.manage, self.dir, &self.note, there).await?;
        if info.state == VmState::Saved {
            self.run(&words(["discardstate", &self.note.id()])).await?;
        }
        let mut modify = configure::modify_words(self.spec, &self.note, self.version);
        modify.extend(network::settle_words(&info, self.spec));
        self.run(&modify).await?;
        self.attach(&info, places).await?;
        if let Err(error) = disks::grow(&self.manage, self.spec).await {
            tracing::warn!(%error, "the disk does not grow before the next launch");
        }
        let log = info.log;
        match self.start().await {
            Ok(()) => self.check_started(log).await,
            Err(failure) => Err(failure.of_launch(self.spec, log)),
        }
    }

    /// Puts each disk at its place. What people put at other places stays there.
    async fn attach(&self, info: &Info, places: &[Place]) -> Result<(), DriverError> {
        let id = self.note.id();
        let last = info.media.keys().next_back().map_or(0, |last| last + 1);
        let count = last.max(places.len());
        let controller = configure::controller_words(&id, info.has_controller, count);
        self.run(&controller).await?;
        for place in places {
            let there = info.media.get(&place.port);
            if there.is_some_and(|there| self.is_attached(place, there)) {
                continue;
            }
            if let Some(there) = there {
                self.detach(place.port, there).await?;
            }
            self.run(&configure::attach_words(&id, place)).await?;
            if place.drive == Drive::Disk {
                self.run(&configure::flush_words(&id, place.port)).await?;
            }
        }
        Ok(())
    }

    /// Whether a place holds what it should. A disk that was made anew has another identifier. One of the
    /// machine's own folder in place of ours keeps what was written since people took a snapshot.
    fn is_attached(&self, place: &Place, there: &Medium) -> bool {
        if place.drive == Drive::Dvd {
            return there.path == place.path;
        }
        if there.path != place.path {
            return disks::is_own(&there.path, self.dir) && there.path.is_file();
        }
        let id = Head::read(&place.path).map(|head| head.id);
        id.is_ok_and(|id| there.id == Some(id))
    }

    async fn detach(&self, port: usize, there: &Medium) -> Result<(), DriverError> {
        let id = self.note.id();
        self.run(&configure::detach_words(&id, port)).await?;
        let medium = match there.id {
            Some(id) => OsString::from(id.to_string()),
            None => there.path.as_os_str().to_owned(),
        };
        disks::close(&self.manage, medium.clone()).await;
        disks::close_disc(&self.manage, medium).await;
        Ok(())
    }

    async fn go_on(&self, there: Option<Info>, saved: &Saved) -> Result<(), DriverError> {
        let Some(info) = there.filter(|info| info.state == VmState::Saved) else {
            return Err(DriverError::RestoreFailed {
                status: "VirtualBox holds no saved memory of it".to_owned(),
                last_lines: Vec::new(),
            });
        };
        let log = info.log;
        if let Err(failure) = self.start().await {
            return Err(failure.of_restore(self.spec, log));
        }
        self.check_started(log).await?;
        // It is gone in VirtualBox already: what is left of ours would only be found to be of no use.
        if let Err(error) = Saves::new(self.dir).spend(saved) {
            tracing::warn!(%error, "a record of saved memory stays, and cannot be used");
        }
        self.settle_ports().await
    }

    /// Ports that were open when it was saved, and those of a specification that has changed since.
    async fn settle_ports(&self) -> Result<(), DriverError> {
        let id = self.note.id();
        let Some(info) = info::find(&self.manage, &id, QUESTION).await? else {
            return Err(DriverError::NotRunning);
        };
        network::settle_running(&self.manage, &id, &info, self.spec).await?;
        Ok(())
    }

    /// Starts it with new logs. VirtualBox would make the console's file readable for others.
    async fn start(&self) -> Result<(), Failure> {
        let console = &self.spec.console;
        let made = log_file::rotate(console).and_then(|()| log_file::create(console).map(drop));
        if let Err(error) = made {
            tracing::warn!(%error, "the console's file cannot be made");
        }
        let started = start_again(&self.manage, &self.note.id()).await;
        if started.as_ref().is_err_and(Failure::is_silence) {
            // It may have begun all the same, and nobody would know of it.
            let off = words(["controlvm", &self.note.id(), "poweroff"]);
            let _ = self.manage.once(&off, CHANGE).await;
        }
        started
    }

    /// VirtualBox says that it has started a machine that may end a moment later.
    async fn check_started(&self, log: PathBuf) -> Result<(), DriverError> {
        let info = info::find(&self.manage, &self.note.id(), QUESTION).await?;
        if info.is_some_and(|info| !info.state.is_off()) {
            return Ok(());
        }
        let id = self.note.id();
        Err(DriverError::LaunchFailed {
            status: "the machine ended".to_owned(),
            command: format!("{} startvm {id}", self.manage.program().display()),
            last_lines: log_file::last_lines(&log, LOG_LINES),
            log,
        })
    }
}

/// Makes the machine's disks. Nothing is told to VirtualBox of the machine itself yet.
pub(super) async fn prepare(programs: &Programs, spec: &MachineSpec) -> Result<(), DriverError> {
    configure::check(spec)?;
    let manage = Manage::require(programs)?;
    disks::create_disks(&manage, spec).await
}

/// Has VirtualBox forget a machine that is off, and its disks with it.
pub(super) async fn forget(
    manage: &Manage,
    dir: &MachineDir,
    note: &Note,
    info: &Info,
) -> Result<(), DriverError> {
    if !info.state.is_off() {
        let state = observe::state(info);
        return Err(DriverError::AlreadyRunning { state });
    }
    let id = note.id();
    if info.state == VmState::Saved {
        manage.run(&words(["discardstate", &id]), CHANGE).await?;
    }
    register::unregister(manage, &id).await?;
    for medium in info.media.values() {
        let path = medium.path.as_os_str().to_owned();
        if disks::is_own(&medium.path, dir) {
            disks::close(manage, path.clone()).await;
        }
        // One that other machines have stays.
        disks::close_disc(manage, path).await;
    }
    Note::remove(dir)
}
