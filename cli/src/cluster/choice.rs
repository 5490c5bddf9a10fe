//! Which driver runs a new cluster: the one that was asked for, or the best of those that work here.
//!
//! Hardware is better than software emulation, then what begins with a copy of a running machine, then
//! what can be saved; of equally good ones the first of the list is taken.

use super::image;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::images::Image;
use coracle_vm::spec::Architecture;
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Capabilities, Driver as _, DriverError, DriverFacts, DriverKind,
};

/// A driver that works here.
#[derive(Debug)]
pub struct Working {
    /// What it found out about its hypervisor.
    pub facts: DriverFacts,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// How good a driver is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_hardware: bool,
    can_clone: bool,
    can_hibernate: bool,
}

/// There is nothing better.
const BEST: Rank = Rank {
    is_hardware: true,
    can_clone: true,
    can_hibernate: true,
};

impl Working {
    fn rank(&self) -> Rank {
        Rank {
            is_hardware: self.facts.verdict.accelerator.is_hardware(),
            can_clone: self.capabilities.can_clone,
            can_hibernate: self.capabilities.can_hibernate,
        }
    }

    /// Whether its machines can start with the image that there is. Who asks for it by name hears what is
    /// missing.
    fn can_start(&self, image: Option<&Image>) -> bool {
        let has_iso = || image.is_some_and(|image| image.iso().is_some());
        self.capabilities.boots_kernel || has_iso()
    }
}

/// What was found out about each driver, in the order of the list.
pub async fn all(settings: &Settings) -> Vec<(DriverKind, Result<Working, DriverError>)> {
    let image = image::current(settings).ok();
    let mut found = Vec::new();
    for &kind in DriverKind::ALL {
        found.push((kind, probe(settings, kind, image.as_ref()).await));
    }
    found
}

/// The driver for a new cluster.
///
/// # Errors
/// What keeps the one that was asked for from working; where none was asked for and none works, what
/// keeps the first of the list.
pub async fn choose(settings: &Settings, asked: Option<DriverKind>) -> Result<DriverFacts> {
    let image = image::current(settings).ok();
    let image = image.as_ref();
    if let Some(kind) = asked {
        return Ok(probe(settings, kind, image).await?.facts);
    }
    let mut found = Vec::new();
    for &kind in DriverKind::ALL {
        let probed = probe(settings, kind, image).await;
        if probed
            .as_ref()
            .is_ok_and(|working| !working.can_start(image))
        {
            continue;
        }
        let is_best = probed.as_ref().is_ok_and(|working| working.rank() == BEST);
        found.push(probed);
        // Looking at the others takes time.
        if is_best {
            break;
        }
    }
    best(found)
}

/// The first of the best, or the first error.
fn best(found: Vec<Result<Working, DriverError>>) -> Result<DriverFacts> {
    let best = found.into_iter().reduce(|best, next| match (&best, &next) {
        (Err(_), Ok(_)) => next,
        (Ok(before), Ok(after)) if before.rank() < after.rank() => next,
        _ => best,
    });
    match best {
        Some(found) => Ok(found?.facts),
        None => Err(Error::new(ErrorId::Internal, "there is no driver")),
    }
}

/// What a driver finds out, for machines with the processor of the image that there is, or else the host's.
async fn probe(
    settings: &Settings,
    kind: DriverKind,
    image: Option<&Image>,
) -> Result<Working, DriverError> {
    let driver = AnyDriver::new(kind, settings.programs())?;
    let guest = image.map_or(Architecture::of_host(), image::architecture);
    let facts = driver.probe(AcceleratorChoice::Auto, guest).await?;
    Ok(Working {
        facts,
        capabilities: driver.capabilities(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::program::Programs;
    use coracle_vm::{Accelerator, Verdict};

    fn working(version: &str, accelerator: Accelerator, can_clone: bool) -> Working {
        let driver = AnyDriver::new(DriverKind::ALL[0], Programs::default()).unwrap();
        let mut capabilities = driver.capabilities();
        capabilities.can_clone = can_clone;
        capabilities.can_hibernate = true;
        Working {
            facts: DriverFacts {
                kind: DriverKind::ALL[0],
                place: "/usr/bin/hypervisor".into(),
                version: version.into(),
                verdict: Verdict {
                    accelerator,
                    reason: "so it is".into(),
                },
            },
            capabilities,
        }
    }

    fn chosen(found: Vec<Result<Working, DriverError>>) -> String {
        best(found).unwrap().version
    }

    #[test]
    fn hardware_comes_first_then_clones_then_the_lists_order() {
        let missing = || Err(DriverError::NotRunning);
        let emulated = || Ok(working("emulated", Accelerator::Tcg, true));
        let cloning = || Ok(working("cloning", Accelerator::Kvm, true));
        let plain = || Ok(working("plain", Accelerator::Whpx, false));
        let other = || Ok(working("other", Accelerator::Hvf, false));
        assert_eq!(chosen(vec![missing(), emulated(), plain()]), "plain");
        assert_eq!(chosen(vec![plain(), cloning()]), "cloning");
        assert_eq!(chosen(vec![plain(), other(), missing()]), "plain");
        assert_eq!(chosen(vec![missing(), emulated(), missing()]), "emulated");
    }

    #[test]
    fn where_none_works_the_first_error_is_told() {
        let error = best(vec![
            Err(DriverError::NotRunning),
            Err(DriverError::Unable {
                kind: DriverKind::ALL[0],
                reason: "it is not there".into(),
            }),
        ]);
        assert_eq!(error.unwrap_err().id(), ErrorId::MachineNotRunning);
    }
}
