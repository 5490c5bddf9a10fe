//! What the machine's Docker engine does with images: build, pull, push, name, remove.

use super::super::App;
use super::mebibytes;
use crate::cluster::Cluster;
use crate::docker::api::{self, Engine};
use crate::docker::build::{self, Build, Context};
use crate::docker::registry;
use crate::error::{Error, ErrorId, Result};
use futures::StreamExt as _;
use http::Method;
use serde_json::Value;
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

/// An image's name and its tag or digest; docker's `latest` where it has neither.
fn name_and_tag(image: &str) -> (&str, &str) {
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        // The colon of a registry's port comes before a slash.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (rest, "latest"),
    };
    (name, digest.unwrap_or(tag))
}

pub async fn pull(app: &App, image: &str) -> Result<()> {
    let (name, tag) = name_and_tag(image);
    let query = api::query([("fromImage", name.to_owned()), ("tag", tag.to_owned())]);
    let path = format!("/images/create?{query}");
    transfer(app, image, &path, "Pulling").await?;
    crate::print::line(image);
    Ok(())
}

pub(super) async fn push(app: &App, image: &str) -> Result<()> {
    let (name, tag) = name_and_tag(image);
    let query = api::query([("tag", tag.to_owned())]);
    let path = format!("/images/{}/push?{query}", api::in_path(name));
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
    while let Some(message) = messages.next().await {
        let message = message?;
        let line = transferred(&message);
        if line != shown && !line.is_empty() {
            app.progress.detail(&line);
            shown = line;
        }
    }
    app.progress.finish_step();
    Ok(())
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
    let (repository, tag) = name_and_tag(name);
    let query = api::query([("repo", repository.to_owned()), ("tag", tag.to_owned())]);
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
    fn names_end_where_tags_and_digests_begin() {
        for (image, parts) in [
            ("app", ("app", "latest")),
            ("app:1", ("app", "1")),
            ("a.example:5000/app", ("a.example:5000/app", "latest")),
            ("a.example:5000/app:2", ("a.example:5000/app", "2")),
            ("app@sha256:ab", ("app", "sha256:ab")),
            ("app:1@sha256:ab", ("app", "sha256:ab")),
        ] {
            assert_eq!(name_and_tag(image), parts, "{image}");
        }
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
