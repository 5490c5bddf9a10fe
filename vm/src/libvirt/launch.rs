//! From a specification to a guest that runs.
//!
//! ```text
//! Boot:   forget what was saved --define--> started, paused --+--> disk grown --> forwards --> it goes on
//! Saved:  memory loaded, paused --> made invalid -------------+
//! ```
//!
//! What is cut off on this way leaves a machine that has not run, and is seen to.

use std::time::Duration;

use virt::domain::Domain;
use virt::sys;

use super::describe::{Description, target};
use super::failure::{self, refused, unrestored};
use super::host::Host;
use super::link::Link;
use super::machine::{Machine, There, find, is_name_taken, look, resume};
use super::session::Session;
use super::{
    CONNECT_LIMIT, EXAMINE_LIMIT, KILL_LIMIT, LIMIT, SAVE_LIMIT, network, observe, unable, uri,
};
use crate::driver::{DriverError, Note as _, Origin, failed};
use crate::log_file;
use crate::program::Programs;
use crate::qemu::shared::check_files;
use crate::saved::{Kept, Saved, Saves};
use crate::size::Size;
use crate::spec::{Disk, DiskFormat, DiskRole, MachineSpec};
use crate::store::MachineDir;
use crate::store::qcow2::Header;

/// How long QEMU may take from its start to its monitor's greeting, on a busy host.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Starts a machine that is off, until its guest runs.
pub(super) async fn launch(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<(), DriverError> {
    check(spec)?;
    let uri = match Link::read(dir)? {
        Some(link) => link.uri,
        None => uri::of_user(programs)?,
    };
    let session = Session::open(programs, &uri, CONNECT_LIMIT).await?;
    let host = Host::examine(&session, programs, spec.architecture).await?;
    let verdict = host.verdict(spec.accelerator).await?;
    let there = look(&session, spec.id, LIMIT).await?;
    if let Some(there) = &there {
        there.check_owner(dir.path())?;
    }
    let name = name(&session, spec, there.as_ref()).await?;
    let machine = Machine::new(session, spec.id);
    if there.as_ref().is_some_and(|there| there.is_active) {
        let state = observe::state(&machine, LIMIT).await?;
        return Err(DriverError::AlreadyRunning { state });
    }
    let description = Description {
        spec,
        name: &name,
        folder: dir.path(),
        accelerator: verdict.accelerator,
        emulator: host.chosen.as_deref(),
        user: host.user(),
        panic_device: host.panic_device(),
    };
    tracing::debug!(reason = %verdict.reason, %name, "starting a machine of libvirt's");
    let begun = async {
        match origin {
            Origin::Boot => {
                let xml = description.domain()?.to_xml()?;
                Link::new(uri, spec.id).write(dir)?;
                boot(&machine, dir, spec, xml).await?;
            }
            Origin::Saved(saved) => restore(&machine, dir, spec, saved).await?,
            Origin::Template(_) => return Err(super::cannot_clone()),
        }
        finish(&machine, dir, spec, origin).await
    };
    let begun = begun.await;
    if begun.is_err()
        && let Err(error) = machine.destroy(KILL_LIMIT).await
    {
        tracing::warn!(%error, "a machine is left that has not run");
    }
    begun
}

/// Checks what only this driver cannot do, and that every file is there.
fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    spec.check()?;
    let mut forwards = spec.network.forwards.iter();
    if let Some(forward) = forwards.find(|forward| forward.host.is_ipv6()) {
        return Err(unable(format!(
            "its network forwards only IPv4 addresses, not {}",
            forward.host
        )));
    }
    check_files(spec)
}

/// What libvirt calls it: what it is called there already, else a name that tells whose it is. One of
/// another home or user may have the same name here.
async fn name(
    session: &Session,
    spec: &MachineSpec,
    there: Option<&There>,
) -> Result<String, DriverError> {
    if let Some(there) = there {
        return Ok(there.name.clone());
    }
    let name = default_name(spec);
    if is_name_taken(session, &name).await? {
        return Err(unable(format!(
            "libvirt has another machine of its name, {name}, which is not touched: \
             `virsh domrename {name} OTHER-NAME` makes room"
        )));
    }
    Ok(name)
}

/// The machine's name and the beginning of its identifier.
fn default_name(spec: &MachineSpec) -> String {
    let (beginning, ..) = spec.id.as_fields();
    format!("coracle-{}-{beginning:08x}", spec.name)
}

