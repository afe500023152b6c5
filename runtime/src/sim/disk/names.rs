//! The names of a disk: directories, the entries that readers see and those that a power cut leaves.
//!
//! A change of names (one rename changes two entries) is one piece: it becomes durable, or is lost, whole. A sync of either of its directories
//! makes it durable, as a journal does. What was not synced is kept or lost change by change, not in order: POSIX promises no more.

use super::super::config::CrashOdds;
use super::super::random::Random;
use super::file::FileData;
use pinion_types::map::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

const ROOT: u64 = 0;

/// A file or a directory, and who still needs it.
struct Inode {
    kind: Kind,
    /// Entries that name it, as readers see them and on the medium, and in changes that wait.
    names: usize,
    durable_names: usize,
    waiting_names: usize,
    handles: usize,
}

enum Kind {
    File(FileData),
    Directory { entries: BTreeMap<String, u64>, durable: BTreeMap<String, u64> },
}

impl Inode {
    fn new(kind: Kind) -> Self {
        Self { kind, names: 0, durable_names: 0, waiting_names: 0, handles: 0 }
    }

    fn directory() -> Self {
        Self::new(Kind::Directory { entries: BTreeMap::new(), durable: BTreeMap::new() })
    }

    fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// Whether its blocks count: those of a removed file that nobody has open do not.
    fn is_charged(&self) -> bool {
        self.names > 0 || self.handles > 0
    }

    fn is_needed(&self) -> bool {
        self.is_charged() || self.durable_names > 0 || self.waiting_names > 0
    }
}

/// One entry's new state.
struct Effect {
    directory: u64,
    name: String,
    to: Option<u64>,
}

/// A change of names that is not durable yet.
struct Change {
    sequence: u64,
    effects: Vec<Effect>,
}

pub(super) struct Names {
    inodes: HashMap<u64, Inode>,
    next: u64,
    changes: Vec<Change>,
    /// Whether a directory was freed: what waits for its sync waits in vain.
    purge_due: bool,
}

impl Names {
    pub(super) fn new() -> Self {
        let mut root = Inode::directory();
        (root.names, root.durable_names) = (1, 1);
        let mut inodes = HashMap::default();
        inodes.insert(ROOT, root);
        Self { inodes, next: ROOT + 1, changes: Vec::new(), purge_due: false }
    }

    /// Blocks that all files take.
    pub(super) fn charged(&self) -> usize {
        self.inodes.values().filter(|inode| inode.is_charged()).map(Inode::file_blocks).sum()
    }

    /// The inode of a path.
    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        let mut inode = ROOT;
        for name in parts(path)? {
            inode = *self.entries(inode)?.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(inode)
    }

