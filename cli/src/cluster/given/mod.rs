//! What the host gives a machine beyond settings and identity, gathered once for each start.
//!
//! ```text
//! ClusterRecord: proxy --proxy--+
//! CORACLE_HOME/certs --trusted--+--> Parcel --+--> seed, for a machine that boots
//! CORACLE_HOME/files --files----+             +--> Machine.Give, for one that runs and has another
//! ```
//!
//! The proxy is the environment's at a start that somebody typed; one that nobody did (a cluster that wakes,
//! a login) goes by what the record kept of that. What a machine has, it says itself whenever its clock is stepped or it takes an identity, so that a
//! start in which nothing changed asks nothing more. A machine that becomes a template is given nothing:
//! each of its clones is given what holds for itself.

mod files;
mod proxy;
mod trusted;

use super::boot::GUEST_NETWORK;
use super::record::ClusterRecord;
use super::spec::ClusterSpec;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Progress;
use crate::settings::{ProxyVariables, Settings};
use coracle_protocol::client::{AgentClient, AgentError};
use coracle_protocol::given::Parcel;
use coracle_protocol::seed;
use std::fs::File;
use std::path::Path;

/// What of a cluster decides what its machine is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Its networks and names, which no proxy is for.
    pub spec: ClusterSpec,
    /// Whether pods may connect to the host.
    pub host_access: bool,
    /// The proxy, as the host has it.
    pub proxy: ProxyVariables,
}

impl Terms {
    /// What was kept of a cluster's last start.
    pub fn of(record: &ClusterRecord) -> Self {
        Self {
            spec: record.spec.clone(),
            host_access: record.host_access,
            proxy: record.proxy.clone(),
        }
    }

    /// The same for a start that somebody types, with the proxy of their environment.
    pub fn typed(record: &ClusterRecord, settings: &Settings) -> Self {
        Self {
            proxy: settings.proxy.clone(),
            ..Self::of(record)
        }
    }
}

/// Gathers what the host gives a cluster's machine.
///
/// # Errors
/// A proxy that is no URL, a certificate that is none, a file that has no place in a machine.
pub fn gather(settings: &Settings, terms: &Terms) -> Result<Parcel> {
    let parcel = Parcel::new(
        proxy::of(&terms.proxy, &terms.spec, &GUEST_NETWORK)?,
        authorities(settings)?,
        files::archive(&settings.home.join("files"))?,
    );
    Ok(parcel.with_host_access(terms.host_access))
}

/// The authorities of the user's own, as PEM.
///
/// # Errors
/// A certificate that is none.
pub fn authorities(settings: &Settings) -> Result<Vec<String>> {
    trusted::authorities(&settings.home.join("certs"))
}

/// Whether the proxy of the environment is one.
///
/// # Errors
/// It is no URL of one: the variable is named.
pub fn check_proxy(variables: &ProxyVariables) -> Result<()> {
    proxy::check(variables)
}

/// One line about the proxy that a machine uses, if it does.
pub fn said_of_proxy(parcel: &Parcel) -> Option<String> {
    let proxy = parcel.given().proxy.as_ref()?;
    Some(proxy::said(proxy, &GUEST_NETWORK))
}

/// Whether that is what a machine has, which says so by a digest.
pub fn is_had(parcel: &Parcel, has: &str) -> Result<bool> {
    Ok(digest(parcel)? == has)
}

/// Gives a machine what the host has for it, unless `has` says that it has that already.
pub async fn give(
    agent: &AgentClient,
    has: &str,
    parcel: &Parcel,
    progress: &Progress,
) -> Result<()> {
    if is_had(parcel, has)? {
        return Ok(());
    }
    match agent.give(parcel).await {
        Err(AgentError::Unknown) => {
            progress.warning(
                "the machine's image is older than this version: it takes neither a proxy nor \
                 certificates nor files; a new cluster does",
            );
            Ok(())
        }
        Err(error) => Err(Error::caused_by(
            ErrorId::Guest,
            "the machine cannot take what the host gives it",
            &error,
        )),
        Ok(()) => Ok(()),
    }
}

/// Whether a seed disk gives this very thing. One that cannot be read does not.
pub fn is_in_seed(disk: &Path, parcel: &Parcel) -> bool {
    let read = || {
        let mut disk = File::open(disk).ok()?;
        seed::enter(&mut disk).ok()?;
        seed::decode(&mut disk).ok()?;
        seed::decode_given(&mut disk).ok()
    };
    read().is_some_and(|given| given == *parcel.given())
}

fn digest(parcel: &Parcel) -> Result<String> {
    parcel.given().digest().context(ErrorId::Internal, || {
        "cannot write what the host gives".into()
    })
}
