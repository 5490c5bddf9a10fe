//! Whether the kubeconfig leads to a cluster.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::entry::List;
use crate::error::KubeconfigError;
use crate::kubeconfig::{Kubeconfig, Parsed};
use coracle_yaml::Node;

/// What the entries of a context have to say.
#[derive(Debug, Clone)]
pub struct Expected {
    /// The API server's address.
    pub server: String,
    /// The authority that signs the server's certificate, PEM.
    pub authority_pem: String,
    /// The client's certificate, PEM; `None` when any will do.
    pub client_certificate_pem: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The context leads to the cluster with its credentials.
    Configured,
    /// The context is there but leads elsewhere or with other credentials.
    Misconfigured,
    /// There is no such context.
    Missing,
}

impl Kubeconfig {
    /// Looks whether the context `name` leads to the cluster that `expected` describes, by
    /// client-go's rule: of entries with the same name that of the first file counts.
    ///
    /// # Errors
    /// [`KubeconfigError`] when a file cannot be read.
    pub fn status(&self, name: &str, expected: &Expected) -> Result<Status, KubeconfigError> {
        let files = self.read()?;
        let Some((_, context)) = find(&files, List::Contexts, name) else {
            return Ok(Status::Missing);
        };
        let referred = |list: List| {
            let name = context?.get(list.item_key())?.text()?;
            let (file, content) = find(&files, list, name)?;
            Some((file, content?))
        };
        let leads = referred(List::Clusters).is_some_and(|(file, cluster)| {
            let server = cluster.get("server").and_then(Node::text);
            let authority = pem(file, cluster, "certificate-authority");
            server == Some(&expected.server) && holds(authority, &expected.authority_pem)
        });
        let known = referred(List::Users).is_some_and(|(file, user)| {
            let certificate = pem(file, user, "client-certificate");
            match &expected.client_certificate_pem {
                Some(expected) => holds(certificate, expected),
                None => certificate.is_some(),
            }
        });
        Ok(if leads && known {
            Status::Configured
        } else {
            Status::Misconfigured
        })
    }
}

/// The first item named `name`: the file that holds it, and its content if it has any.
fn find<'files>(
    files: &'files [Parsed],
    list: List,
    name: &str,
) -> Option<(&'files Path, Option<&'files Node>)> {
    let file = files.iter().find(|file| file.entries.holds(list, name))?;
    Some((&file.loaded.path, file.entries.content(list, name)))
}

/// The PEM text behind `KEY-data`, or in the file that `KEY` names from the kubeconfig's folder.
fn pem(file: &Path, content: &Node, key: &str) -> Option<Vec<u8>> {
    let data = content.get(&format!("{key}-data")).and_then(Node::text);
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let data: String = data.split_whitespace().collect();
        return STANDARD.decode(data).ok();
    }
    let path = content.get(key).and_then(Node::text)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    fs::read(folder.join(path)).ok()
}

fn holds(pem: Option<Vec<u8>>, expected: &str) -> bool {
    pem.is_some_and(|pem| pem.trim_ascii() == expected.trim().as_bytes())
}
