//! Machines: what one is made of, the drivers that run it, and the store that keeps it on disk.
//!
//! This crate knows nothing of Kubernetes, of images or of the user's settings. It takes values and
//! gives back types and errors: it reads no environment, no arguments, and prints nothing.
//!
//! Data goes one way:
//!
//! ```text
//! ResourceRequest --check(HostResources)--> MachineSpec --+--> Store: machines/NAME/machine.json
//!                                                         |
//!            AcceleratorFacts --decide--> Verdict --------+--> command line --> launch --> process
//!                                                                                            |
//!                                       MachineState <--observe-- QMP, processes, lock <------+
//! ```
//!
//! No state is kept in a file. What a machine is doing is derived from facts each time it is asked
//! for: whether there is a hypervisor, whether it answers, and what it says.
//!
//! ```text
//!            Store::create                     Store::delete
//!   (nothing) ----------> Off <------------------------------> (nothing)
//!                          |  ^
//!            Driver::launch|  | quit, power_button, kill -9, poweroff in the guest
//!                          v  |
//!                        Starting          a hypervisor is there, its processors have not run yet: it
//!                          |               begins, or a template or a saved state is being restored
//!                          |
//!                          v        pause
//!        +------------> Running <----------> Paused
//!        |                 |        resume
//!        | resume, after   | a write failed: no space on the host
//!        | space was made  v
//!        +---------- PausedDiskFull
//!
//!   Broken { reason }: a process that does not answer, a damaged machine.json; Panicked: the guest's
//!   kernel did. The way out is Driver::quit, then Driver::launch or Store::delete.
//! ```
//!
//! A reboot inside the guest is not a transition: the same hypervisor process starts the guest
//! again, and the ports stay open.

pub mod accelerator;
pub mod address;
pub mod driver;
pub mod host;
pub mod log_file;
pub mod name;
pub mod program;
pub mod qmp;
pub mod saved;
pub mod size;
pub mod spec;
pub mod state;
pub mod store;
pub mod template;
mod user_network;

// The drivers' modules, which their list declares.
pub use driver::rooms::*;

pub use accelerator::{Accelerator, AcceleratorChoice, Verdict};
pub use driver::{
    AnyDriver, Capabilities, Captured, Driver, DriverError, DriverFacts, DriverKind, Exposed,
    GuestAddress, GuestPort, Origin, RunningProcess,
};
pub use host::HostResources;
pub use name::MachineName;
pub use saved::{Kept, Saved, SavedError, Saves, Saving, Snapshot, SnapshotRecord, Snapshots};
pub use size::Size;
pub use spec::{
    Boot, Disk, DiskRole, MachineSpec, PortForward, ResourceRequest, SpecError, UserNetwork,
};
pub use state::MachineState;
pub use store::{Disks, Entry, MachineDir, MachineLock, Record, Store, StoreError};
pub use template::{
    Template, TemplateError, TemplateFiles, TemplateKey, TemplateRecord, Templates,
};
