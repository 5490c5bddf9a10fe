//! Commands whose answers differ between QEMU's versions, with only the fields that are read here.
//! The crate `qapi` follows one version's schema and refuses an answer that lacks a field of it.

use std::path::PathBuf;

use qapi::Command;
use serde::{Deserialize, Serialize};

/// `query-status`: what the guest's processors are doing (RunState in QEMU's qapi/run-state.json).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryStatus {}

impl Command for QueryStatus {
    type Ok = RunStatus;

    const NAME: &'static str = "query-status";
    const ALLOW_OOB: bool = false;
}

/// The answer to [`QueryStatus`].
#[derive(Debug, Clone, Deserialize)]
pub struct RunStatus {
    /// A value of RunState, such as `running`. Text, because versions add and remove values.
    pub status: String,
}

/// `migrate`: sends the machine's state somewhere.
#[derive(Debug, Clone, Serialize)]
pub struct Migrate {
    /// Where to, such as `unix:/path`.
    pub uri: String,
}

impl Command for Migrate {
    type Ok = qapi::Empty;

    const NAME: &'static str = "migrate";
    const ALLOW_OOB: bool = false;
}

/// `migrate-incoming`: restores the machine's state from somewhere.
#[derive(Debug, Clone, Serialize)]
pub struct MigrateIncoming {
    /// Where from, such as `fd:200`.
    pub uri: String,
}

impl Command for MigrateIncoming {
    type Ok = qapi::Empty;

    const NAME: &'static str = "migrate-incoming";
    const ALLOW_OOB: bool = false;
}

/// `migrate-set-capabilities`: what a migration does and leaves out. The crate `qapi` knows only one
/// version's capabilities.
#[derive(Debug, Clone, Serialize)]
pub struct MigrateSetCapabilities {
    capabilities: Vec<MigrationCapability>,
}

#[derive(Debug, Clone, Serialize)]
struct MigrationCapability {
    capability: &'static str,
    state: bool,
}

impl MigrateSetCapabilities {
    /// Switches these capabilities on or off.
    pub fn of(capabilities: &[(&'static str, bool)]) -> Self {
        let capabilities = capabilities.iter();
        Self {
            capabilities: capabilities
                .map(|&(capability, state)| MigrationCapability { capability, state })
                .collect(),
        }
    }
}

impl Command for MigrateSetCapabilities {
    type Ok = qapi::Empty;

    const NAME: &'static str = "migrate-set-capabilities";
    const ALLOW_OOB: bool = false;
}

/// Names of capabilities.
pub mod migration_capability {
    /// Memory that is shared with a file is left out.
    pub const IGNORE_SHARED: &str = "x-ignore-shared";
    /// Each page has a place of its own in the file (QEMU 9).
    pub const MAPPED_RAM: &str = "mapped-ram";
    /// Several threads read and write.
    pub const MULTIFD: &str = "multifd";
}

/// `migrate-set-parameters`: how a migration goes.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateSetParameters {
    /// Bytes a second.
    max_bandwidth: u64,
}

impl MigrateSetParameters {
    /// As fast as it can: nothing else uses the way to a file.
    pub fn without_limit() -> Self {
        Self {
            max_bandwidth: 1 << 40,
        }
    }
}

impl Command for MigrateSetParameters {
    type Ok = qapi::Empty;

    const NAME: &'static str = "migrate-set-parameters";
    const ALLOW_OOB: bool = false;
}

/// `xen-save-devices-state`: writes the state of all devices, and no memory, to a file. It is in
/// every QEMU, whatever the accelerator.
#[derive(Debug, Clone, Serialize)]
pub struct SaveDevices {
    /// The file.
    pub filename: String,
    /// Whether another process is to take the disks over.
    pub live: bool,
}

impl Command for SaveDevices {
    type Ok = qapi::Empty;

    const NAME: &'static str = "xen-save-devices-state";
    const ALLOW_OOB: bool = false;
}

/// `query-migrate`: how far a migration is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryMigrate {}

impl Command for QueryMigrate {
    type Ok = MigrationStatus;

