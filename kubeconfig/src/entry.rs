//! What a cluster wants to have in a kubeconfig: its context, with the cluster and the user of
//! the same name that the context refers to.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use coracle_yaml::Value;

/// A context and all that it refers to. Context, cluster and user bear the same name.
#[derive(Debug, Clone)]
pub struct ContextEntry {
    /// The name of context, cluster and user.
    pub name: String,
    /// The API server's address, such as `https://127.88.0.1:6443`.
    pub server: String,
    /// How the server and the user prove who they are.
    pub identity: Identity,
    /// The context's namespace. `None` leaves the one that the user may have set.
    pub namespace: Option<String>,
    /// Extensions of the cluster and of the context, such as who made them.
    pub extensions: Vec<Extension>,
}

/// The authority and the client credentials of a context.
#[derive(Clone)]
pub enum Identity {
    /// Written into the kubeconfig itself.
    Embedded {
        /// The authority that signs the server's certificate, PEM.
        authority_pem: String,
        /// The client's certificate, PEM.
        client_certificate_pem: String,
        /// The client's private key, PEM.
        client_key_pem: String,
    },
    /// Kept in files that the kubeconfig names; the paths are to be absolute.
    Files {
        /// The file of the authority that signs the server's certificate.
        authority: PathBuf,
        /// The file of the client's certificate.
        client_certificate: PathBuf,
        /// The file of the client's private key.
        client_key: PathBuf,
    },
}

/// A named extension of text fields. client-go keeps what it does not know there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name in the list of extensions.
    pub name: String,
    /// Its fields in the order in which they are written.
    pub fields: Vec<(String, String)>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded { .. } => formatter.debug_struct("Embedded").finish_non_exhaustive(),
            Self::Files { authority, .. } => formatter
                .debug_struct("Files")
                .field("authority", authority)
                .finish_non_exhaustive(),
        }
    }
}

/// One of the three lists of a kubeconfig whose items bear names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Clusters,
    Contexts,
    Users,
}

impl List {
    /// All of them, in the order in which kubectl writes them.
    pub(crate) const ALL: [Self; 3] = [Self::Clusters, Self::Contexts, Self::Users];

    /// Its key in the file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Clusters => "clusters",
            Self::Contexts => "contexts",
            Self::Users => "users",
        }
    }

    /// The key of an item's content.
    pub(crate) fn item_key(self) -> &'static str {
        match self {
            Self::Clusters => "cluster",
            Self::Contexts => "context",
            Self::Users => "user",
        }
    }

    /// The list whose key is `key`.
    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|list| list.key() == key)
    }
}

/// What an item of a list is to hold.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Fields that have to have these values.
    pub(crate) fields: Vec<(&'static str, Value)>,
    /// Fields that contradict them and have to go.
    pub(crate) unwanted: &'static [&'static str],
    /// Extensions by name, each a mapping.
    pub(crate) extensions: Vec<(String, Value)>,
}

impl Wanted {
    /// A whole new item with the name `name`.
    pub(crate) fn item(&self, list: List, name: &str) -> Value {
        let mut content = self.fields.clone();
        if !self.extensions.is_empty() {
            let extensions = self.extensions.iter();
            let items = extensions.map(|(name, value)| extension_item(name, value));
            content.push(("extensions", Value::List(items.collect())));
            content.sort_by_key(|(key, _)| *key);
        }
        let content = (list.item_key(), Value::map(content));
        let name = ("name", Value::text(name));
        // The order of kubectl, which sorts by key.
        Value::map(match list {
            List::Users => [name, content],
            List::Clusters | List::Contexts => [content, name],
        })
    }
}

/// An item of a list of extensions.
pub(crate) fn extension_item(name: &str, value: &Value) -> Value {
    Value::map([("extension", value.clone()), ("name", Value::text(name))])
}

impl ContextEntry {
    /// What the item of `list` is to hold.
    pub(crate) fn wanted(&self, list: List) -> Wanted {
        let extensions = self.extensions.iter().map(|extension| {
            let fields = extension.fields.iter();
            let fields = fields.map(|(key, value)| (key.clone(), Value::text(value)));
            (extension.name.clone(), Value::Map(fields.collect()))
        });
        match list {
            List::Clusters => Wanted {
                fields: self.cluster_fields(),
                unwanted: match self.identity {
                    Identity::Embedded { .. } => &[
                        "certificate-authority",
                        "insecure-skip-tls-verify",
                        "tls-server-name",
                        "proxy-url",
                    ],
                    Identity::Files { .. } => &[
                        "certificate-authority-data",
                        "insecure-skip-tls-verify",
                        "tls-server-name",
                        "proxy-url",
                    ],
                },
                extensions: extensions.collect(),
            },
            List::Contexts => {
                let mut fields = vec![("cluster", Value::text(&self.name))];
                if let Some(namespace) = &self.namespace {
                    fields.push(("namespace", Value::text(namespace)));
                }
                fields.push(("user", Value::text(&self.name)));
                Wanted {
                    fields,
                    unwanted: &[],
                    extensions: extensions.collect(),
                }
            }
            List::Users => Wanted {
                fields: self.user_fields(),
                unwanted: match self.identity {
                    Identity::Embedded { .. } => &[
                        "client-certificate",
                        "client-key",
                        "token",
                        "tokenFile",
                        "username",
                        "password",
                        "auth-provider",
                        "exec",
                    ],
                    Identity::Files { .. } => &[
                        "client-certificate-data",
                        "client-key-data",
                        "token",
                        "tokenFile",
                        "username",
                        "password",
                        "auth-provider",
                        "exec",
                    ],
                },
                extensions: Vec::new(),
            },
        }
    }

    fn cluster_fields(&self) -> Vec<(&'static str, Value)> {
        let authority = match &self.identity {
            Identity::Embedded { authority_pem, .. } => {
                ("certificate-authority-data", encoded(authority_pem))
            }
            Identity::Files { authority, .. } => ("certificate-authority", path(authority)),
        };
        vec![authority, ("server", Value::text(&self.server))]
    }

    fn user_fields(&self) -> Vec<(&'static str, Value)> {
        match &self.identity {
            Identity::Embedded {
                client_certificate_pem,
                client_key_pem,
                ..
            } => vec![
                ("client-certificate-data", encoded(client_certificate_pem)),
                ("client-key-data", encoded(client_key_pem)),
            ],
            Identity::Files {
                client_certificate,
                client_key,
                ..
            } => vec![
                ("client-certificate", path(client_certificate)),
                ("client-key", path(client_key)),
            ],
        }
    }
}

fn encoded(pem: &str) -> Value {
    Value::Text(STANDARD.encode(pem))
}

fn path(path: &std::path::Path) -> Value {
    Value::Text(path.to_string_lossy().into_owned())
}
