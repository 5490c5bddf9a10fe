//! The cluster's context in the user's kubeconfig.

use super::record::ClusterRecord;
use super::{Cluster, identity, store};
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_kubeconfig::{
    ContextEntry, CurrentContext, Expected, Extension, Identity, Kubeconfig, Status,
};
use coracle_vm::{Entry, MachineLock, MachineName};
use std::time::Duration;

/// How long others may hold client-go's lock. It has neither owner nor age, so it is never taken
/// from anybody.
const LOCK_LIMIT: Duration = Duration::from_secs(15);
/// The extension that marks a context as made by this program.
const EXTENSION: &str = "coracle.dev/context";

/// The context leads to the cluster.
const CONFIGURED: &str = "Configured";
/// There is nothing that a context would lead to.
const NONE: &str = "None";

fn locate(settings: &Settings) -> Result<Kubeconfig> {
    Ok(Kubeconfig::locate(
        settings.kubeconfig.as_deref(),
        &settings.user_home,
        LOCK_LIMIT,
    )?)
}

/// Fails where the kubeconfig cannot be read.
pub fn check(settings: &Settings) -> Result<()> {
    locate(settings)?.contexts()?;
    Ok(())
}

/// Fails early where the kubeconfig could not be edited at the end.
pub async fn check_editable(settings: &Settings) -> Result<()> {
    let kubeconfig = locate(settings)?;
    let name = settings.profile.to_string();
    // Another program's lock is waited for.
    let checked = tokio::task::spawn_blocking(move || kubeconfig.check_editable(&name));
    let checked = checked.await.map_err(|error| {
        Error::caused_by(
            ErrorId::Internal,
            "checking the kubeconfig ended early",
            &error,
        )
    })?;
    Ok(checked?)
}

/// Fails where a context of the cluster's name is somebody else's: one that no earlier start of
/// this cluster wrote, and that does not lead to it.
pub fn check_name(settings: &Settings, cluster: Option<&Cluster>) -> Result<()> {
    let name = &settings.profile;
    let kubeconfig = locate(settings)?;
    let ours = cluster.is_some_and(|cluster| {
        cluster.record().former_kubeconfig.is_some()
            || status(settings, cluster).is_ok_and(|status| status == CONFIGURED)
    });
    if ours
        || !kubeconfig
            .contexts()?
            .iter()
            .any(|context| context == name.as_str())
    {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::ContextTaken,
        format!("the kubeconfig has a context \"{name}\" that leads to another cluster"),
    ))
}

/// Writes the context of a cluster and keeps with the cluster what stood there before. Says
/// whether it is the current context now.
pub async fn write(
    settings: &Settings,
    lock: &MachineLock,
    name: &MachineName,
    keep_context: bool,
) -> Result<bool> {
    let cluster = Cluster::new(settings, store(settings).get(name)?)?;
    cluster.kubernetes()?;
    let current = if keep_context {
        CurrentContext::Keep
    } else {
        CurrentContext::Switch
    };
    let kubeconfig = locate(settings)?;
    let entry = entry(&cluster)?;
    let former = cluster.record().former_kubeconfig.clone();
    let change = tokio::task::spawn_blocking({
        let kubeconfig = kubeconfig.clone();
        move || kubeconfig.set_context(&entry, current, former.as_ref())
    });
    let change = change.await.map_err(|error| {
        Error::caused_by(
            ErrorId::Internal,
            "writing the kubeconfig ended early",
            &error,
        )
    })??;
    if cluster.record().former_kubeconfig.as_ref() != Some(&change.former) {
        super::update(settings, lock, name, |record| {
            record.former_kubeconfig = Some(change.former);
        })?;
    }
    Ok(kubeconfig.current_context()?.as_deref() == Some(name.as_str()))
}

fn entry(cluster: &Cluster) -> Result<ContextEntry> {
    let files = cluster.identity_files();
    let identity = if cluster.record().spec.embed_certs {
        Identity::Embedded {
            authority_pem: identity::read(&files.cluster_ca())?,
            client_certificate_pem: identity::read(&files.admin())?,
            client_key_pem: identity::read(&files.admin_key())?,
        }
    } else {
        Identity::Files {
            authority: files.cluster_ca(),
            client_certificate: files.admin(),
            client_key: files.admin_key(),
        }
    };
    Ok(ContextEntry {
        name: cluster.dir().name().to_string(),
        server: cluster.endpoint().server(),
        identity,
        namespace: None,
        extensions: vec![Extension {
            name: EXTENSION.into(),
            fields: vec![
                ("provider".into(), "coracle.dev".into()),
                ("version".into(), env!("CARGO_PKG_VERSION").into()),
            ],
        }],
    })
}

/// Writes the context anew, as a start does at its end.
pub async fn update_context(settings: &Settings, keep_context: bool) -> Result<bool> {
    let name = &settings.profile;
    let lock = super::lock(settings, name, "coracle update-context", super::LOCK_LIMIT).await?;
    write(settings, &lock, name, keep_context).await
}

/// Takes the cluster's entries out again and brings back what they replaced.
pub fn remove(settings: &Settings, name: &MachineName, entry: &Entry) -> Result<()> {
    let kubeconfig = locate(settings)?;
    let record = match entry {
        Entry::Whole(machine) => ClusterRecord::decode(&machine.cluster).ok(),
        Entry::Broken { .. } => None,
    };
    match record.and_then(|record| record.former_kubeconfig) {
        Some(former) => kubeconfig.remove_context(name.as_str(), Some(&former))?,
        // A start that was cut off just before it kept what stood there.
        None if leads_to_us(settings, &kubeconfig, entry)? => {
            kubeconfig.remove_context(name.as_str(), None)?
        }
        None => return Ok(()),
    };
    Ok(())
}

fn leads_to_us(settings: &Settings, kubeconfig: &Kubeconfig, entry: &Entry) -> Result<bool> {
    let Entry::Whole(machine) = entry else {
        return Ok(false);
    };
    let Ok(cluster) = Cluster::new(settings, (**machine).clone()) else {
        return Ok(false);
    };
    let Ok(expected) = expected(&cluster) else {
        return Ok(false);
    };
    Ok(kubeconfig.status(cluster.dir().name().as_str(), &expected)? == Status::Configured)
}

/// What its context would be, if it has one.
fn expected(cluster: &Cluster) -> Result<Expected> {
    cluster.kubernetes()?;
    let files = cluster.identity_files();
    Ok(Expected {
        server: cluster.endpoint().server(),
        authority_pem: identity::read(&files.cluster_ca())?,
        client_certificate_pem: Some(identity::read(&files.admin())?),
    })
}

/// Whether the context leads to the cluster: Configured, Misconfigured or Missing; None where it has none.
pub fn status(settings: &Settings, cluster: &Cluster) -> Result<&'static str> {
    if !cluster.record().spec.has_kubernetes() {
        return Ok(NONE);
    }
    let found = locate(settings)?.status(cluster.dir().name().as_str(), &expected(cluster)?)?;
    Ok(match found {
        Status::Configured => CONFIGURED,
        Status::Misconfigured => "Misconfigured",
        Status::Missing => "Missing",
    })
}

/// Whether the context leads to the cluster.
pub fn is_written(settings: &Settings, cluster: &Cluster) -> Result<bool> {
    Ok(cluster.record().former_kubeconfig.is_some() && status(settings, cluster)? == CONFIGURED)
}

/// Whether the current context is the profile's.
pub fn is_current(settings: &Settings) -> Result<bool> {
    Ok(locate(settings)?.current_context()?.as_deref() == Some(settings.profile.as_str()))
}
