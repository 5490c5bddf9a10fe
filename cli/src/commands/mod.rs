//! The subcommands, one file each; the doc comment of its `Args` is its help.

mod autostart;
mod cache;
mod clone;
mod completion;
mod config;
mod convert;
mod cp;
mod delete;
mod docker_context;
mod docker_env;
mod doctor;
mod host_agent;
mod image;
mod image_build;
mod image_export;
mod ip;
pub mod kubectl;
mod list;
mod logs;
mod mount;
mod options;
mod package_files;
mod pause;
mod profile;
mod run;
mod service;
mod snapshot;
mod ssh;
mod start;
mod status;
mod stop;
mod template;
mod tunnel;
mod update_context;
mod version;

use crate::cluster::Cluster;
use crate::error::Result;
use crate::progress::Progress;
use crate::settings::{GlobalOptions, Settings};

/// A real, single-node Kubernetes in a lightweight VM, from one command.
#[derive(Debug, clap::Parser)]
#[command(
    name = "coracle",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Start with `coracle start`; then kubectl works. CORACLE_HOME moves all state to another folder."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalOptions,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command gets.
#[derive(Debug)]
pub struct App {
    pub settings: Settings,
    pub progress: Progress,
}

macro_rules! commands {
    ($($(#[$attribute:meta])* $variant:ident($module:ident::$args:ident),)*) => {
        #[derive(Debug, clap::Subcommand)]
        // One value a process: its size does not matter.
        #[allow(clippy::large_enum_variant)]
        pub enum Command {
            $($(#[$attribute])* $variant($module::$args),)*
        }

        impl Command {
            /// Runs the command; the number is the process's exit code.
            pub async fn run(self, app: &App) -> Result<u8> {
                host_agent_is_there(&self, app).await?;
                match self {
                    $(Self::$variant(args) => Box::pin(args.run(app)).await,)*
                }
            }
        }
    };
}

commands! {
    #[command(visible_alias = "create")]
    Start(start::Args),
    Stop(stop::Args),
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    Run(run::Args),
    Clone(clone::Args),
    Snapshot(snapshot::Args),
    Pause(pause::PauseArgs),
    Unpause(pause::UnpauseArgs),
    Status(status::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Profile(profile::Args),
    UpdateContext(update_context::Args),
    Ip(ip::Args),
    Ssh(ssh::Args),
    SshKey(ssh::KeyArgs),
    SshHost(ssh::HostArgs),
    Cp(cp::Args),
    Mount(mount::Args),
    Service(service::Args),
    Tunnel(tunnel::Args),
    Kubectl(kubectl::Args),
    #[command(visible_alias = "env")]
    DockerEnv(docker_env::Args),
    DockerContext(docker_context::Args),
    Logs(logs::Args),
    Image(image::Args),
    Cache(cache::Args),
    Convert(convert::Args),
    Template(template::Args),
    Autostart(autostart::Args),
    Config(config::Args),
    Completion(completion::Args),
    Version(version::Args),
    Options(options::Args),
    Doctor(doctor::Args),
    ImageBuild(image_build::Args),
    #[command(hide = true)]
    ImageExport(image_export::Args),
    #[command(hide = true)]
    PackageFiles(package_files::Args),
    #[command(hide = true)]
    HostAgent(host_agent::Args),
}

/// Brings back a host agent that is gone and should not be, and wakes a cluster that sleeps where only a
/// machine that runs can do what is asked.
async fn host_agent_is_there(command: &Command, app: &App) -> Result<()> {
    if !command.acts_on_a_cluster() {
        return Ok(());
    }
    // What is wrong with it the command itself says.
    let Ok(cluster) = Cluster::find(&app.settings) else {
        return Ok(());
    };
    if let Err(error) = crate::host_agent::ensure(&app.settings, &cluster).await {
        app.progress.warning(&format!(
            "the cluster's ports may be closed: {}",
            error.message()
        ));
    }
    if command.needs_the_machine() {
        crate::host_agent::wake(&cluster).await?;
    }
    Ok(())
}

impl Command {
    /// Whether it acts on the current profile's cluster without changing whether it runs.
    fn acts_on_a_cluster(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::Ip(_)
                | Self::Mount(_)
                | Self::Kubectl(_)
                | Self::Ssh(_)
                | Self::DockerEnv(_)
                | Self::DockerContext(_)
        ) || self.needs_the_machine()
    }

    /// Whether a cluster that sleeps has to be woken for it. kubectl and ssh connect to ports that do so.
    fn needs_the_machine(&self) -> bool {
        match self {
            Self::Cp(_)
            | Self::Service(_)
            | Self::Tunnel(_)
            | Self::Logs(_)
            | Self::Image(_)
            | Self::Clone(_) => true,
            Self::Mount(args) => args.needs_the_machine(),
            Self::Snapshot(args) => args.needs_the_machine(),
            Self::Cache(args) => args.needs_the_machine(),
            _ => false,
        }
    }

    /// Whether stdout carries CloudEvents.
    pub fn prints_events(&self) -> bool {
        match self {
            Self::Start(args) => args.prints_events(),
            Self::ImageBuild(args) => args.prints_events(),
            _ => false,
        }
    }

    /// Commands whose child gets Ctrl-C itself, or that end by it as they should.
    pub fn handles_interrupts(&self) -> bool {
        matches!(
            self,
            Self::Kubectl(_) | Self::Ssh(_) | Self::HostAgent(_) | Self::Run(_)
        )
    }

    /// What an interrupted command leaves, and how to go on.
    pub fn what_is_left(&self, app: &App) -> String {
        let profile = &app.settings.profile;
        match self {
            Self::Start(args) if args.only_downloads() => {
                "`coracle start` and `coracle start --download-only` go on from what came".into()
            }
            Self::Start(_) => {
                format!(
                    "`coracle start -p {profile}` goes on from here; `coracle delete -p {profile}` removes what is there"
                )
            }
            Self::Stop(_) => {
                format!("it may still be stopping: `coracle status -p {profile}` tells")
            }
            Self::Clone(args) => {
                let name = args.name();
                format!(
                    "{profile} runs on; `coracle delete -p {name}` removes what there is of {name}"
                )
            }
            Self::Snapshot(_) => {
                format!("`coracle snapshot list -p {profile}` shows what there is")
            }
            Self::Delete(_) => format!("`coracle delete -p {profile}` removes the rest"),
            Self::ImageBuild(_) => {
                "`coracle image-build` goes on from the parts that are done".into()
            }
            Self::ImageExport(_) => {
                "the folder has a part of the image; `coracle image-export` writes it anew".into()
            }
            _ => "nothing was changed that the next command cannot go on from".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
