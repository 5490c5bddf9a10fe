//! One folder of the host as the kernel of the machine asks for it.
//!
//! Nothing here waits: what the host has to be asked goes into the [`Link`], and the kernel has its
//! answer when that comes. The kernel believes what it was told for a moment, or until the host tells of a
//! change; what it has read it reads again when a file's time or size is another one, and at each open.

use super::attributes::file_attr;
use super::changes::News;
use super::link::{Link, Outcome};
use super::listing::{Listing, fill};
use super::nodes::Nodes;
use super::pretence::{Pretence, Pretended};
use crate::kernel;
use bytes::Bytes;
use coracle_protocol::folders::{self, Attributes, Entry, SetAttributes, call::Operation};
use fuser::{
    BsdFileFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::libc;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

/// How long the kernel believes what it was told.
pub(super) const MOMENT: Duration = Duration::from_secs(1);
/// The most that one request reads or writes: what the kernel does in one go.
pub(super) const MOST: u32 = 1 << 20;
/// What is opened without the host.
const NO_HANDLE: FileHandle = FileHandle(0);
/// A number in the machine is never used for another file.
pub(super) const GENERATION: Generation = Generation(0);
/// The block size that statfs(2) counts in.
pub(super) const BLOCK: u32 = 4096;

/// What the kernel and the thread that carries changes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: String,
    pub(super) read_only: bool,
    pub(super) link: Arc<Link>,
    nodes: Mutex<Nodes>,
    listings: Mutex<HashMap<u64, Arc<Vec<Entry>>>>,
    /// What is carried out without the host.
    pub(super) pretence: Pretence,
    news: mpsc::Sender<News>,
}

impl Shared {
    pub(super) fn new(
        id: String,
        read_only: bool,
        link: Arc<Link>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            id,
            read_only,
            link,
            nodes: Mutex::new(Nodes::new()),
            listings: Mutex::default(),
            pretence: Pretence::default(),
            news,
        }
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listings(&self) -> MutexGuard<'_, HashMap<u64, Arc<Vec<Entry>>>> {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What fuser calls.
#[derive(Debug)]
pub(super) struct HostFolder(pub(super) Arc<Shared>);

/// Something that an error number can be told to.
pub(super) trait Refuse {
    fn refuse(self, error: i32);
}

macro_rules! refuse {
    ($($reply:ty),*) => {
        $(impl Refuse for $reply {
            fn refuse(self, error: i32) {
                self.error(Errno::from_i32(error));
            }
        })*
    };
}
refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite
);

impl HostFolder {
    /// Asks the host; `done` has its answer and what to answer to, if it was one.
    fn ask<R: Refuse + Send + 'static>(
        &self,
        operation: Operation,
        reply: R,
        done: impl FnOnce(&Shared, folders::Answer, R) + Send + 'static,
    ) {
        let shared = Arc::clone(&self.0);
        self.0.link.call(
            &self.0.id,
            operation,
            move |outcome: Outcome| match outcome {
                Ok(answer) => done(&shared, answer, reply),
                Err(error) => reply.refuse(error),
            },
        );
    }

    /// The same for a change of what is there.
    fn change<R: Refuse + Send + 'static>(
        &self,
        operation: Operation,
        reply: R,
        done: impl FnOnce(&Shared, folders::Answer, R) + Send + 'static,
    ) {
        if self.0.read_only {
            return reply.refuse(libc::EROFS);
        }
        self.ask(operation, reply, done);
    }

    fn path<R: Refuse>(&self, node: INodeNo, reply: R) -> Option<(Bytes, R)> {
        named(self.0.nodes().path(node.0), reply)
    }

    fn path_in<R: Refuse>(&self, parent: INodeNo, name: &OsStr, reply: R) -> Option<(Bytes, R)> {
        named(self.0.nodes().path_in(parent.0, name), reply)
    }

    /// An entry that the host has made.
    fn make(&self, parent: INodeNo, name: &OsStr, operation: Operation, reply: ReplyEntry) {
        let name = name.to_owned();
        self.change(operation, reply, move |shared, answer, reply| {
            let Some(attributes) = answer.attributes else {
                return reply.refuse(libc::EIO);
            };
            let number = enter(shared, parent, &name, attributes, reply);
            shared.nodes().set_own(number, attributes);
        });
    }

    /// Puts the entries from an offset on into a reply, as long as there is room.
    fn list(
        &self,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: impl Listing + Send + 'static,
    ) {
        let known = self.0.listings().get(&handle.0).cloned();
        if let Some(entries) = known.filter(|_| offset > 0) {
            return fill(&self.0, node, &entries, offset, reply);
        }
        let Some(path) = self.0.nodes().path(node.0) else {
            return reply.refuse(libc::ESTALE);
        };
        let list = folders::List { path: path.into() };
        let shared = Arc::clone(&self.0);
        let done = move |outcome: Outcome| match outcome {
            Ok(answer) => {
                let entries = Arc::new(answer.entries);
                shared.listings().insert(handle.0, Arc::clone(&entries));
                fill(&shared, node, &entries, offset, reply);
            }
            Err(error) => reply.refuse(error),
        };
        self.0.link.call(&self.0.id, Operation::List(list), done);
    }
}

