//! Which driver runs a new cluster: the one that was asked for, or the best of those that work here.
//!
//! Hardware is better than software emulation, then what begins with a copy of a running machine, then
//! what can be saved; of equally good ones the first of the list is taken.

use super::image;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::spec::Architecture;
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Driver as _, DriverError, DriverFacts, DriverKind, GuestAddress,
};

/// A driver that works here.
#[derive(Debug)]
pub struct Working {
    /// What it found out about its hypervisor.
    pub facts: DriverFacts,
    rank: Rank,
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

/// What was found out about each driver, in the order of the list.
pub async fn all(settings: &Settings) -> Vec<(DriverKind, Result<Working, DriverError>)> {
    let mut found = Vec::new();
    for &kind in DriverKind::ALL {
        found.push((kind, probe(settings, kind).await));
    }
    found
}

/// The driver for a new cluster.
///
/// # Errors
/// What keeps the one that was asked for from working; where none was asked for and none works, what
/// keeps the first of the list.
pub async fn choose(settings: &Settings, asked: Option<DriverKind>) -> Result<DriverFacts> {
    if let Some(kind) = asked {
        let facts = probe(settings, kind).await?.facts;
        check(&AnyDriver::new(kind, settings.programs())?)?;
        return Ok(facts);
    }
    let mut found = Vec::new();
    for &kind in DriverKind::ALL {
        if !can_be_chosen(settings, kind) {
            continue;
        }
        found.push(probe(settings, kind).await);
        // Looking at the others takes time.
        if let Some(Ok(Working { rank: BEST, .. })) = found.last() {
            break;
        }
    }
    best(found)
}

/// Whether machines of a driver can start with the image that there is. Who asks for one by name hears
/// what is missing.
fn can_be_chosen(settings: &Settings, kind: DriverKind) -> bool {
    let Ok(driver) = AnyDriver::new(kind, settings.programs()) else {
        return false;
    };
    let has_iso = || image::current(settings).is_ok_and(|image| image.iso().is_some());
    check(&driver).is_ok() && (driver.capabilities().boots_kernel || has_iso())
}

/// The machine inside has a fixed address, which it keeps only in a network of its own.
fn check(driver: &AnyDriver) -> Result<(), DriverError> {
    match driver.capabilities().guest_address {
        GuestAddress::Forwarded => Ok(()),
        GuestAddress::Direct => Err(DriverError::Unable {
            kind: driver.kind(),
            reason: "its network gives machines their addresses, and this version's ask for none"
                .to_owned(),
        }),
    }
}

/// The first of the best, or the first error.
fn best(found: Vec<Result<Working, DriverError>>) -> Result<DriverFacts> {
    let best = found.into_iter().reduce(|best, next| match (&best, &next) {
        (Err(_), Ok(_)) => next,
        (Ok(before), Ok(after)) if before.rank < after.rank => next,
        _ => best,
    });
    match best {
        Some(found) => Ok(found?.facts),
        None => Err(Error::new(ErrorId::Internal, "there is no driver")),
    }
}

async fn probe(settings: &Settings, kind: DriverKind) -> Result<Working, DriverError> {
    let driver = AnyDriver::new(kind, settings.programs())?;
    let facts = driver
        .probe(AcceleratorChoice::Auto, Architecture::of_host())
        .await?;
    let capabilities = driver.capabilities();
    Ok(Working {
        rank: Rank {
            is_hardware: facts.verdict.accelerator.is_hardware(),
            can_clone: capabilities.can_clone,
            can_hibernate: capabilities.can_hibernate,
        },
        facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::{Accelerator, Verdict};

    fn working(version: &str, accelerator: Accelerator, can_clone: bool) -> Working {
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
            rank: Rank {
                is_hardware: accelerator.is_hardware(),
                can_clone,
                can_hibernate: true,
            },
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
