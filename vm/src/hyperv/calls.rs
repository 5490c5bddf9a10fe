//! The calls that the scripts answer, each with its parameters, its limit and the type of its answer.

use std::path::Path;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::answers::{Addresses, Facts, Found, Host, Platform};
use super::framing::Request;
use super::note::Note;
use super::session::{SessionError, Shell};
use super::{failure, unable};
use crate::driver::DriverError;
use crate::size::Size;

/// How long a PowerShell may take to come up, on a busy host.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The same for somebody who only looks.
const LOOK_START_LIMIT: Duration = Duration::from_secs(8);
/// How long Hyper-V may take to tell what a machine does, for somebody who only looks.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long it may take to tell anything. The first call also loads its commands.
const TELL_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to change a machine.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);
/// How long it may take to write or read a machine's memory: 32 GiB at 50 MB/s.
const MEMORY_LIMIT: Duration = Duration::from_secs(660);

/// What a machine begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Its disks. What Hyper-V keeps of it is thrown away.
    Boot,
    /// What Hyper-V keeps of it.
    Held,
}

impl Start {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Held => "held",
        }
    }
}

/// A virtual machine as it is to be.
#[derive(Debug)]
pub(super) struct Definition<'a> {
    pub(super) name: &'a str,
    pub(super) folder: &'a Path,
    pub(super) processors: u32,
    /// In bytes; a whole number of 2 MiB.
    pub(super) memory: Size,
    pub(super) disks: Vec<String>,
    pub(super) dvds: Vec<String>,
    pub(super) pipe: &'a Path,
}

/// What a call is for.
struct Task {
    what: &'static str,
    start: Duration,
    limit: Duration,
    memory: Option<Size>,
}

impl Task {
    const fn new(what: &'static str, limit: Duration) -> Self {
        Self {
            what,
            start: START_LIMIT,
            limit,
            memory: None,
        }
    }
}

/// Hyper-V behind a PowerShell.
#[derive(Debug)]
pub(super) struct Hyperv {
    shell: Shell,
    /// The virtual switch; nothing for the one that Windows makes.
    switch: String,
}

impl Hyperv {
    /// Nothing is run yet.
    pub(super) const fn new(shell: Shell, switch: String) -> Self {
        Self { shell, switch }
    }

    /// The program that is asked.
    pub(super) fn program(&self) -> &Path {
        self.shell.program()
    }

    /// The virtual switch that was named; nothing for the one that Windows makes.
    pub(super) fn switch(&self) -> &str {
        &self.switch
    }

    async fn call<A: DeserializeOwned>(
        &self,
        task: Task,
        request: Request,
    ) -> Result<A, DriverError> {
        let call = request.call;
        let answered = self.shell.call(&request, task.start, task.limit).await;
        let read = answered.and_then(|value| {
            serde_json::from_value(value).map_err(|error| {
                tracing::debug!(%error, call, "an answer of another shape");
                SessionError::Damaged { call }
            })
        });
        read.map_err(|error| {
            tracing::debug!(?error, call, "a call of PowerShell failed");
            failure::explain(self.program(), task.what, task.memory, error)
        })
    }

    /// What the host is and has.
    pub(super) async fn host(&self) -> Result<Host, DriverError> {
        let request = Request::new("Get-CoracleHost").with("Switch", &self.switch);
        self.call(Task::new("tell of itself", TELL_LIMIT), request)
            .await
    }

    /// What a saved machine depends on.
    pub(super) async fn platform(&self) -> Result<Platform, DriverError> {
        let request = Request::new("Get-CoraclePlatform");
        self.call(Task::new("tell of itself", TELL_LIMIT), request)
            .await
    }

    /// The virtual machine of a note, and those that have the name `name` and are not ours.
    pub(super) async fn find(&self, note: &Note, name: &str) -> Result<Found, DriverError> {
        let request = named("Find-CoracleMachine", note).with("Name", name);
        self.call(Task::new("find the machine", TELL_LIMIT), request)
            .await
    }

    /// The same for somebody who only looks, and does not wait long.
    pub(super) async fn look(&self, note: &Note) -> Result<Found, DriverError> {
        let request = named("Find-CoracleMachine", note).with("Name", "");
        let task = Task {
            start: LOOK_START_LIMIT,
            ..Task::new("tell what the machine does", LOOK_LIMIT)
        };
        self.call(task, request).await
    }

