//! What the machine's Docker engine does with images: build, pull, push, name, remove.

use super::super::App;
use crate::cluster::Cluster;
use crate::docker::api::{self, Engine};
use crate::docker::build::{self, Build, Context};
use crate::docker::registry;
use crate::error::{Error, ErrorId, Result};
use crate::progress::mebibytes;
use coracle_protocol::image_name::ImageName;
use futures::StreamExt as _;
use http::Method;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct BuildArgs {
    /// The folder to build from; - is a tar archive on standard input, a URL is fetched by the machine
    context: String,
    /// A name for the image; may be repeated
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// The Dockerfile, if it is not the folder's
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A build argument; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// A label of the image; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Build all steps anew
    #[arg(long)]
    no_cache: bool,
    /// Ask registries for newer base images
    #[arg(long)]
    pull: bool,
}

impl BuildArgs {
    pub(super) async fn run(self, app: &App) -> Result<()> {
        let what = Build {
            tags: self.tag,
            file: self.file,
            arguments: self.build_arg,
            labels: self.label,
            target: self.target,
            no_cache: self.no_cache,
            pull: self.pull,
        };
        let engine = engine(app).await?;
        app.progress.step("build", "Building the image", 1, 1);
        let context = Context::parse(&self.context);
        let id = build::build(&engine, &what, context, &app.progress).await?;
        app.progress.finish_step();
        for tag in &what.tags {
            app.progress
                .info(&format!("{tag} is built, and pods can run it"));
        }
        crate::print::line(id);
        Ok(())
    }
}

async fn engine(app: &App) -> Result<Engine> {
    let cluster = Cluster::find(&app.settings)?;
    cluster.require_running().await?;
    Engine::of(&cluster)
}

pub(super) async fn remove(app: &App, images: &[String], force: bool) -> Result<()> {
    let engine = engine(app).await?;
    for image in images {
        let path = format!("/images/{}?force={force}", api::in_path(image));
        let parts = engine.json(Method::DELETE, &path).await?;
        print_removed(&parts);
    }
    Ok(())
}

/// `Untagged: NAME` and `Deleted: ID`, as docker says it.
fn print_removed(parts: &Value) {
    for part in parts.as_array().into_iter().flatten() {
        for what in ["Untagged", "Deleted"] {
            if let Some(name) = part[what].as_str() {
                crate::print::line(format!("{what}: {name}"));
            }
        }
    }
}

pub async fn pull(app: &App, image: &str) -> Result<()> {
    let name = ImageName::of(image);
    let query = api::query([
        ("fromImage", name.repository().to_owned()),
        ("tag", name.version().to_owned()),
    ]);
    let path = format!("/images/create?{query}");
    transfer(app, image, &path, "Pulling").await?;
    crate::print::line(image);
    Ok(())
}

pub(super) async fn push(app: &App, image: &str) -> Result<()> {
    let name = ImageName::of(image);
    let query = api::query([("tag", name.version().to_owned())]);
    let path = format!("/images/{}/push?{query}", api::in_path(name.repository()));
    transfer(app, image, &path, "Pushing").await
}

/// Has an image fetched or sent, and shows how that goes.
async fn transfer(app: &App, image: &str, path: &str, doing: &str) -> Result<()> {
    let engine = engine(app).await?;
    let header = registry::header(&app.settings, image).await?;
    app.progress
        .step("transfer", &format!("{doing} {image}"), 1, 1);
    let headers = [("x-registry-auth", header)];
    let answer = engine
        .send(Method::POST, path, &headers, api::empty())
        .await?;
    let mut messages = api::messages(answer);
    let mut shown = String::new();
    let meter = app.progress.meter();
    let mut layers = Layers::default();
    while let Some(message) = messages.next().await {
        let message = message?;
        if let Some((passed, total)) = layers.take(&message) {
            meter.show(passed, Some(total));
            continue;
        }
        let line = transferred(&message);
        if line != shown && !line.is_empty() {
            app.progress.detail(&line);
            shown = line;
        }
    }
    app.progress.finish_step();
    Ok(())
}

/// How far the layers of a transfer are, in bytes.
#[derive(Default)]
struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    /// What is there of all of them, and how much they are, where a message tells of one.
    fn take(&mut self, message: &Value) -> Option<(u64, u64)> {
        let detail = &message["progressDetail"];
        let (current, total) = (detail["current"].as_u64()?, detail["total"].as_u64()?);
        let layer = message["id"].as_str()?.to_owned();
        self.0.insert(layer, (current, total));
        let sum = |(all, whole), (current, total): &(u64, u64)| (all + current, whole + total);
        Some(self.0.values().fold((0, 0), sum))
    }
}

/// One line of how a transfer goes: each layer's when it begins and ends.
fn transferred(message: &Value) -> String {
    let status = message["status"].as_str().unwrap_or_default();
    match (
        message["id"].as_str(),
        &message["progressDetail"]["current"],
    ) {
        // What is on its way changes every moment.
        (Some(_), Value::Number(_)) => String::new(),
        (Some(id), _) => format!("{id}: {status}"),
        (None, _) => status.to_owned(),
    }
}

pub(super) async fn tag(app: &App, image: &str, name: &str) -> Result<()> {
    if name.contains('@') {
        let message = format!("{name:?} is a digest, which nobody can give");
        return Err(Error::new(ErrorId::Usage, message).help("write NAME:TAG"));
    }
    let name = ImageName::of(name);
    let query = api::query([
        ("repo", name.repository().to_owned()),
        ("tag", name.version().to_owned()),
    ]);
    let path = format!("/images/{}/tag?{query}", api::in_path(image));
    engine(app).await?.json(Method::POST, &path).await.map(drop)
}

pub(super) async fn prune(app: &App, all: bool) -> Result<()> {
    let filters = serde_json::json!({ "dangling": [(!all).to_string()] });
    let query = api::query([("filters", filters.to_string())]);
    let path = format!("/images/prune?{query}");
    let removed = engine(app).await?.json(Method::POST, &path).await?;
    print_removed(&removed["ImagesDeleted"]);
    let freed = removed["SpaceReclaimed"].as_u64().unwrap_or(0);
    app.progress
        .info(&format!("{} are free again", mebibytes(freed)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_layers_of_a_transfer_are_added_up() {
        let mut layers = Layers::default();
        let mut take = |id: &str, current: u64, total: u64| {
            let detail = json!({"current": current, "total": total});
            layers.take(&json!({"id": id, "progressDetail": detail}))
        };
        assert_eq!(take("ab", 1, 10), Some((1, 10)));
        assert_eq!(take("cd", 5, 20), Some((6, 30)));
        assert_eq!(take("ab", 10, 10), Some((15, 30)));
        assert_eq!(
            layers.take(&json!({"id": "ab", "progressDetail": {}})),
            None
        );
    }

    #[test]
    fn a_transfer_is_told_by_what_begins_and_ends() {
        let message = json!({"status": "Pull complete", "id": "ab", "progressDetail": {}});
        assert_eq!(transferred(&message), "ab: Pull complete");
        let message =
            json!({"status": "Downloading", "id": "ab", "progressDetail": {"current": 1}});
        assert_eq!(transferred(&message), "");
        assert_eq!(transferred(&json!({"status": "Digest: x"})), "Digest: x");
    }
}
