//! XFS on a loop device, shut down by force: the filesystem stops in the middle of what it does, as in a power cut, and what it had not
//! written to its device by then is lost, page cache included.
//!
//! There are two ways. Without flushing its log XFS loses what no sync has asked for, names and sizes of files among it; with flushing,
//! metadata is kept and data not: files that look whole and hold zeros.

use super::{Medium, Mount, run, text};
use anyhow::Result;
use pinion_workload::Random;
use std::fs::File;
use std::path::{Path, PathBuf};

const SIZE_BYTES: u64 = 4 << 30;

/// XFS that shuts down.
pub(crate) struct Filesystem {
    mount: Mount,
    mount_point: PathBuf,
}

impl Filesystem {
    pub(crate) fn new(work: &Path) -> Result<Self> {
        let image = work.join("xfs.image");
        File::create(&image)?.set_len(SIZE_BYTES)?;
        let mount_point = work.join("xfs");
        let mut mount = Mount::attach(&image, &mount_point)?;
        run("mkfs.xfs", &["-q", mount.device()?])?;
        mount.mount()?;
        Ok(Self { mount, mount_point })
    }
}

impl Medium for Filesystem {
    fn data_dir(&self) -> PathBuf {
        self.mount_point.join("data")
    }

    fn fail(&mut self, random: &mut Random) -> Result<()> {
        let how = if random.below(2) == 0 { "shutdown" } else { "shutdown -f" };
        run("xfs_io", &["-x", "-c", how, text(&self.mount_point)?])?;
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        self.mount.unmount()?;
        self.mount.mount()
    }
}