fn named<R: Refuse>(path: Option<Vec<u8>>, reply: R) -> Option<(Bytes, R)> {
    match path {
        Some(path) => Some((path.into(), reply)),
        None => {
            reply.refuse(libc::ESTALE);
            None
        }
    }
}

impl Filesystem for HostFolder {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_CACHE_SYMLINKS;
        let offered = config.capabilities();
        if config.add_capabilities(wanted & offered).is_err() || config.set_max_write(MOST).is_err()
        {
            kernel::say("FUSE of this kernel takes less than was asked of it");
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.0.pretence.lookup(request.pid(), parent.0, name) {
            Some(Pretended::Missing) => return reply.error(Errno::ENOENT),
            Some(Pretended::There(attributes)) => {
                enter(&self.0, parent, name, attributes, reply);
                return;
            }
            None => {}
        }
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let name = name.to_owned();
        let stat = Operation::Stat(folders::Stat { path });
        self.ask(stat, reply, move |shared, answer, reply| {
            let Some(attributes) = answer.attributes else {
                return reply.refuse(libc::EIO);
            };
            enter(shared, parent, &name, attributes, reply);
        });
    }

    fn forget(&self, _: &Request, node: INodeNo, times: u64) {
        self.0.nodes().forget(node.0, times);
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let Some(path) = self.0.nodes().path(node.0) else {
            // Open, and without a name: as it was last.
            let known = self.0.nodes().attributes(node.0).copied();
            return match known {
                Some(attributes) => reply.attr(&MOMENT, &file_attr(node.0, &attributes)),
                None => reply.error(Errno::ESTALE),
            };
        };
        let stat = Operation::Stat(folders::Stat { path: path.into() });
        self.ask(stat, reply, move |shared, answer, reply| {
            tell(shared, node, &answer, reply);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let path = self.0.last_path(node);
        let handle = handle.unwrap_or(NO_HANDLE);
        if path.is_empty() && node != INodeNo::ROOT && handle == NO_HANDLE {
            return reply.error(Errno::ESTALE);
        }
        if self.0.pretence.is_by(request.pid()) {
            // Fresh: the kernel takes the size from it, and somebody may have written since.
            let stat = Operation::Stat(folders::Stat { path });
            return self.ask(stat, reply, move |shared, answer, reply| {
                tell(shared, node, &answer, reply);
            });
        }
        // Everything belongs to the user of the host, whoever is told that it does not.
        let set = SetAttributes {
            path,
            handle: handle.0,
            size,
            mode: mode.map(|mode| mode & 0o7777),
            accessed: atime.map(time),
            modified: mtime.map(time),
        };
        self.change(Operation::Set(set), reply, move |shared, answer, reply| {
            if let Some(attributes) = answer.attributes {
                shared.nodes().set_own(node.0, attributes);
            }
            tell(shared, node, &answer, reply);
        });
    }

    fn readlink(&self, _: &Request, node: INodeNo, reply: ReplyData) {
        let Some((path, reply)) = self.path(node, reply) else {
            return;
        };
        let read = Operation::ReadLink(folders::ReadLink { path });
        self.ask(read, reply, |_, answer, reply| reply.data(&answer.data));
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        // A pipe or socket of the machine would be nothing to the host.
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let open = folders::Open {
            path,
            handle: NO_HANDLE.0,
            write: true,
            create: true,
            mode: mode & 0o7777 & !umask,
            exclusive: true,
            truncate: false,
        };
        self.make(parent, name, Operation::Open(open), reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        if let Some(attributes) = self.0.pretence.made(request.pid(), parent.0, name) {
            enter(&self.0, parent, name, attributes, reply);
            return;
        }
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let mode = mode & 0o7777 & !umask;
        let make = folders::MakeFolder { path, mode };
        self.make(parent, name, Operation::MakeFolder(make), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(request, parent, name, false, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove(request, parent, name, true, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        if let Some(attributes) = self.0.pretence.made(request.pid(), parent.0, name) {
            enter(&self.0, parent, name, attributes, reply);
            return;
        }
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let target = target.as_os_str().as_bytes().to_vec().into();
        let link = folders::SymbolicLink { path, target };
        self.make(parent, name, Operation::SymbolicLink(link), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if self.0.pretence.is_by(request.pid()) {
            let (from, to) = ((parent.0, name), (new_parent.0, new_name));
            self.0.nodes().renamed(from, to);
            return reply.ok();
        }
        // Exchanging two names is not what every host can do.
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let Some((from, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let Some((to, reply)) = self.path_in(new_parent, new_name, reply) else {
            return;
        };
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let rename = Operation::Rename(folders::Rename { from, to, keep });
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.change(rename, reply, move |shared, _, reply| {
            let (from, to) = ((parent.0, &*name), (new_parent.0, &*new_name));
            shared.nodes().renamed(from, to);
            reply.ok();
        });
    }

    fn link(&self, _: &Request, node: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some((path, reply)) = self.path(node, reply) else {
            return;
        };
        let Some((to, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let link = Operation::Link(folders::Link { path, to });
        self.make(parent, name, link, reply);
    }

    fn open(&self, request: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if self.0.pretence.is_by(request.pid()) {
            return reply.opened(NO_HANDLE, FopenFlags::empty());
        }
        let Some((path, reply)) = self.path(node, reply) else {
            return;
        };
        let write = writes(flags);
        let handle = self.0.link.number();
        let open = Operation::Open(folders::Open {
            path,
            handle,
            write,
            ..folders::Open::default()
        });
        let opened = move |shared: &Shared, _, reply: ReplyOpen| {
            if write {
                shared.nodes().opened(node.0);
            }
            reply.opened(FileHandle(handle), FopenFlags::empty());
        };
        if write {
            self.change(open, reply, opened);
        } else {
            self.ask(open, reply, opened);
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        if self
            .0
            .pretence
            .made(request.pid(), parent.0, name)
            .is_some()
        {
            let name = name.to_owned();
            // Fresh: somebody may have found it already, and written.
            let stat = Operation::Stat(folders::Stat { path });
            return self.ask(stat, reply, move |shared, answer, reply| {
                let Some(attributes) = answer.attributes else {
                    return reply.refuse(libc::EIO);
                };
                let number = shared.nodes().found(parent.0, &name, attributes);
                let attr = file_attr(number, &attributes);
                let none = FopenFlags::empty();
                reply.created(&MOMENT, &attr, GENERATION, NO_HANDLE, none);
            });
        }
        let handle = self.0.link.number();
        let write = writes(OpenFlags(flags));
        let open = Operation::Open(folders::Open {
            path,
            handle,
            write,
            create: true,
            mode: mode & 0o7777 & !umask,
            exclusive: flags & libc::O_EXCL != 0,
            truncate: flags & libc::O_TRUNC != 0,
        });
        let name = name.to_owned();
        self.change(open, reply, move |shared, answer, reply| {
            let Some(attributes) = answer.attributes else {
                return reply.refuse(libc::EIO);
            };
            let mut nodes = shared.nodes();
            let number = nodes.found(parent.0, &name, attributes);
            nodes.set_own(number, attributes);
            if write {
                nodes.opened(number);
            }
            let attr = file_attr(number, &attributes);
            let none = FopenFlags::empty();
            reply.created(&MOMENT, &attr, GENERATION, FileHandle(handle), none);
        });
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = Operation::Read(folders::Read {
            path: self.0.last_path(node),
            handle: handle.0,
            offset,
            size,
            inode: self.0.inode(node),
        });
        self.ask(read, reply, |_, answer, reply| reply.data(&answer.data));
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let append = flags.0 & libc::O_APPEND != 0;
        let write = Operation::Write(folders::Write {
            path: self.0.last_path(node),
            handle: handle.0,
            offset,
            data: data.to_vec().into(),
            inode: self.0.inode(node),
            append,
        });
        let end = offset + u64::from(written);
        self.change(write, reply, move |shared, answer, reply| {
            if let Some(attributes) = answer.attributes {
                shared.nodes().set_own(node.0, attributes);
                if attributes.size != end && append {
                    // It was longer than the kernel knew, and now has this at another place.
                    shared.tell_news(News::Stale(node.0));
                }
            }
            reply.written(written);
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Each write has been answered by the host already.
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if handle != NO_HANDLE {
            if writes(flags) {
                self.0.nodes().closed(node.0);
            }
            let close = Operation::Close(folders::Close { handle: handle.0 });
            self.0.link.call(&self.0.id, close, drop);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        let sync = Operation::Sync(folders::Sync {
            path: self.0.last_path(node),
            handle: handle.0,
            inode: self.0.inode(node),
        });
        self.ask(sync, reply, |_, _, reply| reply.ok());
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.0.link.number()), FopenFlags::empty());
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.list(node, handle, offset, reply);
    }

    fn readdirplus(
        &self,
        _: &Request,
        node: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.list(node, handle, offset, reply);
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.0.listings().remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let space = Operation::Space(folders::Space {});
        self.ask(space, reply, |_, answer, reply| {
            let space = answer.space.unwrap_or_default();
            let blocks = |bytes: u64| bytes / u64::from(BLOCK);
            let (total, free) = (blocks(space.total), blocks(space.free));
            reply.statfs(total, free, free, 0, 0, BLOCK, 255, BLOCK);
        });
    }
}

impl HostFolder {
    fn remove(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        is_folder: bool,
        reply: ReplyEmpty,
    ) {
        if self.0.pretence.is_by(request.pid()) {
            self.0.nodes().removed(parent.0, name);
            return reply.ok();
        }
        let Some((path, reply)) = self.path_in(parent, name, reply) else {
            return;
        };
        let remove = Operation::Remove(folders::Remove { path, is_folder });
        let name = name.to_owned();
        self.change(remove, reply, move |shared, _, reply| {
            shared.nodes().removed(parent.0, &name);
            reply.ok();
        });
    }
}

impl Shared {
    /// Where a file is that is open; empty where it has no name any more, so that only its handle leads
    /// to it.
    fn last_path(&self, node: INodeNo) -> Bytes {
        self.nodes().path(node.0).unwrap_or_default().into()
    }

    /// Its number on the host, 0 where that is not known.
    fn inode(&self, node: INodeNo) -> u64 {
        let nodes = self.nodes();
        nodes.attributes(node.0).map_or(0, |known| known.inode)
    }

    /// Has the thread that carries changes do what must not be done while the kernel waits.
    pub(super) fn tell_news(&self, news: News) {
        // It ends when nothing is mounted any more.
        let _ = self.news.send(news);
    }
}

/// Tells the kernel what a name leads to; gives its number.
fn enter(
    shared: &Shared,
    parent: INodeNo,
    name: &OsStr,
    attributes: Attributes,
    reply: ReplyEntry,
) -> u64 {
    let number = shared.nodes().found(parent.0, name, attributes);
    reply.entry(&MOMENT, &file_attr(number, &attributes), GENERATION);
    number
}

/// Tells the kernel a file's attributes.
fn tell(shared: &Shared, node: INodeNo, answer: &folders::Answer, reply: ReplyAttr) {
    let Some(attributes) = answer.attributes else {
        return reply.refuse(libc::EIO);
    };
    shared.nodes().set_attributes(node.0, attributes);
    reply.attr(&MOMENT, &file_attr(node.0, &attributes));
}

fn time(asked: TimeOrNow) -> folders::Time {
    match asked {
        TimeOrNow::SpecificTime(at) => at,
        TimeOrNow::Now => SystemTime::now(),
    }
    .into()
}

fn writes(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}
