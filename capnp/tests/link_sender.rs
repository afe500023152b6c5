//! The sending end of a link in the simulator: what it sends, what it drops, and how it gets over trouble.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;
mod receiver;

use memory::Memory;
use pinion_capnp::server::serve;
use pinion_capnp::{
    ClientError, Limits, LinkHello, LinkLimits, LinkSender, RegionMessage, SnapshotChunk, SnapshotKey,
    WireError,
};
use pinion_raft::{Entry, Message, MessageKind};
use pinion_runtime::net::TcpListener;
use pinion_runtime::sim::{self, Config, Host, Simulation};
use pinion_runtime::{now, sleep, spawn};
use pinion_types::{CoreId, LogIndex, Peer, PeerId, RegionId, StoreId};
use receiver::{CLUSTER, RECEIVER, Receiver};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

const PORT: u16 = 20160;
const SEEDS: u64 = 10;

/// Serves links on this core.
async fn listen(address: SocketAddr, receiver: Receiver) {
    let listener = TcpListener::bind(address).unwrap();
    loop {
        let stream = listener.accept().await.unwrap();
        let services = receiver.services(Memory::new(), Memory::new());
        spawn(async move { drop(serve(stream, services, Rc::new(Limits::default())).await) });
    }
}

/// A store that takes links, and a link to it from the driver.
struct Pair<'s> {
    simulation: &'s Simulation,
    host: Host,
    receiver: Receiver,
    /// Peers that messages were lost to.
    lost: Rc<RefCell<Vec<(RegionId, PeerId)>>>,
    sender: LinkSender,
}

fn hello() -> LinkHello {
    LinkHello { cluster: CLUSTER, from: StoreId(1), to: RECEIVER, ..LinkHello::default() }
}

fn with_pair(seed: u64, hello: LinkHello, limits: LinkLimits, test: impl FnOnce(Pair<'_>) + Send) {
    sim::run(Config::new(seed), |simulation| {
        let (host, receiver) = (simulation.add_host("receiver"), Receiver::default());
        host.spawn_core(CoreId(0), listen(host.address(PORT), receiver.clone()));
        simulation.run_for(Duration::from_millis(1));
        let lost = Rc::new(RefCell::new(Vec::new()));
        let (address, noted) = (host.address(PORT), lost.clone());
        let sender = simulation.block_on(async {
            LinkSender::new(
                hello,
                move || Some(address),
                limits,
                move |region, peer| {
                    noted.borrow_mut().push((region, peer));
                },
            )
        });
        test(Pair { simulation, host, receiver, lost, sender });
    });
}

impl Pair<'_> {
    fn run_for_ms(&self, millis: u64) {
        self.simulation.run_for(Duration::from_millis(millis));
    }

    /// Sends a heartbeat every 10 ms until one arrives. How long that took.
    fn send_until_heard(&self) -> Duration {
        let begun = self.simulation.elapsed();
        self.receiver.take_messages();
        while self.receiver.take_messages().is_empty() {
            self.sender.send(message(MessageKind::Heartbeat, 0, 0));
            self.run_for_ms(10);
        }
        self.simulation.elapsed().saturating_sub(begun)
    }
}

fn message(kind: MessageKind, index: u64, bytes: usize) -> RegionMessage {
    let entry = Entry { data: vec![7; bytes].into(), ..Entry::default() };
    let entries = if bytes > 0 { vec![entry] } else { Vec::new() };
    let (from, to) = (PeerId(1), PeerId(2));
    let message = Message { kind, from, to, index: LogIndex(index), entries, ..Message::default() };
    let peer = |id, store| Peer { id, store, ..Peer::default() };
    let (from, to) = (peer(from, StoreId(1)), peer(to, RECEIVER));
    RegionMessage { region: RegionId(9), from, to, message, ..RegionMessage::default() }
}

fn indexes(messages: &[RegionMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.message.index.0).collect()
}

