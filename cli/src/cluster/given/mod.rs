//! What the host gives a machine beyond settings and identity, gathered once for each start.
//!
//! ```text
//! HTTP_PROXY, ... --proxy-------+
//! CORACLE_HOME/certs --trusted--+--> Parcel --+--> seed, for a machine that boots
//! CORACLE_HOME/files --files----+             +--> Machine.Give, for one that runs and has another
//! ```
//!
//! What a machine has, it says itself whenever its clock is stepped or it takes an identity, so that a
//! start in which nothing changed asks nothing more. A machine that becomes a template is given nothing:
//! each of its clones is given what holds for itself.

mod files;
mod proxy;
mod trusted;

use super::boot::GUEST_NETWORK;
use super::spec::ClusterSpec;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Progress;
use crate::settings::Settings;
use coracle_protocol::client::{AgentClient, AgentError};
use coracle_protocol::given::Parcel;
use coracle_protocol::seed;
use std::fs::File;
use std::path::Path;

/// Gathers what the host gives a cluster's machine.
///
/// # Errors
/// A proxy that is no URL, a certificate that is none, a file that has no place in a machine.
pub fn gather(settings: &Settings, spec: &ClusterSpec, host_access: bool) -> Result<Parcel> {
    let parcel = Parcel::new(
        proxy::of(&settings.proxy, spec, &GUEST_NETWORK)?,
        trusted::authorities(&settings.home.join("certs"))?,
        files::archive(&settings.home.join("files"))?,
    );
    Ok(parcel.with_host_access(host_access))
}

/// One line about the proxy that a machine uses, if it does.
pub fn said_of_proxy(parcel: &Parcel) -> Option<String> {
    let proxy = parcel.given().proxy.as_ref()?;
    Some(proxy::said(proxy, &GUEST_NETWORK))
}

/// Gives a machine what the host has for it, unless `has` says that it has that already.
pub async fn give(
    agent: &AgentClient,
    has: &str,
    parcel: &Parcel,
    progress: &Progress,
) -> Result<()> {
    if digest(parcel)? == has {
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