/// Defines it anew and starts it from its disks, paused.
async fn boot(
    machine: &Machine,
    dir: &MachineDir,
    spec: &MachineSpec,
    xml: String,
) -> Result<(), DriverError> {
    Saves::new(dir).forget()?;
    begin_logs(spec)?;
    let id = spec.id;
    let what = "define the machine";
    let define = machine.session().ask(what, EXAMINE_LIMIT, move |connect| {
        if let Some(domain) = find(connect, id).map_err(refused(what))?
            && domain.has_managed_save(0).map_err(refused(what))?
        {
            domain.managed_save_remove(0).map_err(refused(what))?;
        }
        Domain::define_xml(connect, &xml)
            .map(drop)
            .map_err(refused(what))
    });
    define.await?;
    start(machine, START_LIMIT)
        .await
        .map_err(|error| failure::launch(error, spec))
}

/// Has libvirt load what it kept, paused. That is gone then, as far as libvirt is concerned.
async fn restore(
    machine: &Machine,
    dir: &MachineDir,
    spec: &MachineSpec,
    saved: &Saved,
) -> Result<(), DriverError> {
    if saved.record.kept != Kept::Held || Link::read(dir)?.is_none() {
        return Err(unrestored("another hypervisor keeps it"));
    }
    let what = "tell whether it keeps the machine";
    let is_kept = machine.with(what, LIMIT, move |domain| {
        domain.has_managed_save(0).map_err(refused(what))
    });
    match is_kept.await {
        Ok(true) => {}
        Ok(false) | Err(DriverError::NotRunning) => {
            return Err(unrestored("libvirt does not keep it any more"));
        }
        Err(error) => return Err(error),
    }
    begin_logs(spec)?;
    start(machine, SAVE_LIMIT).await.map_err(failure::restore)
}

/// Puts the former log of the console aside. libvirt would make the new one readable for others.
fn begin_logs(spec: &MachineSpec) -> Result<(), DriverError> {
    let path = &spec.console;
    log_file::rotate(path)
        .and_then(|()| log_file::create(path))
        .map(drop)
        .map_err(failed("write", path))
}

/// Starts it, or loads what is kept of it, and leaves its processors stopped.
async fn start(machine: &Machine, limit: Duration) -> Result<(), DriverError> {
    let what = "start the machine";
    machine
        .with(what, limit, move |domain| {
            domain
                .create_with_flags(sys::VIR_DOMAIN_START_PAUSED)
                .map(drop)
                .map_err(refused(what))
        })
        .await
}

/// What is to be done before the guest runs, and its first step.
async fn finish(
    machine: &Machine,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<(), DriverError> {
    if let Origin::Saved(saved) = origin {
        Saves::new(dir).spend(saved)?;
    }
    if let Err(error) = grow(machine, spec).await {
        tracing::warn!(%error, "the disk does not grow before the next launch");
    }
    network::forward(machine, spec).await?;
    machine.ask("let the guest run", LIMIT, resume).await
}

/// Makes the disk that the guest writes as large as it is to be. The guest is told.
pub(super) async fn grow(machine: &Machine, spec: &MachineSpec) -> Result<(), DriverError> {
    let mut disks = spec.disks.iter().enumerate();
    let Some((index, disk)) = disks.find(|(_, disk)| disk.role == DiskRole::Data) else {
        return Ok(());
    };
    let Some(wanted) = disk.create else {
        return Ok(());
    };
    if size(disk)? >= wanted {
        return Ok(());
    }
    let (name, bytes) = (target(index)?, wanted.bytes());
    machine
        .ask("grow the disk", LIMIT, move |domain| {
            let flags = sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES;
            domain.block_resize(&name, bytes, flags).map(drop)
        })
        .await
        .map_err(failure::full)
}

/// How large the guest sees a disk.
fn size(disk: &Disk) -> Result<Size, DriverError> {
    let failed = |error| failed("read", &disk.path)(error);
    if disk.format == DiskFormat::Raw {
        let bytes = disk.path.metadata().map_err(failed)?.len();
        return Ok(Size::from_bytes(bytes));
    }
    let header = Header::read(&disk.path).map_err(failed)?;
    header
        .map(|header| header.size)
        .ok_or_else(|| unable(format!("{} is not a disk", disk.path.display())))
}