#[test]
fn what_gathers_goes_as_one_call_and_in_order() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            for index in 0..100 {
                pair.sender.send(message(MessageKind::Append, index, 100));
            }
            pair.run_for_ms(50);
            let batches = pair.receiver.take_batches();
            assert_eq!(batches.len(), 1);
            assert_eq!(indexes(&batches[0]), (0..100).collect::<Vec<_>>());
            for index in 0..300 {
                pair.sender.send(message(MessageKind::Append, index, 10_000));
            }
            pair.run_for_ms(2000);
            let batches = pair.receiver.take_batches();
            assert!((3..6).contains(&batches.len()), "{} batches", batches.len());
            assert_eq!(indexes(&batches.concat()), (0..300).collect::<Vec<_>>());
            let statistics = pair.sender.statistics();
            assert_eq!((statistics.messages, statistics.connections), (400, 1));
            assert_eq!(statistics.batches, 1 + batches.len() as u64);
            assert_eq!((statistics.dropped, statistics.lost, statistics.waiting_bytes), (0, 0, 0));
            assert!(pair.lost.borrow().is_empty());
        });
    }
}

#[test]
fn later_batches_do_not_wait_for_answers() {
    with_pair(1, hello(), LinkLimits::default(), |pair| {
        let far = Duration::from_millis(100);
        for (from, to) in [(pair.simulation.driver(), &pair.host), (&pair.host, pair.simulation.driver())] {
            pair.simulation.set_network_delay(from, to, far..far + Duration::from_millis(1));
        }
        pair.send_until_heard();
        pair.run_for_ms(1000);
        for index in 0..5 {
            pair.sender.send(message(MessageKind::Append, index, 10));
            pair.run_for_ms(5);
        }
        // The first answer has not come yet.
        pair.receiver.take_batches();
        pair.run_for_ms(130);
        assert_eq!(pair.receiver.take_batches().len(), 5);
    });
}

#[test]
fn a_heartbeat_overtakes_megabytes_of_entries() {
    with_pair(1, hello(), LinkLimits::default(), |pair| {
        for index in 0..12 {
            pair.sender.send(message(MessageKind::Append, index, 1 << 20));
        }
        pair.sender.send(message(MessageKind::Heartbeat, 100, 0));
        pair.simulation.run_until(Duration::from_millis(1), || pair.sender.statistics().waiting_bytes == 0);
        pair.run_for_ms(5000);
        let arrived = indexes(&pair.receiver.take_messages());
        assert_eq!(arrived, std::iter::once(100).chain(0..12).collect::<Vec<_>>());
        // When the window is full already, one still goes behind what is under way, and not behind what waits.
        for index in 0..12 {
            pair.sender.send(message(MessageKind::Append, index, 1 << 20));
        }
        pair.run_for_ms(1);
        pair.sender.send(message(MessageKind::Heartbeat, 100, 0));
        pair.run_for_ms(5000);
        let arrived = indexes(&pair.receiver.take_messages());
        let place = arrived.iter().position(|&index| index == 100).unwrap();
        assert!(place <= 5, "{arrived:?}");
        assert_eq!(arrived.len(), 13);
    });
}

#[test]
fn a_connection_that_the_other_end_has_forgotten_is_replaced() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            pair.send_until_heard();
            pair.run_for_ms(100);
            pair.simulation.half_open_connections(&pair.host, pair.simulation.driver());
            let took = pair.send_until_heard();
            assert!(took < Duration::from_millis(300), "{took:?}");
            assert!(!pair.lost.borrow().is_empty());
            let statistics = pair.sender.statistics();
            assert_eq!(statistics.connections, 2);
            assert!(statistics.lost > 0);
        });
    }
}

#[test]
fn silence_ends_a_connection_and_what_was_under_way_is_told_as_lost() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            pair.send_until_heard();
            pair.run_for_ms(100);
            pair.simulation.partition(pair.simulation.driver(), &pair.host);
            pair.sender.send(message(MessageKind::Append, 1, 10));
            pair.run_for_ms(2900);
            assert!(pair.lost.borrow().is_empty(), "not yet");
            pair.run_for_ms(200);
            assert_eq!(*pair.lost.borrow(), [(RegionId(9), PeerId(2))]);
            assert_eq!(pair.sender.statistics().lost, 1);
            assert_eq!(pair.sender.last_error(), Some(ClientError::TimedOut(Duration::from_secs(3))));
            pair.simulation.heal_all();
            let took = pair.send_until_heard();
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
    }
}

