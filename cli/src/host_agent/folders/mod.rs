//! Folders of this host that the machine has mounted: they are served through one stream to its agent.
//!
//! ```text
//! record: mounts --Set--> agent                   (at each launch, and when a command changed them)
//! agent --Call--> export --Answer--> agent        (several at a time)
//! watch --Told--> changes --Changes--> agent      (a moment's at once)
//! ```
//!
//! Nothing is kept here that the next stream could not do without: the agent says again what it waits
//! for, and which folders it wants to be told of.

mod export;
mod system;
mod watch;

use super::log;
use super::rest::Presence;
use crate::cluster::Cluster;
use crate::cluster::mount::Mount;
use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Settings;
use coracle_protocol::folders::folders_client::FoldersClient;
use coracle_protocol::folders::{
    Call, Change, ChangeKind, Changes, FileKind, FolderSet, FromGuest, FromHost, Mounted,
    from_guest, from_host,
};
use export::Export;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot, watch as channel};
use tokio_stream::wrappers::ReceiverStream;
use watch::{Seen, Told, Watch};

/// How long the agent of a machine that was just launched may take to answer.
const AGENT_LIMIT: Duration = Duration::from_secs(30);
/// First and longest pause before a stream that was lost is made anew.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Calls that are carried out at a time.
const AT_ONCE: usize = 32;
/// Messages on their way to the machine.
const QUEUE: usize = 64;
/// What one message holds at the most: a write of a megabyte, by far.
const MESSAGE: usize = 16 << 20;
/// How long is waited for what else one change brings.
const MOMENT: Duration = Duration::from_millis(15);
/// So many changes of a moment are told; of more, that there were many.
const MANY: usize = 5000;

/// What could not be mounted, and why; or why nothing could.
pub type Outcome = std::result::Result<Vec<(String, String)>, String>;

/// A command has changed what is to be mounted, and waits to hear what came of it.
pub type Order = oneshot::Sender<Outcome>;

