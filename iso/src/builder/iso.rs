//! The hybrid ISO: the same image for machines that start by their firmware, BIOS or UEFI, from a CD or
//! from a disk.
//!
//! ```text
//! boot/vmlinuz, boot/initrd     isolinux starts them: BIOS
//! efi.img                       a FAT file system with one program, EFI/BOOT/BOOTX64.EFI: UEFI. It is
//!                               kernel, command line and initrd behind systemd's stub, so that one
//!                               signature covers all of it where Secure Boot wants one.
//! root.erofs, kubernetes-*.erofs   stage 1 and the agent mount them from the ISO
//! ```
//!
//! The initrd is the image's with more drivers. xorriso writes the ISO; equal parts give equal bytes.

use super::assemble::{Parts, step};
use super::cache::{Cache, Made};
use super::command::Work;
use super::debian::{self, profile_lines_for};
use super::key::Key;
use super::pe;
use super::tree::{EPOCH, Tree};
use super::{BuildError, BuildOptions, buildroot, kernel, tools};
use crate::files::write_atomic;
use crate::{Arch, KERNEL_COMMAND_LINE};
use coracle_protocol::{ISO_ROOT, ISO_VOLUME, iso_layer};
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

const RECIPE: &str = concat!(
    include_str!("iso.rs"),
    include_str!("pe.rs"),
    include_str!("command.rs")
);
/// Debian's package of what writes it, on the host.
const WRITER: &str = "xorriso";
/// The part's file.
pub(crate) const ISO: &str = "coracle.iso";
/// The root file system on the ISO.
pub(crate) const ROOT_FILE: &str = ISO_ROOT;

/// The layer of a Kubernetes version, on the ISO and in an image.
pub(crate) fn layer_file(version: &str) -> String {
    iso_layer(version)
}
/// The file of the initial RAM file system's part.
pub(crate) const INITRD: &str = "initrd";
/// What is in the FAT file system besides the one program, in bytes: its own tables.
const FAT_ROOM: usize = 1 << 20;
/// FAT file systems end at whole MiB.
const MIB: usize = 1 << 20;
/// The serial number of the FAT file system.
const FAT_SERIAL: u32 = 0x636f_7261;

/// How a processor's firmware finds its program.
struct Efi {
    stub: &'static str,
    program: &'static str,
}

fn efi(arch: Arch) -> Efi {
    match arch {
        Arch::Amd64 => Efi {
            stub: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
            program: "BOOTX64.EFI",
        },
        Arch::Arm64 => Efi {
            stub: "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
            program: "BOOTAA64.EFI",
        },
    }
}

/// The kernel's command line: the image's own, and both consoles; the last one is the serial one, to
/// which what a driver records is written.
fn command_line(arch: Arch) -> String {
    let serial = match arch {
        Arch::Amd64 => "ttyS0",
        Arch::Arm64 => "ttyAMA0",
    };
    format!("console=tty0 console={serial},115200 {KERNEL_COMMAND_LINE}")
}

impl Parts {
    /// Makes the ISO. `files` are the file systems that go onto it: name on the ISO, part, and its file there.
    pub(crate) fn iso_part(
        &self,
        cache: &Cache<'_>,
        options: &BuildOptions,
        initrd: &Made,
        files: &[(String, &Made, &str)],
    ) -> Result<Made, BuildError> {
        let wanted = profile_lines_for(&options.profile("loaders.txt"), options.arch)?;
        let loaders = debian::fetch(cache, options, "loaders", options.arch, &wanted)?;
        let (host, wanted) = (tools::host()?, [WRITER.to_owned()]);
        let writer = debian::fetch(cache, options, "iso-writer", host, &wanted)?;
        let step = step("iso", "ISO");
        let mut key = Key::new(&step.name, RECIPE)
            .digest("loaders", &loaders.part.digest)
            .digest("writer", &writer.part.digest)
            .digest("build root", &self.root.digest)
            .digest("kernel", &self.kernel.digest)
            .digest("initrd", &initrd.digest)
            .with("command line", command_line(options.arch));
        for (name, part, _) in files {
            key = key.with("file", name).digest("part", &part.digest);
        }
        cache.part(&step, &key.finish(), |work, out| {
            let tools = buildroot::unpack(work, &loaders, |_| true)?;
            let temporary = cache.temporary()?;
            let folder = temporary.path().join("iso");
            let boot = Boot {
                work,
                tools: &tools,
                arch: options.arch,
                kernel: self.kernel.read(work, kernel::KERNEL)?,
                initrd: initrd.read(work, INITRD)?,
            };
            boot.place(&folder)?;
            for (name, part, file) in files {
                let to = folder.join(name);
                fs::copy(part.file(work, file)?, &to).map_err(BuildError::io(&to))?;
            }
            let root = temporary.path().join("writer");
            buildroot::write(&buildroot::unpack(work, &writer, |_| true)?, &root)?;
            let mut command = buildroot::through_loader(&root, host, "usr/bin/xorriso");
            let loaders = temporary.path().join("loaders");
            buildroot::write(&tools, &loaders)?;
            mkisofs(&mut command, &loaders, options.arch);
            work.run(command.arg("-o").arg(out.join(ISO)).arg(&folder))
        })
    }
}

