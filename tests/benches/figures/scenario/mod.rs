//! What is done to a cluster to measure it, in the order in which it is done.
//!
//! Each scenario begins without a machine; the template is there from the first start on.

mod builds;
mod engines;
mod first;
mod fresh;
mod idle;
mod image;
mod mounts;
mod reach;
mod saved;
mod snapshots;

use crate::record::Record;
use coracle_tests::Coracle;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Few repeats.
    pub(crate) quick: bool,
    /// The first start, without which there is no cold one.
    pub(crate) cold: bool,
    /// What takes many minutes too.
    pub(crate) long: bool,
    /// What a download would weigh.
    pub(crate) size: bool,
    /// The image with an empty cache.
    pub(crate) from_nothing: bool,
}

impl Extent {
    /// Repeats of something that is usually done so often.
    fn repeats(self, usual: usize) -> usize {
        if self.quick { usual.min(3) } else { usual }
    }
}

/// Measures something.
pub(crate) type Scenario = fn(&Coracle, &mut Record, Extent);

/// All of them.
pub(crate) const ALL: &[(&str, Scenario)] = &[
    ("the image", image::measure),
    ("the first start", first::measure),
    ("fresh starts", fresh::measure),
    ("one command, one pod", fresh::measure_use),
    ("stop and start", saved::measure),
    ("snapshots and clones", snapshots::measure),
    ("ports", reach::measure),
    ("mounts", mounts::measure),
    ("engines", engines::measure),
    ("builds", builds::measure),
    ("memory and idling", idle::measure),
];