/// Serves them for ever, whenever a machine is there.
pub async fn keep(
    settings: &Settings,
    mut presence: channel::Receiver<Presence>,
    mut orders: mpsc::Receiver<Order>,
) -> Infallible {
    let mut waiting = Vec::new();
    let mut pause = BACK_OFF.0;
    loop {
        let is_there = *presence.borrow_and_update() == Presence::Running;
        let wanted = wanted(settings);
        if !is_there || wanted.is_none() && waiting.is_empty() {
            tokio::select! {
                changed = presence.changed() => if changed.is_err() {
                    // The host agent is about to end.
                    std::future::pending::<()>().await;
                },
                Some(order) = orders.recv() => waiting.push(order),
            }
            continue;
        }
        let served = tokio::select! {
            served = serve(settings, &mut orders, &mut waiting) => served,
            _ = presence.changed() => {
                pause = BACK_OFF.0;
                continue;
            }
        };
        match served {
            Ok(()) => pause = BACK_OFF.0,
            Err(error) => {
                for order in waiting.drain(..) {
                    let _ = order.send(Err(error.message().to_owned()));
                }
                tracing::debug!(error = error.message(), "no folders are served");
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// What is to be mounted; `None` where nothing ever was, or before the cluster has its own identity.
fn wanted(settings: &Settings) -> Option<Vec<Mount>> {
    let cluster = Cluster::find(settings).ok()?;
    let is_ready = !cluster.passing_identity().exists();
    cluster.record().mounts.clone().filter(|_| is_ready)
}

/// The folders that one stream serves.
struct Served {
    exports: HashMap<String, (Arc<Export>, tokio::task::JoinHandle<()>)>,
    to_guest: mpsc::Sender<FromHost>,
    /// How often was said what is to be mounted without having heard what came of it.
    unheard: u32,
}

impl Drop for Served {
    fn drop(&mut self) {
        for (_, telling) in self.exports.values() {
            telling.abort();
        }
    }
}

/// Until the stream ends.
async fn serve(
    settings: &Settings,
    orders: &mut mpsc::Receiver<Order>,
    waiting: &mut Vec<Order>,
) -> Result<()> {
    let agent = Cluster::find(settings)?.agent_within(AGENT_LIMIT).await?;
    let (to_guest, receiver) = mpsc::channel(QUEUE);
    let mut served = Served {
        exports: HashMap::new(),
        to_guest,
        unheard: 0,
    };
    let mut refused = served.set(wanted(settings).unwrap_or_default()).await;
    let mut client = FoldersClient::new(agent.channel()).max_decoding_message_size(MESSAGE);
    let failed = || "the machine does not take folders of this host".to_owned();
    let calls = client.serve(ReceiverStream::new(receiver)).await;
    let mut calls = calls.context(ErrorId::Guest, failed)?.into_inner();
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        tokio::select! {
            message = calls.message() => match message.context(ErrorId::Guest, failed)? {
                Some(FromGuest { message: Some(from_guest::Message::Call(call)) }) => {
                    served.answer(call, &at_once).await;
                }
                Some(FromGuest { message: Some(from_guest::Message::Mounted(mounted)) }) => {
                    served.unheard = served.unheard.saturating_sub(1);
                    // What came of an earlier set is no answer to who asked since.
                    if served.unheard == 0 {
                        report(mounted, &mut refused, waiting);
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
            Some(order) = orders.recv() => {
                waiting.push(order);
                refused = served.set(wanted(settings).unwrap_or_default()).await;
            }
        }
    }
}

fn report(mounted: Mounted, refused: &mut Vec<(String, String)>, waiting: &mut Vec<Order>) {
    let by_machine = mounted.refused.into_iter();
    refused.extend(by_machine.map(|refusal| (refusal.id, refusal.reason)));
    for (what, why) in refused.iter() {
        log(&format!("{what} is not mounted: {why}"));
    }
    for order in waiting.drain(..) {
        let _ = order.send(Ok(refused.clone()));
    }
    refused.clear();
}

impl Served {
    /// Says what is to be mounted. Gives what is not even there.
    async fn set(&mut self, mounts: Vec<Mount>) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        let mut folders = Vec::new();
        let ids: Vec<String> = mounts.iter().map(Mount::to_string).collect();
        self.exports.retain(|id, (_, telling)| {
            let stays = ids.contains(id);
            if !stays {
                telling.abort();
            }
            stays
        });
        for (mount, id) in mounts.into_iter().zip(ids) {
            if !self.exports.contains_key(&id) {
                match self.export(&mount, &id) {
                    Ok(export) => drop(self.exports.insert(id.clone(), export)),
                    Err(error) => {
                        refused.push((id, error.to_string()));
                        continue;
                    }
                }
            }
            folders.push(mount.folder());
        }
        let set = from_host::Message::Set(FolderSet { folders });
        self.unheard += 1;
        // A stream that has ended is seen where its calls are read.
        let _ = self.to_guest.send(message(set)).await;
        refused
    }

    fn export(
        &self,
        mount: &Mount,
        id: &str,
    ) -> std::io::Result<(Arc<Export>, tokio::task::JoinHandle<()>)> {
        let (sender, told) = mpsc::unbounded_channel();
        let watch = Watch::new(&mount.host, sender);
        let export = Arc::new(Export::new(&mount.host, mount.read_only, watch)?);
        let telling = tell(
            id.to_owned(),
            Arc::clone(&export),
            told,
            self.to_guest.clone(),
        );
        Ok((export, tokio::spawn(telling)))
    }

    /// Has a call carried out, when others are over.
    async fn answer(&self, call: Call, at_once: &Arc<Semaphore>) {
        let Ok(permit) = Arc::clone(at_once).acquire_owned().await else {
            return;
        };
        let export = self
            .exports
            .get(&call.folder)
            .map(|(export, _)| Arc::clone(export));
        let to_guest = self.to_guest.clone();
        tokio::spawn(async move {
            let (id, again) = (call.id, call.again);
            let carried = tokio::task::spawn_blocking(move || match (export, &call.operation) {
                (Some(export), Some(operation)) => export.answer(operation, again),
                _ => vec![export::gone()],
            });
            // A panic is an error like any other to the machine.
            let answers = carried.await.unwrap_or_else(|_| vec![export::gone()]);
            for mut answer in answers {
                answer.id = id;
                let _ = to_guest
                    .send(message(from_host::Message::Answer(answer)))
                    .await;
            }
            drop(permit);
        });
    }
}

fn message(message: from_host::Message) -> FromHost {
    FromHost {
        message: Some(message),
    }
}

/// Tells the machine what changes, a moment's changes at once.
async fn tell(
    folder: String,
    export: Arc<Export>,
    mut told: mpsc::UnboundedReceiver<Told>,
    to_guest: mpsc::Sender<FromHost>,
) {
    while let Some(first) = told.recv().await {
        tokio::time::sleep(MOMENT).await;
        let mut batch = vec![first];
        while let Ok(more) = told.try_recv() {
            batch.push(more);
        }
        let carried = {
            let (export, folder) = (Arc::clone(&export), folder.clone());
            tokio::task::spawn_blocking(move || changes(&export, folder, batch))
        };
        let Ok(changes) = carried.await else {
            continue;
        };
        let sent = to_guest.send(message(from_host::Message::Changes(changes)));
        if sent.await.is_err() {
            return;
        }
    }
}

fn changes(export: &Export, folder: String, batch: Vec<Told>) -> Changes {
    let mut seen: Vec<Seen> = Vec::with_capacity(batch.len());
    let mut overflowed = batch.len() > MANY;
    for one in batch {
        match one {
            Told::Seen(one) => seen.push(one),
            Told::Overflow => overflowed = true,
        }
    }
    let path = |path: &Path| system::bytes(path.as_os_str()).into();
    let mut changes = Vec::new();
    for one in export.watch().news(seen) {
        let is_renamed = one.kind == ChangeKind::Renamed;
        let attributes = export.attributes_at(if is_renamed { &one.to } else { &one.path });
        let is_folder = attributes.is_some_and(|now| now.kind() == FileKind::Folder);
        match one.kind {
            ChangeKind::Removed => export.watch().forget(&one.path),
            ChangeKind::Renamed if is_folder => export.watch().follow_renamed(&one.path, &one.to),
            _ => {}
        }
        changes.push(Change {
            kind: one.kind.into(),
            path: path(&one.path),
            to: path(&one.to),
            attributes,
        });
    }
    if overflowed {
        // What is watched may be another folder by now, or none.
        export.watch().begin_anew();
        changes.clear();
    }
    Changes {
        folder,
        changes,
        overflowed,
    }
}
