//! What a guest consists of: files of this machine with the libraries they need, as an initramfs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use crate::cpio;

/// By path in the guest, without the leading `/`.
#[derive(Default)]
pub(crate) struct Image {
    entries: BTreeMap<String, Entry>,
}

enum Entry {
    Directory,
    Link(String),
    Copy(PathBuf),
    Text(Vec<u8>),
}

/// The stock tools that every guest has.
const PROGRAMS: [&str; 54] = [
    "auditctl",
    "ausearch",
    "awk",
    "bash",
    "blkid",
    "blockdev",
    "cat",
    "cmp",
    "cp",
    "cryptsetup",
    "date",
    "dd",
    "debugfs",
    "depmod",
    "diff",
    "dmesg",
    "dmsetup",
    "fallocate",
    "filefrag",
    "fsverity",
    "fusermount3",
    "grep",
    "head",
    "integritysetup",
    "kmod",
    "losetup",
    "ls",
    "mkfs.btrfs",
    "mkfs.erofs",
    "mkfs.ext4",
    "mkfs.xfs",
    "mksquashfs",
    "modprobe",
    "mount",
    "nsenter",
    "od",
    "openssl",
    "rmmod",
    "sed",
    "setsid",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tar",
    "timeout",
    "tr",
    "truncate",
    "umount",
    "uniq",
    "unshare",
    "veritysetup",
    "wc",
];

/// The parts of the kernel's modules that have anything to do with us.
const MODULES: [&str; 27] = [
    "arch/x86/crypto/",
    "crypto/",
    "drivers/block/loop",
    "drivers/block/nbd",
    "drivers/block/null_blk",
    "drivers/block/ublk_drv",
    "drivers/block/virtio_blk",
    "drivers/block/zram",
    "drivers/char/virtio_console",
    "drivers/md/",
    "drivers/mtd/mtd",
    "drivers/net/dummy",
    "drivers/virtio/virtio_pci",
    "fs/btrfs/",
    "fs/erofs/",
    "fs/fuse/",
    "fs/nls/",
    "fs/overlayfs/",
    "fs/pstore/",
    "fs/squashfs/",
    "fs/xfs/",
    "lib/",
    "net/ipv4/netfilter/ip",
    "net/ipv6/netfilter/ip6",
    "net/netfilter/nf_tables",
    "net/netfilter/nft_",
    "net/netfilter/x",
];

/// What iptables loads by name.
const XTABLES: &str = "usr/lib/x86_64-linux-gnu/xtables";

impl Image {
    /// All that does not change from run to run: the stock tools and the modules of a kernel.
    pub(crate) fn base(kernel: &Path) -> Result<Image, String> {
        let mut image = Image::default();
        for directory in
            ["dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/share", "var/lib", "var/log"]
        {
            image.directory(directory);
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            image.directory(&format!("usr/{name}"));
            image.entries.insert(name.to_owned(), Entry::Link(format!("usr/{name}")));
        }
        image.text(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        );
        image.text("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        image.entries.insert("etc/mtab".into(), Entry::Link("/proc/self/mounts".into()));
        for (at, from) in [
            ("usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf"),
            ("etc/mke2fs.conf", "/etc/mke2fs.conf"),
        ] {
            if Path::new(from).exists() {
                image.copy(at, Path::new(from));
            }
        }
        for name in PROGRAMS {
            image.program(name)?;
        }
        image.applets()?;
        image.modules(kernel)?;
        Ok(image)
    }

    /// A program of this machine and the libraries that `ldd` lists.
    pub(crate) fn program(&mut self, name: &str) -> Result<(), String> {
        let from = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .map(|directory| Path::new(directory).join(name))
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| format!("{name} is not installed"))?;
        self.executable(from.to_str().unwrap_or_default().trim_start_matches('/'), &from)
    }

    /// The same of a tool that one scenario wants: of this machine, or unpacked by scripts/vm-tools.
    pub(crate) fn tool(&mut self, name: &str, unpacked: &Path) -> Result<(), String> {
        let from = ["usr/sbin", "usr/bin"].map(|directory| unpacked.join(directory).join(name));
        if name == "iptables" {
            self.files(XTABLES, &Path::new("/").join(XTABLES))?;
        }
        match from.iter().find(|path| path.exists()) {
            Some(from) => self.executable(&format!("usr/bin/{name}"), from),
            None => self.program(name),
        }
    }

    pub(crate) fn executable(&mut self, at: &str, from: &Path) -> Result<(), String> {
        self.copy(at, from);
        let listed = output(Command::new("ldd").arg(from))?;
        if let Some(line) = listed.lines().find(|line| line.ends_with("not found")) {
            return Err(format!("{}: {}", from.display(), line.trim()));
        }
        for word in listed.split_whitespace().filter(|word| word.starts_with('/')) {
            let library = Path::new(word);
            if library.exists() {
                self.copy(word.trim_start_matches('/'), library);
            }
        }
        Ok(())
    }

