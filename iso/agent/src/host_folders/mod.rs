//! Folders of the host in the machine: mounted with FUSE, and answered by the host through one stream.
//!
//! ```text
//! programs --kernel--> filesystem --> link --Call--> host
//!              ^           |            <--Answer--
//!              |         nodes
//!              +-------- changes <--------Changes--- host
//! ```
//!
//! All that is known of a mounted folder is known here, so that a stream may end at any time: with a
//! host agent that was killed, or with a machine that was saved. The next one is asked again what was not
//! answered, and the kernel forgets what may have changed meanwhile.

mod attributes;
mod changes;
mod filesystem;
mod link;
mod listing;
mod nodes;
mod pretence;

use crate::api::Replies;
use crate::kernel;
use crate::tls::set_aside;
use changes::News;
use coracle_protocol::folders::{
    Folder, FolderSet, Follow, FromGuest, FromHost, Mounted, Refusal, call::Operation, from_guest,
    from_host,
};
use filesystem::{HostFolder, MOST, Shared};
use fuser::{BackgroundSession, Config, Session, SessionACL};
use link::{Link, Sender};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tonic::{Status, Streaming};

/// What df(1) and /proc/mounts call it.
const NAME: &str = "host";
/// How far the kernel reads ahead, in KiB: each request takes its time on the way to the host.
const READ_AHEAD: u32 = MOST >> 10;

/// All folders of the host in this machine.
#[derive(Debug)]
pub struct HostFolders {
    link: Arc<Link>,
    places: Mutex<HashMap<String, Place>>,
}

/// One that is mounted.
#[derive(Debug)]
struct Place {
    folder: Folder,
    shared: Arc<Shared>,
    /// Answers the kernel until nothing is mounted any more.
    _session: BackgroundSession,
}

impl Default for HostFolders {
    fn default() -> Self {
        Self {
            link: Arc::new(Link::new()),
            places: Mutex::default(),
        }
    }
}

impl HostFolders {
    /// Mounts what a machine boots with, before anything starts that may need it: who looks at it waits
    /// for the host. Gives what could not be mounted.
    pub fn at_boot(&self, folders: Vec<Folder>) -> Vec<Refusal> {
        if folders.is_empty() {
            return Vec::new();
        }
        self.link.expect();
        self.mount_set(FolderSet { folders }).refused
    }

    /// Whether a path is within one of them.
    #[must_use]
    pub fn hold(&self, path: &Path) -> bool {
        let places = self.places();
        let mut places = places.values().map(|place| &place.folder.guest_path);
        places.any(|place| path.starts_with(place))
    }

    /// Takes what the host sends until its stream ends. What is mounted stays.
    pub(crate) async fn serve(self: Arc<Self>, mut host: Streaming<FromHost>, sender: Sender) {
        let mut stream = None;
        while let Ok(Some(message)) = host.message().await {
            match message.message {
                Some(from_host::Message::Set(set)) => {
                    // Before anything is mounted: who looks at it asks the host.
                    stream = Some(self.link.attach(sender.clone()));
                    let mounted = self.mount_all(set).await;
                    let message = Some(from_guest::Message::Mounted(mounted));
                    let _ = sender.send(Ok(FromGuest { message }));
                }
                Some(from_host::Message::Answer(answer)) => self.link.answered(answer),
                Some(from_host::Message::Changes(changes)) => {
                    if let Some(place) = self.places().get(&changes.folder) {
                        place.shared.tell_news(News::Changed(changes));
                    }
                }
                None => {}
            }
        }
        if let Some(stream) = stream {
            self.link.detach(stream);
        }
    }