    /// The directory and the last name of a path.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(u64, &'a str)> {
        let mut names = parts(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut directory = ROOT;
        for name in names {
            directory = *self.entries(directory)?.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        self.entries(directory)?;
        Ok((directory, name))
    }

    pub(super) fn entries(&self, directory: u64) -> io::Result<&BTreeMap<String, u64>> {
        match &self.inode(directory)?.kind {
            Kind::Directory { entries, .. } => Ok(entries),
            Kind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, inode: u64) -> io::Result<&FileData> {
        match &self.inode(inode)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory { .. } => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, inode: u64) -> io::Result<&mut FileData> {
        match self.inodes.get_mut(&inode).map(|inode| &mut inode.kind) {
            Some(Kind::File(file)) => Ok(file),
            Some(Kind::Directory { .. }) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// A listing's columns for an inode: whether it is a directory, and its length.
    pub(super) fn describe(&self, inode: u64) -> (bool, u64) {
        match self.inodes.get(&inode).map(|inode| &inode.kind) {
            Some(Kind::File(file)) => (false, file.len()),
            _ => (true, BLOCK_OF_DIRECTORY),
        }
    }

    pub(super) fn create(&mut self, sequence: u64, directory: u64, name: &str, is_directory: bool) -> u64 {
        let inode = self.next;
        self.next += 1;
        let made =
            if is_directory { Inode::directory() } else { Inode::new(Kind::File(FileData::default())) };
        self.inodes.insert(inode, made);
        self.change(sequence, &[(directory, name, Some(inode))]);
        inode
    }

    pub(super) fn rename(&mut self, sequence: u64, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = self.parent(from)?;
        let inode = *self.entries(from_directory)?.get(from_name).ok_or(io::ErrorKind::NotFound)?;
        let (to_directory, to_name) = self.parent(to)?;
        if let Some(&replaced) = self.entries(to_directory)?.get(to_name) {
            if replaced == inode {
                return Ok(());
            }
            match (self.inode(inode)?.is_directory(), self.inode(replaced)?.is_directory()) {
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, true) if !self.entries(replaced)?.is_empty() => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                _ => {}
            }
        }
        self.change(sequence, &[(from_directory, from_name, None), (to_directory, to_name, Some(inode))]);
        Ok(())
    }

    pub(super) fn link(&mut self, sequence: u64, from: &Path, to: &Path) -> io::Result<()> {
        let inode = self.find(from)?;
        let (directory, name) = self.parent(to)?;
        if self.inode(inode)?.is_directory() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if self.entries(directory)?.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(sequence, &[(directory, name, Some(inode))]);
        Ok(())
    }

    pub(super) fn unlink(&mut self, sequence: u64, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let inode = *self.entries(directory)?.get(name).ok_or(io::ErrorKind::NotFound)?;
        if self.inode(inode)?.is_directory() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(sequence, &[(directory, name, None)]);
        Ok(())
    }

    /// Removes all in a directory, and itself: each a change of its own.
    pub(super) fn remove_tree(&mut self, sequence: &mut u64, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let top = self.find(path)?;
        let mut order = vec![(directory, name.to_owned())];
        let mut next = 0;
        self.entries(top)?;
        let mut open = vec![top];
        while let Some(&within) = open.get(next) {
            next += 1;
            for (name, &inode) in self.entries(within)? {
                order.push((within, name.clone()));
                if self.inode(inode)?.is_directory() {
                    open.push(inode);
                }
            }
        }
        for (directory, name) in order.into_iter().rev() {
            *sequence += 1;
            self.change(*sequence, &[(directory, &name, None)]);
        }
        Ok(())
    }

    pub(super) fn open(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.handles += 1;
        }
    }

    pub(super) fn close(&mut self, inode: u64) {
        if let Some(open) = self.inodes.get_mut(&inode) {
            open.handles -= 1;
            self.free(inode);
            self.purge();
        }
    }

    /// Makes the changes up to number `upto` in a directory durable.
    pub(super) fn sync(&mut self, directory: u64, upto: u64) {
        let mut waiting = Vec::with_capacity(self.changes.len());
        for change in std::mem::take(&mut self.changes) {
            if change.sequence > upto || change.effects.iter().all(|effect| effect.directory != directory) {
                waiting.push(change);
                continue;
            }
            for effect in &change.effects {
                if effect.directory != directory {
                    self.supersede(&mut waiting, effect);
                }
            }
            self.commit(change);
        }
        self.changes = waiting;
        self.purge();
    }

    /// A power cut: each change that was not synced is kept or lost.
    pub(super) fn crash(&mut self, odds: &CrashOdds, chance: &Random) {
        let mut touched = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            touched.extend(change.effects.iter().map(|effect| effect.directory));
            if chance.percent(odds.entry_lost_percent) {
                self.forget(change);
            } else {
                self.commit(change);
            }
        }
        for directory in touched {
            if let Some(Inode { kind: Kind::Directory { entries, durable }, .. }) =
                self.inodes.get_mut(&directory)
            {
                entries.clone_from(durable);
            }
        }
        let mut at_risk: Vec<u64> =
            self.inodes.iter().filter(|(_, inode)| inode.is_at_risk()).map(|(id, _)| *id).collect();
        at_risk.sort_unstable();
        for inode in at_risk {
            if let Ok(file) = self.file_mut(inode) {
                file.crash(odds, chance);
            }
        }
        self.keep_reachable();
    }

    /// The process died: its handles are gone.
    pub(super) fn close_all(&mut self) {
        let open: Vec<u64> =
            self.inodes.iter().filter(|(_, inode)| inode.handles > 0).map(|(id, _)| *id).collect();
        for id in open {
            if let Some(inode) = self.inodes.get_mut(&id) {
                inode.handles = 0;
            }
            self.free(id);
        }
        self.purge();
    }

    /// Every file's path and inode, in order.
    pub(super) fn walk(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = open.pop() {
            match self.inodes.get(&inode).map(|inode| &inode.kind) {
                Some(Kind::Directory { entries, .. }) => {
                    open.extend(entries.iter().map(|(name, inode)| (format!("{path}/{name}"), *inode)));
                }
                _ => found.push((path, inode)),
            }
        }
        found.sort();
        found
    }

    fn inode(&self, inode: u64) -> io::Result<&Inode> {
        self.inodes.get(&inode).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Changes entries as readers see them, and keeps in mind what waits for a sync.
    fn change(&mut self, sequence: u64, entries: &[(u64, &str, Option<u64>)]) {
        let mut effects = Vec::with_capacity(entries.len());
        let mut released = Vec::new();
        for &(directory, name, to) in entries {
            if let Some(inode) = to.and_then(|to| self.inodes.get_mut(&to)) {
                inode.names += 1;
                inode.waiting_names += 1;
            }
            let Some(Inode { kind: Kind::Directory { entries, .. }, .. }) = self.inodes.get_mut(&directory)
            else {
                panic!("entries are changed in directories");
            };
            let before = match to {
                Some(to) => entries.insert(name.to_owned(), to),
                None => entries.remove(name),
            };
            if let Some(inode) = before.and_then(|before| self.inodes.get_mut(&before)) {
                inode.names -= 1;
            }
            released.extend(before);
            effects.push(Effect { directory, name: name.to_owned(), to });
        }
        self.changes.push(Change { sequence, effects });
        for inode in released {
            self.free(inode);
        }
    }

    fn commit(&mut self, change: Change) {
        for Effect { directory, name, to } in change.effects {
            if let Some(inode) = to.and_then(|to| self.inodes.get_mut(&to)) {
                inode.waiting_names -= 1;
                inode.durable_names += 1;
            }
            // The directory itself may be gone for good by now; nothing is left to be named in it then.
            let before = match self.inodes.get_mut(&directory) {
                Some(Inode { kind: Kind::Directory { durable, .. }, .. }) => match to {
                    Some(to) => durable.insert(name, to),
                    None => durable.remove(&name),
                },
                _ => to,
            };
            if let Some(before) = before {
                if let Some(inode) = self.inodes.get_mut(&before) {
                    inode.durable_names -= 1;
                }
                self.free(before);
            }
        }
    }

    fn forget(&mut self, change: Change) {
        for effect in change.effects {
            self.forget_effect(&effect);
        }
    }

    fn forget_effect(&mut self, effect: &Effect) {
        if let Some(to) = effect.to {
            if let Some(inode) = self.inodes.get_mut(&to) {
                inode.waiting_names -= 1;
            }
            self.free(to);
        }
    }

    /// Takes out of earlier changes what a durable one has decided since.
    fn supersede(&mut self, waiting: &mut [Change], decided: &Effect) {
        for change in waiting {
            let same =
                |effect: &mut Effect| effect.directory == decided.directory && effect.name == decided.name;
            let old: Vec<Effect> = change.effects.extract_if(.., same).collect();
            for effect in old {
                self.forget_effect(&effect);
            }
        }
    }

    /// Frees an inode that nothing names, holds or may bring back; and what only it named.
    fn free(&mut self, inode: u64) {
        let mut doubtful = vec![inode];
        while let Some(id) = doubtful.pop() {
            if self.inodes.get(&id).is_none_or(Inode::is_needed) {
                continue;
            }
            let Some(Inode { kind: Kind::Directory { durable, .. }, .. }) = self.inodes.remove(&id) else {
                continue;
            };
            for child in durable.into_values() {
                if let Some(inode) = self.inodes.get_mut(&child) {
                    inode.durable_names -= 1;
                }
                doubtful.push(child);
            }
            self.purge_due = true;
        }
    }

    /// Forgets what waits for the sync of directories that are gone.
    fn purge(&mut self) {
        while std::mem::take(&mut self.purge_due) {
            let mut changes = std::mem::take(&mut self.changes);
            for change in &mut changes {
                let gone = |effect: &mut Effect| !self.inodes.contains_key(&effect.directory);
                for effect in change.effects.extract_if(.., gone).collect::<Vec<_>>() {
                    self.forget_effect(&effect);
                }
            }
            changes.retain(|change| !change.effects.is_empty());
            self.changes = changes;
        }
    }

    /// After a power cut: what the root does not reach is gone, and the counts are those of the medium.
    fn keep_reachable(&mut self) {
        let mut names: BTreeMap<u64, usize> = BTreeMap::from([(ROOT, 1)]);
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            let Some(Inode { kind: Kind::Directory { entries, .. }, .. }) = self.inodes.get(&inode) else {
                continue;
            };
            for &child in entries.values() {
                let count = names.entry(child).or_default();
                *count += 1;
                if *count == 1 {
                    open.push(child);
                }
            }
        }
        self.inodes.retain(|id, inode| {
            let count = names.get(id).copied().unwrap_or_default();
            (inode.names, inode.durable_names) = (count, count);
            (inode.waiting_names, inode.handles) = (0, 0);
            count > 0
        });
    }
}

/// What a listing says of a directory's length.
const BLOCK_OF_DIRECTORY: u64 = 4096;

impl Inode {
    fn file_blocks(&self) -> usize {
        match &self.kind {
            Kind::File(file) => file.charged(),
            Kind::Directory { .. } => 0,
        }
    }

    fn is_at_risk(&self) -> bool {
        matches!(&self.kind, Kind::File(file) if file.is_at_risk())
    }
}

/// A path's names; relative paths begin at the root as well.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidFilename)?),
            Component::ParentDir => {
                names.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