    pub(crate) fn text(&mut self, at: &str, content: &str) {
        self.insert(at, Entry::Text(content.into()));
    }

    pub(crate) fn copy(&mut self, at: &str, from: &Path) {
        self.insert(at, Entry::Copy(from.to_owned()));
    }

    /// The files of a directory, those below it not.
    pub(crate) fn files(&mut self, at: &str, from: &Path) -> Result<(), String> {
        for entry in fs::read_dir(from).map_err(|error| format!("{}: {error}", from.display()))? {
            let path = entry.map_err(|error| error.to_string())?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.is_file()
            {
                self.copy(&format!("{at}/{name}"), &path);
            }
        }
        Ok(())
    }

    /// As a compressed archive; several of them one behind the other are one initramfs.
    pub(crate) fn write(&self, to: &Path, level: &str) -> Result<(), String> {
        let mut zstd = Command::new("zstd")
            .args(["-q", "-f", "-T0", level, "-o"])
            .arg(to)
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| format!("zstd: {error}"))?;
        let Some(pipe) = zstd.stdin.take() else { return Err("zstd: no pipe".into()) };
        let written = self.archive(pipe);
        let status = zstd.wait().map_err(|error| format!("zstd: {error}"))?;
        written.map_err(|error| format!("{}: {error}", to.display()))?;
        if status.success() { Ok(()) } else { Err(format!("zstd: {status}")) }
    }

    /// Changes when anything in it does: names, sizes and times of what is copied.
    pub(crate) fn stamp(&self) -> String {
        let mut stamp = String::new();
        for (path, entry) in &self.entries {
            let what = match entry {
                Entry::Directory => "directory".to_owned(),
                Entry::Link(target) => target.clone(),
                Entry::Text(text) => format!("{text:?}"),
                Entry::Copy(from) => fs::metadata(from).map_or_else(
                    |error| error.to_string(),
                    |found| {
                        let time = found
                            .modified()
                            .ok()
                            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                        format!("{} {} {time:?}", from.display(), found.len())
                    },
                ),
            };
            stamp.push_str(&format!("{path} {what}\n"));
        }
        stamp
    }

    fn archive(&self, out: impl io::Write) -> io::Result<()> {
        let mut archive = cpio::Writer::new(io::BufWriter::with_capacity(1 << 20, out));
        for (path, entry) in &self.entries {
            match entry {
                Entry::Directory => archive.directory(path)?,
                Entry::Link(target) => archive.link(path, target)?,
                Entry::Text(content) => archive.file(path, 0o755, content)?,
                Entry::Copy(from) => {
                    let permissions = fs::metadata(from)?.permissions().mode() & 0o777;
                    archive.file(path, permissions | 0o444, &fs::read(from)?)?;
                }
            }
        }
        io::Write::flush(&mut archive.finish()?)
    }

    fn directory(&mut self, at: &str) {
        for (end, _) in at.match_indices('/') {
            self.entries.entry(at[..end].to_owned()).or_insert(Entry::Directory);
        }
        self.entries.entry(at.to_owned()).or_insert(Entry::Directory);
    }

    fn insert(&mut self, at: &str, entry: Entry) {
        // The guest has them merged, whatever this machine has.
        let merged = ["bin/", "lib/", "lib64/", "sbin/"].iter().any(|top| at.starts_with(top));
        let at = if merged { format!("usr/{at}") } else { at.to_owned() };
        if let Some((parent, _)) = at.rsplit_once('/') {
            self.directory(parent);
        }
        self.entries.insert(at, entry);
    }

    /// busybox, with a link for each of its applets that no stock tool stands for.
    fn applets(&mut self) -> Result<(), String> {
        let busybox = Path::new("/bin/busybox");
        if !busybox.exists() {
            return Err("busybox is not installed".into());
        }
        self.copy("usr/bin/busybox", busybox);
        for applet in output(Command::new(busybox).arg("--list"))?.lines() {
            let [bin, sbin] = ["bin", "sbin"].map(|directory| format!("usr/{directory}/{applet}"));
            if !self.entries.contains_key(&bin) && !self.entries.contains_key(&sbin) {
                self.entries.insert(bin, Entry::Link("/usr/bin/busybox".into()));
            }
        }
        Ok(())
    }

    fn modules(&mut self, kernel: &Path) -> Result<(), String> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let version = read(&kernel.join("version"))?;
        let at = format!("lib/modules/{}", version.trim());
        let tree = kernel.join(&at);
        self.files(&at, &tree)?;
        let dependencies = read(&tree.join("modules.dep"))?;
        for line in dependencies.lines() {
            let Some((module, needed)) = line.split_once(':') else { continue };
            let ours = module
                .strip_prefix("kernel/")
                .is_some_and(|path| MODULES.iter().any(|part| path.starts_with(part)));
            if ours {
                for module in needed.split_whitespace().chain([module]) {
                    self.copy(&format!("{at}/{module}"), &tree.join(module));
                }
            }
        }
        Ok(())
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