    fn places(&self) -> std::sync::MutexGuard<'_, HashMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn mount_all(self: &Arc<Self>, set: FolderSet) -> Mounted {
        let this = Arc::clone(self);
        // Mounting waits for the kernel.
        let mounted = tokio::task::spawn_blocking(move || this.mount_set(set)).await;
        mounted.unwrap_or_else(|error| Mounted {
            refused: vec![Refusal {
                id: String::new(),
                reason: error.to_string(),
            }],
        })
    }

    fn mount_set(&self, set: FolderSet) -> Mounted {
        let mut places = self.places();
        let mut refused = Vec::new();
        let stays = |place: &Place| set.folders.contains(&place.folder);
        let gone: Vec<String> = places
            .iter()
            .filter(|(_, place)| !stays(place))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            if let Some(place) = places.remove(&id) {
                place.shared.tell_news(News::End);
                // Who still has it open is given errors: the host serves it no more.
                let path = place.folder.guest_path.as_str();
                let _ = umount2(path, MntFlags::MNT_DETACH);
                // Nobody is to take the empty place for the folder. One with something in it stays.
                let _ = fs::remove_dir(path);
            }
        }
        for place in places.values() {
            // Another host agent may answer, after a time in which nobody told what changed.
            let paths = place.shared.nodes().folders();
            let follow = Follow {
                paths: paths.into_iter().map(Into::into).collect(),
            };
            let id = &place.folder.id;
            self.link.call(id, Operation::Follow(follow), drop);
            place.shared.tell_news(News::Forget);
        }
        for folder in set.folders {
            if places.contains_key(&folder.id) {
                continue;
            }
            if let Some(other) = places
                .values()
                .find(|other| is_within(&folder, &other.folder))
            {
                // Whoever made the place would wait for this very thread.
                refused.push(Refusal {
                    reason: format!("it would be within {}", other.folder.guest_path),
                    id: folder.id,
                });
                continue;
            }
            match self.mount(&folder) {
                Ok(place) => drop(places.insert(folder.id, place)),
                Err(error) => refused.push(Refusal {
                    id: folder.id,
                    reason: error.to_string(),
                }),
            }
        }
        Mounted { refused }
    }

    fn mount(&self, folder: &Folder) -> io::Result<Place> {
        let path = PathBuf::from(&folder.guest_path);
        make_place(&path)?;
        let device = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,max_read={MOST}",
            device.as_raw_fd()
        );
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(
            Some(NAME),
            &path,
            Some("fuse.coracle"),
            flags,
            Some(options.as_str()),
        )?;
        let answered = self.answer(folder, &path, device);
        if answered.is_err() {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
        answered
    }

    fn answer(&self, folder: &Folder, path: &Path, device: File) -> io::Result<Place> {
        let link = Arc::clone(&self.link);
        let (news, received) = mpsc::channel();
        let id = folder.id.clone();
        let shared = Arc::new(Shared::new(id, folder.read_only, link, news));
        // Nobody is asked for it: it is the place itself.
        let root = File::options()
            .read(true)
            .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
            .open(path)?;
        let acl = SessionACL::All;
        let file_system = HostFolder(Arc::clone(&shared));
        let session = Session::from_fd(file_system, device.into(), acl, Config::default())?;
        let session = session.spawn()?;
        let (notifier, root) = (session.notifier(), OwnedFd::from(root));
        let carried = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("changes".to_owned())
            .spawn(move || changes::carry(&carried, &root, &notifier, &received))?;
        if let Err(error) = read_ahead(path) {
            kernel::say(&format!(
                "{} is read in small parts: {error}",
                path.display()
            ));
        }
        Ok(Place {
            folder: folder.clone(),
            shared,
            _session: session,
        })
    }
}

fn is_within(one: &Folder, other: &Folder) -> bool {
    Path::new(&one.guest_path).starts_with(&other.guest_path)
}

/// Makes a folder to mount at. The image is read-only: what stands at its root is given memory of its own.
fn make_place(path: &Path) -> io::Result<()> {
    let made = fs::create_dir_all(path);
    if !matches!(&made, Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem) {
        return made;
    }
    let root: PathBuf = path.components().take(2).collect();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=1m"),
    )?;
    fs::create_dir_all(path)
}

/// Sets how far is read ahead. Nobody is asked about the folder for that: its answers may still wait.
fn read_ahead(path: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let path = path.display().to_string();
    // Of several at one place the last one is seen.
    let device = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, at) = (fields.next()?, fields.nth(1)?);
        (at == path).then(|| device.to_owned())
    });
    let device = device.ok_or(io::ErrorKind::NotFound)?;
    let file = format!("/sys/class/bdi/{device}/read_ahead_kb");
    kernel::set(Path::new(&file), &READ_AHEAD.to_string())
}

/// The control API's service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) folders: Arc<HostFolders>,
}

#[tonic::async_trait]
impl coracle_protocol::folders::folders_server::Folders for Service {
    type ServeStream = Replies<FromGuest>;

    async fn serve(
        &self,
        request: tonic::Request<Streaming<FromHost>>,
    ) -> Result<tonic::Response<Self::ServeStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let folders = Arc::clone(&self.folders);
        // A host that waits for calls uses nothing.
        let aside = set_aside(&request);
        tokio::spawn(async move {
            folders.serve(request.into_inner(), sender).await;
            drop(aside);
        });
        let replies = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
        Ok(tonic::Response::new(Box::pin(replies)))
    }
}