    const NAME: &'static str = "query-migrate";
    const ALLOW_OOB: bool = false;
}

/// The answer to [`QueryMigrate`].
#[derive(Debug, Clone, Deserialize)]
pub struct MigrationStatus {
    /// `active`, `completed`, `failed`, ...; none when there was no migration.
    pub status: Option<String>,
    /// Why it failed.
    #[serde(rename = "error-desc")]
    pub error: Option<String>,
}

/// `query-block`: the disks (BlockInfo in QEMU's qapi/block-core.json).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlock {}

impl Command for QueryBlock {
    type Ok = Vec<BlockStatus>;

    const NAME: &'static str = "query-block";
    const ALLOW_OOB: bool = false;
}

/// One disk in the answer to [`QueryBlock`].
#[derive(Debug, Clone, Deserialize)]
pub struct BlockStatus {
    /// The identifier of its device in QEMU's tree.
    #[serde(default)]
    pub qdev: String,
    /// What is in it.
    #[serde(default)]
    pub inserted: Option<Medium>,
    /// Whether the last access failed. Not given for a disk that never stops the guest.
    #[serde(rename = "io-status", default)]
    pub io_status: IoStatus,
}

/// Whether a disk works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoStatus {
    /// It works.
    #[default]
    Ok,
    /// An access failed.
    Failed,
    /// A write failed because no space is left on the host.
    NoSpace,
}

/// What a disk in the answer to [`QueryBlock`] holds.
#[derive(Debug, Clone, Deserialize)]
pub struct Medium {
    /// Its name in QEMU's graph.
    #[serde(rename = "node-name")]
    pub node: String,
    /// What it says of itself.
    pub image: Image,
}

/// A part of ImageInfo in qapi/block-core.json.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Image {
    /// Bytes that the guest sees.
    #[serde(rename = "virtual-size")]
    pub size: u64,
}

/// `block_resize`: makes a disk larger while the guest runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockResize {
    /// Which.
    pub node_name: String,
    /// Bytes that the guest sees from now on.
    pub size: u64,
}

impl Command for BlockResize {
    type Ok = qapi::Empty;

    const NAME: &'static str = "block_resize";
    const ALLOW_OOB: bool = false;
}

/// `blockdev-add`: opens a disk's file. The argument is a BlockdevOptions of qapi/block-core.json.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct BlockdevAdd(pub serde_json::Value);

impl Command for BlockdevAdd {
    type Ok = qapi::Empty;

    const NAME: &'static str = "blockdev-add";
    const ALLOW_OOB: bool = false;
}

/// `blockdev-snapshot`: has writes go to another file from now on, above the one that was written.
#[derive(Debug, Clone, Serialize)]
pub struct BlockdevSnapshot {
    /// What was written.
    pub node: String,
    /// What is written.
    pub overlay: String,
}

impl Command for BlockdevSnapshot {
    type Ok = qapi::Empty;

    const NAME: &'static str = "blockdev-snapshot";
    const ALLOW_OOB: bool = false;
}

/// `block-stream`: copies what is between a disk and one of the files below it into the former.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockStream {
    /// A name for the job.
    pub job_id: String,
    /// The disk.
    pub device: String,
    /// The name of what stays below it.
    pub base_node: String,
    /// The file of that, for the disk's header.
    pub backing_file: PathBuf,
}

impl Command for BlockStream {
    type Ok = qapi::Empty;

    const NAME: &'static str = "block-stream";
    const ALLOW_OOB: bool = false;
}

/// `query-named-block-nodes`: all files that are open, and what is above them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryNodes {
    /// Without all that is below each.
    pub flat: bool,
}

impl Command for QueryNodes {
    type Ok = Vec<BlockNode>;

    const NAME: &'static str = "query-named-block-nodes";
    const ALLOW_OOB: bool = false;
}

/// One node in the answer to [`QueryNodes`].
#[derive(Debug, Clone, Deserialize)]
pub struct BlockNode {
    /// Its name in QEMU's graph.
    #[serde(rename = "node-name")]
    pub name: String,
    /// What it understands, such as `qcow2`.
    #[serde(rename = "drv")]
    pub driver: String,
    /// The name of its file when it was opened.
    pub file: PathBuf,
}

/// `query-block-jobs`: what goes on with the disks.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct QueryBlockJobs {}

impl Command for QueryBlockJobs {
    type Ok = Vec<serde_json::Value>;

    const NAME: &'static str = "query-block-jobs";
    const ALLOW_OOB: bool = false;
}
