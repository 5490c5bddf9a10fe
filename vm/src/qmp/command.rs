//! Commands whose answers differ between QEMU's versions, with only the fields that are read here.
//! The crate `qapi` follows one version's schema and refuses an answer that lacks a field of it.

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