    /// Makes a virtual machine or changes the one that is there.
    pub(super) async fn define(
        &self,
        note: &Note,
        definition: &Definition<'_>,
    ) -> Result<Facts, DriverError> {
        let request = named("Set-CoracleMachine", note)
            .with("Name", definition.name)
            .with("Folder", text(definition.folder)?)
            .with("Processors", definition.processors)
            .with("Memory", definition.memory.bytes())
            .with_list("Disks", &definition.disks)
            .with_list("Dvds", &definition.dvds)
            .with("Switch", &self.switch)
            .with("Mac", &note.mac)
            .with("Pipe", text(definition.pipe)?);
        self.call(Task::new("make the machine", CHANGE_LIMIT), request)
            .await
    }

    /// Starts a virtual machine. With its memory, for want of that there is an error of its own.
    pub(super) async fn start(
        &self,
        note: &Note,
        from: Start,
        memory: Option<Size>,
    ) -> Result<Facts, DriverError> {
        let request = named("Start-CoracleMachine", note).with("From", from.as_str());
        let task = Task {
            memory,
            ..Task::new("start the machine", MEMORY_LIMIT)
        };
        self.call(task, request).await
    }

    /// Stops the guest's processors.
    pub(super) async fn suspend(&self, note: &Note) -> Result<Facts, DriverError> {
        let task = Task::new("pause the machine", CHANGE_LIMIT);
        self.call(task, named("Suspend-CoracleMachine", note)).await
    }

    /// Lets the guest's processors go on.
    pub(super) async fn resume(&self, note: &Note) -> Result<Facts, DriverError> {
        let task = Task::new("let the machine go on", CHANGE_LIMIT);
        self.call(task, named("Resume-CoracleMachine", note)).await
    }

    /// Writes memory and devices, and stops.
    pub(super) async fn save(&self, note: &Note) -> Result<Facts, DriverError> {
        let task = Task::new("save the machine", MEMORY_LIMIT);
        self.call(task, named("Save-CoracleMachine", note)).await
    }

    /// Asks the guest to shut down.
    pub(super) async fn request_shutdown(&self, note: &Note) -> Result<(), DriverError> {
        let task = Task::new("ask the guest to shut down", TELL_LIMIT);
        let request = named("Request-CoracleShutdown", note);
        let _: IgnoredAny = self.call(task, request).await?;
        Ok(())
    }

    /// Ends the machine without asking the guest.
    pub(super) async fn stop(&self, note: &Note, limit: Duration) -> Result<Facts, DriverError> {
        let task = Task::new("quit", limit);
        self.call(task, named("Stop-CoracleMachine", note)).await
    }

    /// Has Hyper-V forget the machine. One that it does not know is no error.
    pub(super) async fn remove(&self, note: &Note) -> Result<(), DriverError> {
        let task = Task::new("forget the machine", CHANGE_LIMIT);
        let request = named("Remove-CoracleMachine", note);
        let _: IgnoredAny = self.call(task, request).await?;
        Ok(())
    }

    /// Makes a thin disk.
    pub(super) async fn new_disk(&self, path: &Path, size: Size) -> Result<(), DriverError> {
        let request = Request::new("New-CoracleDisk")
            .with("Path", text(path)?)
            .with("Bytes", size.bytes());
        let task = Task::new("make the disk", CHANGE_LIMIT);
        let _: IgnoredAny = self.call(task, request).await?;
        Ok(())
    }

    /// Makes a disk at least as large as `size`, also while the machine runs.
    pub(super) async fn resize(
        &self,
        note: &Note,
        path: &Path,
        size: Size,
    ) -> Result<(), DriverError> {
        let request = named("Resize-CoracleDisk", note)
            .with("Path", text(path)?)
            .with("Bytes", size.bytes());
        let task = Task::new("make the disk larger", CHANGE_LIMIT);
        let _: IgnoredAny = self.call(task, request).await?;
        Ok(())
    }

    /// Where the guest is reached.
    pub(super) async fn addresses(&self, note: &Note) -> Result<Addresses, DriverError> {
        let request = named("Get-CoracleAddress", note).with("Mac", &note.mac);
        let task = Task::new("tell the guest's address", TELL_LIMIT);
        self.call(task, request).await
    }
}

/// A call about one machine.
fn named(call: &'static str, note: &Note) -> Request {
    let vm = note.vm.as_deref().unwrap_or_default();
    Request::new(call).with("Machine", note.id).with("Vm", vm)
}

/// A path as Hyper-V takes it: text, and without the prefix that `canonicalize` gives.
pub(super) fn text(path: &Path) -> Result<String, DriverError> {
    let text = path.to_str().ok_or_else(|| {
        unable(format!(
            "the path {} has characters that are no text",
            path.display()
        ))
    })?;
    let bare = text
        .strip_prefix(r"\\?\")
        .filter(|rest| !rest.starts_with("UNC"));
    Ok(bare.unwrap_or(text).to_owned())
}
