//! From a specification to a virtual machine that runs.
//!
//! ```text
//! check -> find it by its mark -+- there: changed to the specification
//!                               +- not there, and nobody else has its name: made
//!       -> disk as large as it is to be -> console followed -> started
//! ```
//!
//! A machine that goes on from what Hyper-V keeps of it is not changed: it is found and started.

use super::calls::{Definition, Hyperv, Start};
use super::note::Note;
use super::state::VmState;
use super::{KIND, console, disks, probe, unable};
use crate::driver::{DriverError, Note as _, Origin, failed};
use crate::log_file;
use crate::saved::{Kept, Saved, Saves};
use crate::size::Size;
use crate::spec::{Boot, MachineSpec};
use crate::store::{MachineDir, atomic};

/// Starts a machine.
pub(super) async fn launch(
    hyperv: &Hyperv,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<(), DriverError> {
    check(spec)?;
    // Without its note it is found by its mark.
    let former = Note::read(dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "the machine's note is written anew");
        None
    });
    let former = former.filter(|note| note.id == spec.id);
    let note = Note::of(spec, former.and_then(|note| note.vm));
    let found = hyperv.find(&note, spec.name.as_str()).await?;
    let others = found.others.clone();
    let facts = found.facts();
    let state = facts.as_ref().map(|facts| VmState::of(&facts.state));
    if let Some(state) = state.clone().filter(|state| !state.is_off()) {
        return Err(DriverError::AlreadyRunning {
            state: state.observed(true),
        });
    }
    match origin {
        Origin::Boot if facts.is_none() && !others.is_empty() => Err(foreign(spec, &others)),
        Origin::Boot => {
            if state == Some(VmState::Lost) {
                tracing::warn!(machine = %dir.name(), "Hyper-V has lost the machine's files: it is made anew");
                hyperv.remove(&note).await?;
            }
            boot(hyperv, dir, spec, note).await
        }
        Origin::Saved(saved) => {
            let vm = facts.map(|facts| facts.vm);
            let held = state == Some(VmState::Saved);
            go_on(hyperv, dir, spec, Note::of(spec, vm), saved, held).await
        }
        Origin::Template(_) => Err(super::cannot_clone()),
    }
}

/// Checks what Hyper-V cannot do, and that every file is there.
fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    spec.check()?;
    probe::check_guest(spec.architecture)?;
    probe::check_choice(spec.accelerator)?;
    if spec.boot != Boot::Firmware {
        return Err(unable(
            "it starts a kernel without a boot loader, which Hyper-V cannot do".to_owned(),
        ));
    }
    disks::check(spec)?;
    match spec.disks.iter().find(|disk| !disk.path.is_file()) {
        Some(disk) => Err(DriverError::MissingFile {
            path: disk.path.clone(),
        }),
        None => Ok(()),
    }
}

/// Makes the machine what the specification says, and boots it.
async fn boot(
    hyperv: &Hyperv,
    dir: &MachineDir,
    spec: &MachineSpec,
    mut note: Note,
) -> Result<(), DriverError> {
    Saves::new(dir).forget()?;
    note.write(dir)?;
    let pipe = console::pipe(dir, spec.id)?;
    let facts = hyperv
        .define(
            &note,
            &Definition {
                name: spec.name.as_str(),
                folder: dir.path(),
                processors: spec.cpus.get(),
                memory: whole(spec.memory),
                disks: disks::written(spec)?,
                dvds: disks::dvds(dir, spec)?,
                pipe: &pipe,
            },
        )
        .await?;
    note.vm = Some(facts.vm);
    note.write(dir)?;
    grow(hyperv, &note, spec).await;
    start(hyperv, dir, spec, &note, Start::Boot).await
}

/// Lets the machine go on from what Hyper-V keeps of it.
///
/// Hyper-V gives up what it keeps when the machine goes on, and has it only for the disks as they are: a
/// start that fails for want of memory leaves both as they were, and can be tried again.
async fn go_on(
    hyperv: &Hyperv,
    dir: &MachineDir,
    spec: &MachineSpec,
    note: Note,
    saved: &Saved,
    held: bool,
) -> Result<(), DriverError> {
    if saved.record.kept != Kept::Held {
        return Err(unrestored("it was saved by another driver".to_owned()));
    }
    if !held {
        return Err(unrestored("Hyper-V keeps nothing of it".to_owned()));
    }
    note.write(dir)?;
    let started = start(hyperv, dir, spec, &note, Start::Held).await;
    match started {
        Err(DriverError::Hypervisor { detail, .. }) => return Err(unrestored(detail)),
        started => started?,
    }
    Saves::new(dir).spend(saved)?;
    grow(hyperv, &note, spec).await;
    Ok(())
}

/// Starts the machine with its console followed.
async fn start(
    hyperv: &Hyperv,
    dir: &MachineDir,
    spec: &MachineSpec,
    note: &Note,
    from: Start,
) -> Result<(), DriverError> {
    let runtime = dir.runtime_dir();
    atomic::create_private_dirs(runtime).map_err(failed("create", runtime))?;
    log_file::rotate(&spec.console).map_err(failed("write", &spec.console))?;
    log_file::create(&spec.console).map_err(failed("write", &spec.console))?;
    let pipe = console::pipe(dir, spec.id)?;
    let follower = tokio::spawn(console::follow(pipe, spec.console.clone()));
    let started = hyperv.start(note, from, Some(spec.memory)).await;
    if started.is_err() {
        follower.abort();
    }
    started.map(drop)
}

/// A disk that does not grow is no reason not to start.
async fn grow(hyperv: &Hyperv, note: &Note, spec: &MachineSpec) {
    if let Err(error) = disks::grow(hyperv, note, spec).await {
        tracing::warn!(%error, "the disk does not grow before the next launch");
    }
}

/// Hyper-V gives memory in units of 2 MiB.
const fn whole(memory: Size) -> Size {
    Size::from_mib(memory.mib().next_multiple_of(2))
}

fn foreign(spec: &MachineSpec, others: &[String]) -> DriverError {
    DriverError::Foreign {
        kind: KIND,
        name: spec.name.to_string(),
        id: others.join(", "),
    }
}

fn unrestored(status: String) -> DriverError {
    DriverError::RestoreFailed {
        status,
        last_lines: Vec::new(),
    }
}
