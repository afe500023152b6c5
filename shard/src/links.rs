//! A core's links to other stores, one for each core of theirs that it writes to; and its copy of the book.

use crate::core::{Inner, Shard};
use crate::message::Message;
use pinion_capnp::link::{LinkHello, RegionMessage};
use pinion_capnp::{ClientError, LinkLimits, LinkSender, StoreRecord, WireError};
use pinion_types::{CoreId, PeerId, RegionId, StoreId};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};

/// The links, and where the stores listen.
#[derive(Default)]
pub(crate) struct Links {
    /// Where the own cores listen.
    own: RefCell<Vec<String>>,
    book: Rc<RefCell<BTreeMap<StoreId, Listed>>>,
    senders: RefCell<BTreeMap<(StoreId, CoreId), LinkSender>>,
}

/// A store's place in the copy.
#[derive(Clone, Debug, Default)]
struct Listed {
    version: u64,
    texts: Vec<String>,
    addresses: Vec<SocketAddr>,
}

impl Listed {
    fn listen(&mut self, addresses: &[String]) {
        self.texts = addresses.to_vec();
        self.addresses = addresses.iter().filter_map(|text| text.parse().ok()).collect();
    }

    /// The address of a core, or of the first where a store has come back with fewer.
    fn address(&self, core: CoreId) -> Option<SocketAddr> {
        self.addresses.get(usize::from(core.0)).or(self.addresses.first()).copied()
    }
}

impl Links {
    /// Every other store that is known.
    pub(crate) fn stores(&self) -> Vec<StoreId> {
        self.book.borrow().keys().copied().collect()
    }

    /// The copy of the book.
    pub(crate) fn records(&self) -> Vec<StoreRecord> {
        let record = |(id, listed): (&StoreId, &Listed)| StoreRecord {
            id: *id,
            addresses: listed.texts.clone(),
            version: listed.version,
        };
        self.book.borrow().iter().map(record).collect()
    }

    /// Where a store's first core listens.
    pub(crate) fn address_of(&self, store: StoreId) -> Option<SocketAddr> {
        self.book.borrow().get(&store)?.address(CoreId(0))
    }

    /// Takes a record in, unless a newer one is there. Whether it says something new.
    fn learn(&self, record: &StoreRecord) -> bool {
        let mut book = self.book.borrow_mut();
        let there = book.entry(record.id).or_default();
        // Of the same version, what the store itself has said counts for more.
        let is_newer = there.texts.is_empty() || record.version > there.version;
        if is_newer {
            there.version = record.version;
            there.listen(&record.addresses);
        }
        is_newer
    }

    /// Takes in where a store itself says that it listens. It may have come back elsewhere and find nobody who could change the book.
    fn hear(&self, store: StoreId, addresses: &[String]) -> bool {
        let mut book = self.book.borrow_mut();
        let there = book.entry(store).or_default();
        let is_news = there.texts != addresses;
        if is_news {
            there.listen(addresses);
        }
        is_news
    }
}

impl Shard {
    /// Says where the store's cores listen, in their order; before this nothing is sent to other stores.
    pub fn set_addresses(&self, addresses: &[String]) {
        *self.0.links.own.borrow_mut() = addresses.to_vec();
    }

    /// Where the store's cores listen.
    pub(crate) fn own_addresses(&self) -> Vec<String> {
        self.0.links.own.borrow().clone()
    }

    /// Notes where stores listen, on every core.
    pub(crate) fn learn_stores(&self, records: &[StoreRecord]) {
        if self.learn_stores_here(records) {
            for core in self.other_cores() {
                self.send(core, Message::Stores(records.to_vec()));
            }
        }
    }

    /// Notes where a store itself says that it listens, on every core.
    pub(crate) fn hear_store(&self, store: StoreId, addresses: &[String]) {
        if store != self.0.store && self.0.links.hear(store, addresses) {
            for core in self.other_cores() {
                self.send(core, Message::Heard(store, addresses.to_vec()));
            }
        }
    }

    /// The same on this core alone.
    pub(crate) fn hear_store_here(&self, store: StoreId, addresses: &[String]) {
        self.0.links.hear(store, addresses);
    }

    /// Notes where stores listen, on this core alone. Whether there was news.
    pub(crate) fn learn_stores_here(&self, records: &[StoreRecord]) -> bool {
        let mut news = false;
        for record in records.iter().filter(|record| record.id != self.0.store) {
            news |= self.0.links.learn(record);
        }
        news
    }

    /// Sends a message to a core of its receiver's store. It is lost where nobody knows the store yet: Raft sends again with the next heartbeat.
    pub(crate) fn send_message(&self, core: CoreId, message: RegionMessage) {
        match self.link(message.to.store, core) {
            Some(link) => link.send(message),
            None => log::debug!("store {} is not known yet", message.to.store),
        }
    }

    /// The link to a core of a store that is in the book.
    pub(crate) fn link(&self, store: StoreId, core: CoreId) -> Option<LinkSender> {
        let links = &self.0.links;
        if let Some(link) = links.senders.borrow().get(&(store, core)) {
            return Some(link.clone());
        }
        let addresses = self.own_addresses();
        if addresses.is_empty() || !links.book.borrow().contains_key(&store) {
            return None;
        }
        let hello = LinkHello {
            cluster: self.0.cluster,
            from: self.0.store,
            from_core: self.0.core,
            to: store,
            addresses,
        };
        let book = links.book.clone();
        let address = move || book.borrow().get(&store)?.address(core);
        let weak: Weak<Inner> = Rc::downgrade(&self.0);
        let lost = move |region: RegionId, to: PeerId| {
            if let Some(inner) = weak.upgrade() {
                Self(inner).message_lost(region, to);
            }
        };
        let link = LinkSender::new(hello, address, LinkLimits::default(), lost);
        links.senders.borrow_mut().insert((store, core), link.clone());
        Some(link)
    }

    /// Asks another store for ids.
    pub(crate) async fn ask_for_ids(&self, store: StoreId, count: u64) -> Result<u64, WireError> {
        let link = self.link(store, CoreId(0)).ok_or_else(|| unreachable_store(store))?;
        link.allocate_ids(count).await.map_err(|error| asked(store, error))
    }
}

fn unreachable_store(store: StoreId) -> WireError {
    WireError::invalid(format!("store {store} is not known here"))
}

/// What another store's answer means to whoever asked this one.
pub(crate) fn asked(store: StoreId, error: ClientError) -> WireError {
    match error {
        ClientError::Refused(refused) => refused,
        other => WireError::Internal(format!("store {store}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_of_itself_counts_until_the_book_says_something_new() {
        let links = Links::default();
        let record = |version, port: u16| StoreRecord {
            id: StoreId(2),
            addresses: vec![format!("10.0.0.2:{port}")],
            version,
        };
        let port = || links.address_of(StoreId(2)).map(|address| address.port());
        assert!(links.learn(&record(4, 1)));
        // It has come back elsewhere, and nobody leads who could note it.
        assert!(links.hear(StoreId(2), &record(0, 2).addresses));
        assert!(!links.learn(&record(4, 1)), "the book as it was before");
        assert_eq!(port(), Some(2));
        assert!(links.learn(&record(5, 3)));
        assert_eq!(port(), Some(3));
    }
}