/// What starts the kernel.
struct Boot<'a> {
    work: &'a Work<'a>,
    tools: &'a Tree,
    arch: Arch,
    kernel: Vec<u8>,
    initrd: Vec<u8>,
}

impl Boot<'_> {
    fn tool(&self, path: &str) -> Result<&[u8], BuildError> {
        let content = self.tools.content(path);
        content
            .map(|content| &content[..])
            .ok_or_else(|| self.work.wrong(format!("the boot loaders lack {path}")))
    }

    /// Puts everything but the file systems into the ISO's folder.
    fn place(&self, folder: &Path) -> Result<(), BuildError> {
        let put = |path: &str, content: &[u8]| {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent).map_err(BuildError::io(parent))?;
            write_atomic(&path, content).map_err(BuildError::io(&path))
        };
        put("efi.img", &self.fat()?)?;
        if self.arch != Arch::Amd64 {
            return Ok(());
        }
        put("boot/vmlinuz", &self.kernel)?;
        put("boot/initrd", &self.initrd)?;
        put(
            "isolinux/isolinux.bin",
            self.tool("usr/lib/ISOLINUX/isolinux.bin")?,
        )?;
        let library = "usr/lib/syslinux/modules/bios/ldlinux.c32";
        put("isolinux/ldlinux.c32", self.tool(library)?)?;
        let settings = format!(
            "SERIAL 0 115200\nDEFAULT coracle\nPROMPT 0\nLABEL coracle\n  LINUX /boot/vmlinuz\n  \
             INITRD /boot/initrd\n  APPEND {}\n",
            command_line(self.arch)
        );
        put("isolinux/isolinux.cfg", settings.as_bytes())
    }

    /// The one program that UEFI starts.
    fn program(&self) -> Result<Vec<u8>, BuildError> {
        let stub = self.tool(efi(self.arch).stub)?;
        let command_line = command_line(self.arch);
        let sections = [
            (".cmdline", command_line.as_bytes()),
            (".linux", self.kernel.as_slice()),
            (".initrd", self.initrd.as_slice()),
        ];
        pe::with_sections(stub, &sections).map_err(|reason| self.work.wrong(reason))
    }

    /// The FAT file system that UEFI reads.
    fn fat(&self) -> Result<Vec<u8>, BuildError> {
        let program = self.program()?;
        let size = (program.len() + FAT_ROOM).next_multiple_of(MIB);
        let mut disk = Cursor::new(vec![0; size]);
        let options = fatfs::FormatVolumeOptions::new()
            .volume_id(FAT_SERIAL)
            .volume_label(*b"CORACLE    ");
        let written = (|| {
            fatfs::format_volume(&mut disk, options)?;
            let volume = fatfs::FileSystem::new(&mut disk, fatfs::FsOptions::new())?;
            {
                let folder = volume.root_dir().create_dir("EFI")?.create_dir("BOOT")?;
                let mut file = folder.create_file(efi(self.arch).program)?;
                file.write_all(&program)?;
                file.flush()?;
            }
            volume.unmount()
        })();
        written.map_err(BuildError::io("efi.img"))?;
        Ok(disk.into_inner())
    }
}

/// What makes the ISO start: its arguments but for the folder and the file.
fn mkisofs(command: &mut Command, loaders: &Path, arch: Arch) {
    command.args([
        "-no_rc",
        "-as",
        "mkisofs",
        "-quiet",
        "-iso-level",
        "3",
        "-R",
    ]);
    command
        .args(["-V", ISO_VOLUME, "--set_all_file_dates"])
        .arg(format!("={EPOCH}"));
    if arch == Arch::Amd64 {
        command
            .arg("-isohybrid-mbr")
            .arg(loaders.join("usr/lib/ISOLINUX/isohdpfx.bin"))
            .args(["-c", "isolinux/boot.cat", "-b", "isolinux/isolinux.bin"])
            .args(["-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"])
            .arg("-eltorito-alt-boot");
    }
    command.args(["-e", "efi.img", "-no-emul-boot"]);
    if arch == Arch::Amd64 {
        command.arg("-isohybrid-gpt-basdat");
    }
}
