//! A cluster as its client sees it: regions, stores, connections; and how any of them is found.

use crate::attempt;
use crate::book::Book;
use crate::cache::{Cache, Entry};
use crate::pool::{self, Pool, Whom};
use crate::retry::{Failure, Pause, Retry};
use crate::watch::Watch;
use crate::{Error, Options};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use pinion_capnp::{Client as Connection, ClientError, RegionInfo, WireError};
use pinion_runtime::{Instant, now, spawn};
use pinion_types::{RegionId, StoreId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// How long one store may take to answer a question that any store could answer.
const ASK_MAX: Duration = Duration::from_secs(1);
/// Stores that are asked such a question at the same time.
const ASKED_MAX: usize = 8;
/// How often the list of stores is asked for.
const STORES_EVERY: Duration = Duration::from_millis(500);

/// How long after a store has said that it stops no call is sent to it.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// A cluster. Clones share what they know and their connections; runs on `pinion_runtime`.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) known: Rc<Known>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) options: Rc<Options>,
}

/// What is known of the cluster.
pub(crate) struct Known {
    id: u64,
    pub(crate) cache: RefCell<Cache>,
    pub(crate) book: RefCell<Book>,
    pub(crate) watch: Watch,
    stores_asked: Cell<Option<Instant>>,
    /// Stores that said that they stop, and when.
    leaving: RefCell<BTreeMap<StoreId, Instant>>,
    /// How often a store said that it was busy.
    pub(crate) busy: Cell<u64>,
}

impl Known {
    /// A store said that it stops.
    pub(crate) fn leaves(&self, store: StoreId) {
        self.leaving.borrow_mut().insert(store, now());
    }

    /// Whether a store said so a short while ago. What is sent to it now could be cut off without an answer.
    pub(crate) fn is_leaving(&self, store: StoreId) -> bool {
        self.leaving.borrow().get(&store).is_some_and(|told| told.elapsed() < LEAVES_WITHIN)
    }
}

