//! `image`, `build` and `pull_policy`.

use super::pod::Pod;
use crate::convert::{Build, Member, Project};
use crate::fault::Result;

/// Puts the image into the container.
pub(super) fn put(member: &Member<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    let at = &member.at;
    let build = at.get("build");
    // Without a policy Kubernetes pulls `:latest` each time; Compose pulls what is missing.
    let mut policy = "IfNotPresent";
    let written = at.get("image").map(|image| image.text()).transpose()?;
    let image = match (written.filter(|image| !image.is_empty()), &build) {
        (Some(image), _) => image.to_owned(),
        (None, Some(_)) => {
            // Nobody else's image of this name is meant.
            policy = "Never";
            format!("{}-{}", project.name, member.key)
        }
        (None, None) => return Err(at.fault("a service has an `image` or a `build`")),
    };
    if let Some(build) = build {
        let message = format!(
            "{image} has to be built where pods find it: `docker compose build`, with the docker \
             command led to the cluster's engine"
        );
        project.report.warn(&build, message);
        if !project.builds.iter().any(|known| known.image == image) {
            project.builds.push(Build {
                service: member.key.to_owned(),
                image: image.clone(),
                line: build.line,
            });
        }
    }
    if let Some(wanted) = at.get("pull_policy") {
        match wanted.text()? {
            "always" => policy = "Always",
            "never" => policy = "Never",
            "missing" | "if_not_present" | "build" | "" => {}
            text if matches!(text, "daily" | "weekly" | "refresh")
                || text.starts_with("every_") =>
            {
                policy = "Always";
                let message = "the image is pulled each time that a pod starts";
                project.report.warn(&wanted, message);
            }
            _ => return Err(wanted.expected("always, never, missing, build, daily or weekly")),
        }
    }
    pod.container.image = Some(image);
    pod.container.image_pull_policy = Some(policy.to_owned());
    Ok(())
}