#[test]
fn silence_ends_the_calls_on_the_second_connection_too() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            pair.send_until_heard();
            pair.simulation.block_on(async {
                assert_eq!(pair.sender.allocate_ids(1).await, Ok(1));
                pair.simulation.silence_connections(pair.simulation.driver(), &pair.host);
                let begun = now();
                pair.sender.send(message(MessageKind::Append, 1, 10));
                assert!(pair.sender.allocate_ids(1).await.is_err());
                assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
                assert_eq!(pair.sender.allocate_ids(1).await, Ok(2));
            });
        });
    }
}

#[test]
fn a_second_connection_that_was_idle_is_not_relied_upon() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            pair.simulation.block_on(async {
                assert_eq!(pair.sender.allocate_ids(1).await, Ok(1));
                pinion_runtime::sleep(Duration::from_secs(5)).await;
                // Nothing else goes over the link by which it would find out.
                pair.simulation.silence_connections(pair.simulation.driver(), &pair.host);
                let begun = now();
                assert_eq!(pair.sender.allocate_ids(1).await, Ok(2));
                assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            });
        });
    }
}

#[test]
fn an_idle_connection_that_was_closed_costs_no_message() {
    with_pair(1, hello(), LinkLimits::default(), |pair| {
        pair.send_until_heard();
        // The server's idle time is 10 minutes.
        pair.simulation.run_for(Duration::from_mins(15));
        pair.sender.send(message(MessageKind::Append, 5, 10));
        pair.run_for_ms(20);
        assert_eq!(indexes(&pair.receiver.take_messages()), [5]);
        assert!(pair.lost.borrow().is_empty());
        assert_eq!(pair.sender.statistics().connections, 2);
    });
}