impl Cluster {
    /// Connects to the cluster of the first of these stores that can be reached. Each is tried once.
    pub async fn connect(addresses: &[SocketAddr], options: Options) -> Result<Self, Error> {
        let watch = Watch::default();
        let mut last = ClientError::Closed("no address is given".to_owned());
        for (place, address) in addresses.iter().enumerate() {
            // A store that is starting answers when it has started. Where there is no other one to ask it is waited for.
            let is_last = place + 1 == addresses.len();
            let timeout = if is_last { options.call_timeout } else { pool::CONNECT_MAX };
            let (connection, info) = match pool::connect(*address, timeout, &watch).await {
                Ok(reached) => reached,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let known = Known {
                id: info.cluster,
                cache: RefCell::default(),
                book: RefCell::default(),
                watch,
                stores_asked: Cell::default(),
                leaving: RefCell::default(),
                busy: Cell::default(),
            };
            known.book.borrow_mut().note_itself(&info, *address);
            let pool = Rc::new(Pool::default());
            pool.put(*address, connection);
            let cluster = Self { known: Rc::new(known), pool, options: Rc::new(options) };
            cluster.learn_stores().await;
            return Ok(cluster);
        }
        Err(Error::Unreachable { addresses: addresses.to_vec(), last })
    }

    /// The cluster's id.
    pub fn id(&self) -> u64 {
        self.known.id
    }

    /// How often a store said that it was busy, and was asked again later.
    pub fn busy_count(&self) -> u64 {
        self.known.busy.get()
    }

    /// The same client with another limit on the time of each call.
    #[must_use]
    pub fn with_timeout(&self, call_timeout: Duration) -> Self {
        let options = Options { call_timeout, ..(*self.options).clone() };
        Self { options: Rc::new(options), ..self.clone() }
    }

    /// The same client with connections of its own: what goes over one connection is handled in turn.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        Self { pool: Rc::default(), ..self.clone() }
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.options.call_timeout)
    }

    /// The region of a stored key, from memory or from a store.
    pub(crate) async fn locate(&self, stored: &[u8]) -> Result<Rc<Entry>, Failure> {
        // The borrow ends before anything waits.
        let found = self.known.cache.borrow().find(stored);
        match found {
            Some(entry) => Ok(entry),
            None => self.look_up(stored).await,
        }
    }

    /// Asks the stores for the region of a stored key; the leader's word counts most, then the newest.
    async fn look_up(&self, stored: &[u8]) -> Result<Rc<Entry>, Failure> {
        let ask = async |connection: &Connection| connection.region(stored).await;
        let answers = self.ask_around(ask, |info| info.is_leader).await;
        let answers = answers.map_err(|error| Failure::Again(error, Pause::Growing))?;
        let rank = |info: &RegionInfo| {
            let epoch = info.region.epoch;
            (epoch.version, epoch.conf_ver, info.is_leader, info.term)
        };
        let best = answers.into_iter().max_by_key(|(_, info)| rank(info));
        let Some((store, info)) = best else {
            return Err(Failure::Again(WireError::RegionNotFound(RegionId(0)).into(), Pause::Growing));
        };
        self.known.book.borrow_mut().note_core(store, info.region.id, info.core);
        let leader = if info.is_leader { Some(store) } else { info.leader.map(|leader| leader.store) };
        Ok(self.known.cache.borrow_mut().insert(info.region, leader))
    }

    /// Asks every region of every store, and remembers them.
    pub(crate) async fn look_up_all(&self) -> Result<Vec<RegionInfo>, Failure> {
        let regions = self.every_region().await?;
        for info in &regions {
            let leader = info.leader.map(|leader| leader.store);
            self.known.cache.borrow_mut().insert(info.region.clone(), leader);
        }
        Ok(regions)
    }

    /// A connection for a region of a store, to the right core where that is known.
    pub(crate) async fn connection(
        &self,
        store: StoreId,
        region: RegionId,
    ) -> Result<(SocketAddr, Connection), ClientError> {
        let core = self.known.book.borrow().core_of(store, region);
        let mut addresses = self.known.book.borrow().addresses(store, core);
        if addresses.is_empty() {
            self.learn_stores().await;
            addresses = self.known.book.borrow().addresses(store, core);
        }
        let whom = Whom { cluster: self.known.id, store };
        let mut last = ClientError::Closed(format!("no address of store {store} is known"));
        for address in addresses {
            match self.pool.get(address, whom, &self.known.watch).await {
                Ok(connection) => return Ok((address, connection)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to a store, for what concerns all of it.
    pub(crate) async fn store_connection(&self, store: StoreId) -> Result<Connection, ClientError> {
        self.connection(store, RegionId(0)).await.map(|(_, connection)| connection)
    }

    /// What the stores answer to a question: all that answer in time, or fewer once one answer is enough. An error when none does.
    pub(crate) async fn ask_around<T>(
        &self,
        ask: impl AsyncFn(&Connection) -> Result<T, ClientError>,
        is_enough: impl Fn(&T) -> bool,
    ) -> Result<Vec<(StoreId, T)>, ClientError> {
        let stores = self.known.book.borrow().stores();
        let mut answers = Vec::new();
        let mut last = ClientError::Closed("no store is known".to_owned());
        for some in stores.chunks(ASKED_MAX) {
            let one = async |store: StoreId| {
                let asked = async { ask(&self.store_connection(store).await?).await };
                let answer = self.known.watch.until(now() + ASK_MAX, asked).await;
                (store, answer.unwrap_or(Err(ClientError::TimedOut(ASK_MAX))))
            };
            let mut asked: FuturesUnordered<_> = some.iter().map(|store| one(*store)).collect();
            while let Some((store, answer)) = asked.next().await {
                match answer {
                    Ok(answer) => {
                        let enough = is_enough(&answer);
                        answers.push((store, answer));
                        if enough {
                            return Ok(answers);
                        }
                    }
                    Err(error) => last = error,
                }
            }
        }
        if answers.is_empty() { Err(last) } else { Ok(answers) }
    }

    /// Asks for the list of stores, unless that was done just now.
    pub(crate) async fn learn_stores(&self) {
        if self.known.stores_asked.get().is_some_and(|asked| asked.elapsed() < STORES_EVERY) {
            return;
        }
        self.known.stores_asked.set(Some(now()));
        let ask = async |connection: &Connection| connection.stores().await;
        let answers = self.ask_around(ask, |_| true).await.unwrap_or_default();
        let mut book = self.known.book.borrow_mut();
        for record in answers.into_iter().flat_map(|(_, records)| records) {
            book.note(record);
        }
    }

    /// Asks a store, now and then and beside the calls, on which cores its regions are.
    pub(crate) fn learn_cores(&self, store: StoreId, region: RegionId) {
        if !self.known.book.borrow_mut().take_turn_to_ask(store, region) {
            return;
        }
        let cluster = self.clone();
        drop(spawn(async move {
            let asked = async { attempt::regions_of(&cluster.store_connection(store).await?).await };
            let regions = cluster.known.watch.until(now() + ASK_MAX, asked).await;
            if let Some(Ok(regions)) = regions {
                cluster.known.book.borrow_mut().note_cores(store, &regions);
            }
        }));
    }
}
