//! A pod while its parts come together.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Container, PodSecurityContext, PodSpec, PodTemplateSpec, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fault::Result;
use crate::names;

/// The pod of a service.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    /// What is of the pod as a whole.
    pub(crate) spec: PodSpec,
    /// Its one container.
    pub(crate) container: Container,
    /// What the container may do.
    pub(crate) security: SecurityContext,
    /// What the pod may do.
    pub(crate) pod_security: PodSecurityContext,
    /// Its annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Whether two such pods may not run at once, be it for a moment.
    pub(crate) alone: bool,
    volumes: Vec<Volume>,
    mounts: Vec<VolumeMount>,
}

impl Pod {
    /// The pod of a service of this name.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            spec: PodSpec {
                // Compose sets no variables for other services, and `REDIS_PORT=tcp://...` breaks
                // programs that have a variable of this name.
                enable_service_links: Some(false),
                // Containers of Compose know nothing of the API server.
                automount_service_account_token: Some(false),
                ..PodSpec::default()
            },
            container: Container {
                name: name.to_owned(),
                ..Container::default()
            },
            ..Self::default()
        }
    }

    /// Mounts `volume`, whose name is made here, from a hint. A volume that is there already is
    /// mounted once more, unless it is `own`. A later mount takes the place of an earlier one at the
    /// same path, as in Compose.
    pub(crate) fn mount(&mut self, hint: &str, own: bool, volume: Volume, mut mount: VolumeMount) {
        self.mounts
            .retain(|known| known.mount_path != mount.mount_path);
        let nameless = |known: &Volume| Volume {
            name: String::new(),
            ..known.clone()
        };
        let known = self.volumes.iter().find(|known| nameless(known) == volume);
        mount.name = match known.filter(|_| !own) {
            Some(known) => known.name.clone(),
            None => {
                let name = self.free_name(&names::label(hint));
                self.volumes.push(Volume {
                    name: name.clone(),
                    ..volume
                });
                name
            }
        };
        self.mounts.push(mount);
    }

    fn free_name(&self, hint: &str) -> String {
        let taken = |name: &str| self.volumes.iter().any(|volume| volume.name == name);
        let mut name = hint.to_owned();
        let mut number = 1;
        while taken(&name) {
            number += 1;
            name = format!("{hint}-{number}");
        }
        name
    }

    /// Makes a container that runs before the others of what `fill` puts into it.
    pub(crate) fn before(
        &mut self,
        name: String,
        fill: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let fresh = Container {
            name,
            ..Container::default()
        };
        let container = std::mem::replace(&mut self.container, fresh);
        let security = std::mem::take(&mut self.security);
        let mounts = std::mem::take(&mut self.mounts);
        fill(self)?;
        let mut first = std::mem::replace(&mut self.container, container);
        first.security_context = some_if_set(std::mem::replace(&mut self.security, security));
        let mounts = std::mem::replace(&mut self.mounts, mounts);
        first.volume_mounts = (!mounts.is_empty()).then_some(mounts);
        self.spec
            .init_containers
            .get_or_insert_default()
            .push(first);
        Ok(())
    }

    /// The template of such pods.
    pub(crate) fn template(self, labels: BTreeMap<String, String>) -> PodTemplateSpec {
        let Self {
            mut spec,
            mut container,
            ..
        } = self;
        let mounts = self.mounts;
        let mut volumes = self.volumes;
        let first = spec.init_containers.iter().flatten();
        let first = first.flat_map(|container| container.volume_mounts.iter().flatten());
        let used: BTreeSet<_> = mounts
            .iter()
            .chain(first)
            .map(|mount| &mount.name)
            .collect();
        volumes.retain(|volume| used.contains(&volume.name));
        container.volume_mounts = (!mounts.is_empty()).then_some(mounts);
        container.security_context = some_if_set(self.security);
        spec.volumes = (!volumes.is_empty()).then_some(volumes);
        spec.security_context = some_if_set(self.pod_security);
        spec.containers = vec![container];
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                annotations: (!self.annotations.is_empty()).then_some(self.annotations),
                ..ObjectMeta::default()
            }),
            spec: Some(spec),
        }
    }
}

fn some_if_set<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// `text` so that Kubernetes leaves it as it is: it puts variables in the place of `$(NAME)` and
/// reads `$$` as one sign.
pub(crate) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        literal.push(sign);
        if sign == '$' && matches!(signs.peek(), Some('$' | '(')) {
            literal.push('$');
        }
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::literal;

    /// How the kubelet reads a text, for variables that nobody has set.
    fn expanded(text: &str) -> String {
        let mut read = String::new();
        let mut signs = text.chars().peekable();
        while let Some(sign) = signs.next() {
            if sign == '$' && signs.peek() == Some(&'$') {
                signs.next();
            }
            read.push(sign);
        }
        read
    }

    #[test]
    fn a_text_reaches_its_program_as_it_is_written() {
        for text in [
            "a",
            "$A",
            "$(A)",
            "$$",
            "$$(A)",
            "a$$$b",
            "$",
            "$$$(x",
            "$(date) $$",
        ] {
            assert_eq!(expanded(&literal(text)), text);
        }
        assert_eq!(literal("$(A)"), "$$(A)");
        assert_eq!(literal("$A"), "$A");
    }
}
