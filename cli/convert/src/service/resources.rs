//! How much a container may use, and how much is kept for it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::pod::Pod;
use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;
use crate::units;

/// A resource of a container, in thousandths of a processor or in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resource {
    Cpu,
    Memory,
}

use Resource::{Cpu, Memory};

/// How much of each, and the value that says so.
type Amounts<'n> = BTreeMap<Resource, (i64, At<'n>)>;

impl Resource {
    /// Reads an amount.
    fn amount(self, at: &At<'_>) -> Result<i64> {
        let text = at.text()?;
        match self {
            _ if text.is_empty() => Ok(0),
            Cpu => units::thousandths(text)
                .ok_or_else(|| at.expected("a number of processors, such as 0.5,")),
            Memory => units::bytes(text).ok_or_else(|| at.expected("a size, such as 512m,")),
        }
    }

    fn named(self, amount: i64) -> (String, Quantity) {
        match self {
            Cpu => ("cpu".to_owned(), Quantity(units::processors(amount))),
            Memory => ("memory".to_owned(), Quantity(units::quantity(amount))),
        }
    }
}

/// Puts the resources into the container: those of the service, then those of `deploy`.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let (mut limits, mut requests) = (Amounts::new(), Amounts::new());
    set(at, "cpus", Cpu, &mut limits)?;
    set(at, "mem_limit", Memory, &mut limits)?;
    set(at, "mem_reservation", Memory, &mut requests)?;
    if let Some(resources) = at.get("deploy").and_then(|deploy| deploy.get("resources")) {
        keys::check(&resources, keys::RESOURCES, report)?;
        for (key, amounts) in [("limits", &mut limits), ("reservations", &mut requests)] {
            let Some(written) = resources.get(key) else {
                continue;
            };
            keys::check(&written, keys::AMOUNTS, report)?;
            set(&written, "cpus", Cpu, amounts)?;
            set(&written, "memory", Memory, amounts)?;
        }
    }
    for (resource, (limit, at)) in &limits {
        // Kubernetes would keep as much as the limit says, and run out of it with the first few pods.
        let kept = requests.entry(*resource);
        let (kept, at_kept) = kept.or_insert_with(|| (0, at.clone()));
        if *kept > *limit {
            report.warn(
                at_kept,
                "more is reserved than the limit allows: the limit is reserved",
            );
            *kept = *limit;
        }
    }
    let quantities = |amounts: Amounts<'_>| {
        let named = amounts.into_iter();
        named
            .map(|(resource, (amount, _))| resource.named(amount))
            .collect::<BTreeMap<_, _>>()
    };
    if !(limits.is_empty() && requests.is_empty()) {
        pod.container.resources = Some(ResourceRequirements {
            limits: (!limits.is_empty()).then(|| quantities(limits)),
            requests: Some(quantities(requests)),
            ..ResourceRequirements::default()
        });
    }
    Ok(())
}

/// Sets one amount. Nothing, or zero, is no amount in Compose.
fn set<'n>(at: &At<'n>, key: &str, resource: Resource, amounts: &mut Amounts<'n>) -> Result<()> {
    if let Some(written) = at.get(key) {
        let amount = resource.amount(&written)?;
        if amount != 0 {
            amounts.insert(resource, (amount, written));
        }
    }
    Ok(())
}
