//! A tree's files: their numbers, and those that are to be removed.

use crate::Error;
use crate::manifest::{TreeState, table_file_name, table_file_number};
use pinion_runtime::fs;
use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;

/// A tree's directory.
pub(crate) struct Files {
    directory: RefCell<PathBuf>,
    next: Cell<u64>,
    /// Files that nobody reads any more. Bounded by the files that there are.
    obsolete: RefCell<Vec<u64>>,
    /// The files are somebody else's, or nobody knows whose.
    given_up: Cell<bool>,
}

impl Files {
    pub(crate) fn new(directory: PathBuf, next: u64) -> Self {
        Self {
            directory: RefCell::new(directory),
            next: Cell::new(next),
            obsolete: RefCell::default(),
            given_up: Cell::new(false),
        }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.borrow().clone()
    }

    /// The directory has another name now.
    pub(crate) fn move_to(&self, directory: PathBuf) {
        *self.directory.borrow_mut() = directory;
    }

    /// From here on no file is removed.
    pub(crate) fn give_up(&self) {
        self.given_up.set(true);
        self.obsolete.take();
    }

    pub(crate) fn path(&self, file: u64) -> PathBuf {
        self.directory.borrow().join(table_file_name(file))
    }

    /// No file has this number or a higher one.
    pub(crate) fn next(&self) -> u64 {
        self.next.get()
    }

    /// A number that no file has.
    pub(crate) fn allocate(&self) -> u64 {
        let file = self.next.get();
        self.next.set(file + 1);
        file
    }

    /// No file below `next` is to be made any more.
    pub(crate) fn skip_to(&self, next: u64) {
        self.next.set(next.max(self.next.get()));
    }

    pub(crate) fn add_obsolete(&self, file: u64) {
        if !self.given_up.get() {
            self.obsolete.borrow_mut().push(file);
        }
    }

    pub(crate) fn has_obsolete(&self) -> bool {
        !self.obsolete.borrow().is_empty()
    }

    /// Removes what nobody reads any more. What cannot be removed is tried again the next time.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        let files = self.obsolete.take();
        let mut failed = Ok(());
        for file in files {
            let path = self.path(file);
            match fs::remove_large_file(&path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.add_obsolete(file);
                    failed = Err(Error::io(&path, error));
                }
                _ => {}
            }
        }
        failed
    }

    /// The same where a failure changes nothing: the files stay in the queue.
    pub(crate) async fn purge_leniently(&self) {
        drop(self.purge().await);
    }

    /// Removes tables in the directory that the state does not name: what a crash left behind.
    pub(crate) async fn remove_strays(&self, state: &TreeState) -> Result<(), Error> {
        let directory = self.directory();
        let entries = fs::read_dir(&directory).await.map_err(|error| Error::io(&directory, error))?;
        for entry in entries {
            let stray = table_file_number(&entry.name)
                .is_some_and(|file| !entry.is_dir && state.tables.iter().all(|table| table.file != file));
            if stray {
                let path = directory.join(&entry.name);
                fs::remove_file(&path).await.map_err(|error| Error::io(&path, error))?;
            }
        }
        Ok(())
    }

    /// Makes the names of new files durable.
    pub(crate) async fn sync(&self) -> Result<(), Error> {
        let directory = self.directory();
        fs::sync_dir(&directory).await.map_err(|error| Error::io(&directory, error))
    }
}