#[test]
fn a_store_that_comes_back_is_reached_again() {
    for seed in 0..SEEDS {
        with_pair(seed, hello(), LinkLimits::default(), |pair| {
            pair.send_until_heard();
            pair.host.crash();
            for _ in 0..2000 {
                pair.sender.send(message(MessageKind::Append, 1, 1000));
                pair.run_for_ms(10);
            }
            let statistics = pair.sender.statistics();
            assert!(statistics.failures > 3, "{statistics:?}");
            assert!(statistics.failures < 20, "{statistics:?}");
            assert!(statistics.dropped > 1000, "{statistics:?}");
            assert!(!pair.lost.borrow().is_empty());
            pair.host.start();
            pair.host.spawn_core(CoreId(0), listen(pair.host.address(PORT), pair.receiver.clone()));
            let took = pair.send_until_heard();
            assert!(took < Duration::from_secs(5), "{took:?}");
        });
    }
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory() {
    with_pair(1, hello(), LinkLimits::default(), |pair| {
        pair.send_until_heard();
        pair.run_for_ms(100);
        pair.host.pause();
        let before = pair.sender.statistics();
        for index in 0..5000 {
            pair.sender.send(message(MessageKind::Append, index, 10_000));
            pair.sender.send(message(MessageKind::Heartbeat, index, 0));
            if index % 100 == 0 {
                pair.run_for_ms(10);
            }
            let statistics = pair.sender.statistics();
            assert!(statistics.waiting_bytes <= 17 << 20, "{statistics:?}");
            // A window, a batch more, and the window of the urgent ones.
            assert!(statistics.bytes - before.bytes <= 6 << 20, "{statistics:?}");
        }
        let statistics = pair.sender.statistics();
        assert!(statistics.dropped > 2000, "{statistics:?}");
        let told = pair.lost.borrow().len();
        assert!(told > 0 && told < 100, "told {told} times");
        pair.run_for_ms(4000);
        assert_eq!(pair.sender.statistics().waiting_bytes, 0, "the link is down");
        pair.host.resume();
        assert!(pair.send_until_heard() < Duration::from_secs(5));
    });
}

#[test]
fn a_store_of_another_cluster_is_tried_now_and_then_and_never_sent_to() {
    let hello = LinkHello { cluster: CLUSTER + 1, ..hello() };
    with_pair(1, hello, LinkLimits::default(), |pair| {
        for _ in 0..1000 {
            pair.sender.send(message(MessageKind::Append, 1, 10));
            pair.run_for_ms(10);
        }
        assert_eq!(pair.receiver.take_messages(), []);
        let tries = pair.receiver.hellos().len();
        assert!((5..25).contains(&tries), "{tries} tries in 10 s");
        let refusal = WireError::ClusterNotMatch { requested: CLUSTER + 1, actual: CLUSTER };
        assert_eq!(pair.sender.last_error(), Some(ClientError::Refused(refusal)));
        let statistics = pair.sender.statistics();
        assert_eq!((statistics.messages, statistics.dropped), (0, 1000));
        let refused = pair.simulation.block_on(pair.sender.allocate_ids(1));
        assert!(matches!(refused, Err(ClientError::Refused(_))));
    });
}

#[test]
fn a_snapshot_holds_up_no_messages_and_its_calls_end_in_time() {
    let limits = LinkLimits { call_timeout: Duration::from_secs(5), ..LinkLimits::default() };
    with_pair(1, hello(), limits, |pair| {
        pair.send_until_heard();
        let sender = pair.sender.clone();
        let key = SnapshotKey { region: RegionId(9), to: PeerId(2), ..SnapshotKey::default() };
        let chunk = SnapshotChunk { key, data: vec![1; 4 << 20].into(), ..SnapshotChunk::default() };
        pair.simulation.block_on(async {
            assert_eq!(sender.allocate_ids(3).await, Ok(1));
            let copy = sender.clone();
            let sending = spawn(async move { copy.snapshot_chunk(&chunk).await });
            sender.send(message(MessageKind::Append, 1, 10));
            sleep(Duration::from_millis(3)).await;
            assert_eq!(pair.receiver.take_messages().len(), 1);
            assert!(pair.receiver.chunks().is_empty(), "the chunk is on its way still");
            sending.await.unwrap();
            assert_eq!(pair.receiver.chunks().len(), 1);
        });
        pair.receiver.set_delay(Duration::from_mins(1));
        pair.simulation.block_on(async {
            let begun = now();
            let late = sender.allocate_ids(1).await;
            assert_eq!(late, Err(ClientError::TimedOut(Duration::from_secs(5))));
            assert!(begun.elapsed() < Duration::from_secs(6));
            pair.receiver.set_delay(Duration::ZERO);
            assert_eq!(sender.allocate_ids(1).await, Ok(5));
        });
    });
}

#[test]
fn without_an_address_messages_are_dropped_until_there_is_one() {
    sim::run(Config::new(1), |simulation| {
        let (host, receiver) = (simulation.add_host("receiver"), Receiver::default());
        host.spawn_core(CoreId(0), listen(host.address(PORT), receiver.clone()));
        let known = Rc::new(RefCell::new(None));
        let asked = known.clone();
        let sender = simulation.block_on(async {
            LinkSender::new(hello(), move || *asked.borrow(), LinkLimits::default(), |_, _| {})
        });
        sender.send(message(MessageKind::Append, 1, 10));
        simulation.run_for(Duration::from_secs(1));
        assert_eq!(sender.statistics().dropped, 1);
        *known.borrow_mut() = Some(host.address(PORT));
        sender.send(message(MessageKind::Append, 2, 10));
        simulation.run_for(Duration::from_secs(1));
        assert_eq!(indexes(&receiver.take_messages()), [2]);
    });
}

#[test]
fn a_link_that_nobody_uses_any_more_forgets_what_it_had_to_send() {
    with_pair(1, hello(), LinkLimits::default(), |pair| {
        pair.send_until_heard();
        pair.run_for_ms(100);
        pair.simulation.partition(pair.simulation.driver(), &pair.host);
        pair.sender.send(message(MessageKind::Append, 1, 10));
        pair.run_for_ms(100);
        let Pair { simulation, receiver, lost, sender, .. } = pair;
        drop(sender);
        simulation.run_for(Duration::from_secs(10));
        simulation.heal_all();
        simulation.run_for(Duration::from_secs(10));
        // What closes the link tells nobody, and keeps nothing that the callback holds.
        assert!(lost.borrow().is_empty());
        assert_eq!(Rc::strong_count(&lost), 1);
        drop(receiver);
    });
}
