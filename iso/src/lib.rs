//! The image that runs inside a machine: its builder, its index, its store.
//!
//! ```text
//! inputs                parts (cache/parts/KEY)           image               store
//!
//! profile/packages ---> debian ----------+--> kernel --------+
//! profile/buildroot --> build root --+   +--> modules --+    |
//! components/NAME ----> Go programs -|-------+--> OCI --|-+  |
//!                 `---> runc, pause <+   |          |   v v  v
//! agent, protocol ----> agent -----------|----------|-> initrd, root.erofs, kubernetes-V.erofs,
//! rootfs ------------------------------- + ---------+   kubectl, sbom.cdx.json  --> image.json --> images/sha256-HEX
//! ```
//!
//! Data goes from left to right and never back. Every part is a folder named by the hash of what
//! it is made from: the recipe's own source text, its inputs, and the digests of the parts to its
//! left. A part whose name exists is not made again; its files are compared with their recorded
//! digests before something new is made from them.
//!
//! An image is a folder with an [`images::ImageIndex`] (`image.json`) and the files that it lists.
//! The SHA-256 of `image.json` is the digest of the whole image: the same inputs give the same
//! bytes and so the same digest, whoever builds it, wherever and whenever.
//!
//! - [`images`]: index, store and verifier; works on every host.
//! - [`images::download`]: fetches an image by its digest, from servers or a folder.
//! - [`Builder`]: makes an image from the source tree; needs Linux, no root.
//! - [`BuildObserver`]: hears what the builder does.
//!
//! Nothing here reads the environment or prints.

mod arch;
mod builder;
mod digest;
mod files;
pub mod images;
mod lock;
mod observe;
mod pause;

/// Words for the kernel of every machine, without a console. Notices and worse go to the console. Huge
/// pages only for those who ask: given to everybody they make a control plane a fifth larger, and the
/// kernel keeps more memory back for them.
pub const KERNEL_COMMAND_LINE: &str = "loglevel=6 random.trust_cpu=on transparent_hugepage=madvise";

pub use arch::{Arch, HostPlatform};
pub use builder::{BuildError, BuildOptions, Builder, GonePackage, MissingTool};
pub use digest::{Digest, ParseDigestError};
pub use lock::{FileLock, LockError};
pub use observe::{BuildObserver, DownloadObserver, DownloadProgress, NoObserver, Step};
