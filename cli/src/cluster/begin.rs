//! From a machine that is made to one that runs, whichever way it is to begin: cold, as a template in
//! the making, as a clone, or from where it was saved; and to its own identity.

use super::bring_up::Run;
use super::steps::Step;
use super::template::{self, Beginning};
use super::{Cluster, boot, ready};
use crate::error::{ErrorId, Result};
use coracle_vm::{Origin, Saved, Saves, Template};
use std::time::Instant;

impl Run<'_> {
    /// Boots, clones or resumes, whichever it is to begin with. The cluster that comes back may still have a
    /// passing identity.
    pub async fn begin(&self, cluster: Cluster, beginning: Beginning) -> Result<Cluster> {
        match beginning {
            Beginning::Cold => self
                .bring_up(&cluster, &Origin::Boot)
                .await
                .map(|_| cluster),
            Beginning::Clone(template) => self.go_on_from(cluster, &template).await,
            Beginning::Saved(saved) => self.wake(cluster, saved).await,
            Beginning::Bake(key, facts) => {
                let agent = self.bring_up(&cluster, &Origin::Boot).await?;
                self.steps.begin(Step::Template).await?;
                let settings = &self.app.settings;
                let baked =
                    template::bake(settings, self.lock, &cluster, &agent, &key, facts).await;
                drop(agent);
                match baked {
                    Ok(template) => {
                        let cluster = Cluster::find(settings)?;
                        // As for any other clone of it.
                        let clone = Beginning::Clone(Box::new(template.clone()));
                        boot::prepare(&cluster, &clone, self.parcel).await?;
                        self.go_on_from(cluster, &template).await
                    }
                    Err(error) => {
                        self.app.progress.warning(&format!(
                            "no template was made, later starts are cold: {}",
                            error.message()
                        ));
                        self.go_on_without(Cluster::find(settings)?).await
                    }
                }
            }
        }
    }

    /// Clones; where that fails, boots the same disk cold and remembers not to try again.
    async fn go_on_from(&self, cluster: Cluster, template: &Template) -> Result<Cluster> {
        self.steps.begin(Step::Boot).await?;
        let settings = &self.app.settings;
        let origin = Origin::Template(template.files());
        match self.restore(&cluster, &origin).await {
            Ok(()) => Ok(cluster),
            Err(error) if error.id() == ErrorId::Template => {
                let reason = error.causes().join("; ");
                // One that was removed in between is nobody's fault.
                if template.files().ram.exists() {
                    template::templates(settings).refuse(&template.key, &reason)?;
                    self.app.progress.warning(&format!(
                        "booting cold, now and from now on: {} ({reason})",
                        error.message()
                    ));
                }
                self.cold(cluster).await
            }
            Err(error) => Err(error),
        }
    }

    /// Restores, and once more where that fails: what only happened to be in the way costs nobody what
    /// was saved.
    async fn restore(&self, cluster: &Cluster, origin: &Origin) -> Result<()> {
        let Err(error) = boot::power_on(self.app, cluster, origin).await else {
            return Ok(());
        };
        if error.id() != ErrorId::Template {
            return Err(error);
        }
        tracing::debug!(error = error.message(), "restoring once more");
        match boot::power_on(self.app, cluster, origin).await {
            Err(again) if again.id() == ErrorId::Template => Err(error),
            done => done,
        }
    }

    /// Goes on from where the cluster was saved; where that fails, boots the same disk cold.
    async fn wake(&self, cluster: Cluster, saved: Box<Saved>) -> Result<Cluster> {
        self.steps.begin(Step::Boot).await?;
        let settings = &self.app.settings;
        match self.restore(&cluster, &Origin::Saved(saved)).await {
            Ok(()) => {}
            Err(error) if error.id() == ErrorId::Template => {
                Saves::new(cluster.dir()).discard()?;
                let said = error.joined("; ");
                self.app.progress.warning(&format!("booting cold: {said}"));
                return self.cold(cluster).await;
            }
            Err(error) => return Err(error),
        }
        if cluster.passing_identity().exists() {
            // It was saved of another cluster: first its own identity, then anything else.
            return Ok(cluster);
        }
        self.steps.begin(Step::Agent).await?;
        let deadline = Instant::now() + self.options.wait_limit;
        let identity = cluster.present_identity();
        let (agent, has) =
            boot::agent(settings, &cluster, &identity, self.options.wait_limit).await?;
        self.give(&agent, &has).await?;
        if cluster.record().spec.has_kubernetes() {
            self.steps.begin(Step::Api).await?;
            let client = cluster.api()?;
            ready::rows(&client, ready::API, "", deadline, self.steps.progress()).await?;
        }
        Ok(cluster)
    }

    /// Goes on with a machine that could not be baked. Its disk has the size of a template's, and grows
    /// with the next launch.
    async fn go_on_without(&self, cluster: Cluster) -> Result<Cluster> {
        boot::switch_off(&cluster).await?;
        let settings = &self.app.settings;
        let store = super::store(settings);
        let mut machine = store.get(cluster.dir().name())?;
        template::resize(&mut machine.spec, cluster.record().spec.disk_size);
        store.save(self.lock, &machine)?;
        self.cold(Cluster::find(settings)?).await
    }

    async fn cold(&self, cluster: Cluster) -> Result<Cluster> {
        boot::prepare(&cluster, &Beginning::Cold, self.parcel).await?;
        self.bring_up(&cluster, &Origin::Boot).await?;
        Ok(cluster)
    }

    /// Gives the machine its own identity, and waits until the API answers to it.
    pub async fn rekey(&self, cluster: &Cluster) -> Result<()> {
        self.steps.begin(Step::Rekey).await?;
        let deadline = Instant::now() + self.options.wait_limit;
        // Made while the machine wakes up anyway.
        let client = match cluster.record().spec.has_kubernetes() {
            true => Some(cluster.own_api()?),
            false => None,
        };
        let (agent, has) =
            template::rekey(&self.app.settings, cluster, self.options.wait_limit).await?;
        self.give(&agent, &has).await?;
        match client {
            Some(client) => {
                ready::rows(&client, ready::API, "", deadline, self.steps.progress()).await
            }
            None => Ok(()),
        }
    }
}
