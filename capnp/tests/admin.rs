//! The calls that make and change a cluster, over real sockets, with a store in memory behind them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod memory;

use memory::Memory;
use pinion_capnp::server::{Services, serve};
use pinion_capnp::{
    AdminService, Client, ClientError, JoinRequest, Limits, NoLinks, PeerChange, PeerChangeKind, RegionInfo,
    RegionPage, StoreInfo, StoreRecord, WireError,
};
use pinion_runtime::machine::block_on;
use pinion_runtime::net::TcpListener;
use pinion_runtime::spawn;
use pinion_types::{PeerId, PeerRole, RegionId, StoreId};
use std::rc::Rc;

async fn client(admin: impl AdminService) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr();
    let services = Rc::new(Services { raw: Memory::new(), admin, link: NoLinks });
    spawn(async move {
        let stream = listener.accept().await.unwrap();
        drop(serve(stream, services, Rc::new(Limits::default())).await);
    });
    Client::connect(address).await.unwrap()
}

fn invalid<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer {
        Err(ClientError::Refused(WireError::InvalidArgument(text))) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_store_joins_once_for_each_token_and_announces_where_it_is() {
    block_on(async {
        let client = client(Memory::new()).await;
        let request =
            JoinRequest { token: u64::MAX, addresses: vec!["10.0.0.2:1".into(), "10.0.0.2:2".into()] };
        let joined = client.join(&request).await.unwrap();
        assert_eq!((joined.cluster, joined.store), (7, StoreId(2)));
        assert_eq!(client.join(&request).await.unwrap(), joined);
        assert_eq!(
            client.join(&JoinRequest { token: 5, ..request.clone() }).await.unwrap().store,
            StoreId(3)
        );
        client.announce(StoreId(2), &["10.0.0.9:1".into()]).await.unwrap();
        let stores = client.stores().await.unwrap();
        assert_eq!(stores.len(), 3);
        let moved = StoreRecord { id: StoreId(2), addresses: vec!["10.0.0.9:1".into()], version: 2 };
        assert_eq!((&stores[1], &stores[2].addresses), (&moved, &request.addresses));
        assert_eq!(invalid(client.announce(StoreId(9), &["10.0.0.9:1".into()]).await), "no such store");
        invalid(client.join(&JoinRequest { token: 0, ..request.clone() }).await);
        invalid(client.join(&JoinRequest { addresses: Vec::new(), ..request }).await);
        invalid(client.announce(StoreId(2), &[]).await);
    })
    .unwrap();
}

#[test]
fn a_regions_peers_change_and_its_leader_moves() {
    block_on(async {
        let client = client(Memory::new()).await;
        let change = |store, kind| PeerChange { store: StoreId(store), kind };
        let changes = [change(2, PeerChangeKind::AddVoter), change(3, PeerChangeKind::AddLearner)];
        let info = client.change_peers(RegionId(1), &changes).await.unwrap();
        let roles: Vec<_> = info.region.peers.iter().map(|peer| (peer.store.0, peer.role)).collect();
        assert_eq!(roles, [(1, PeerRole::Voter), (2, PeerRole::Voter), (3, PeerRole::Learner)]);
        assert_eq!(info.peers_pending, [PeerId(20), PeerId(30)]);
        assert!(info.is_leader);
        client.transfer_leader(RegionId(1), StoreId(2)).await.unwrap();
        let refused = client.transfer_leader(RegionId(1), StoreId(4)).await;
        assert_eq!(refused, Err(WireError::RegionNotFound(RegionId(1)).into()));
        let info = client.change_peers(RegionId(1), &[change(2, PeerChangeKind::Remove)]).await.unwrap();
        assert_eq!(info.region.peers.len(), 2);
        let found = client.region(b"rkey").await.unwrap();
        assert_eq!(found, RegionInfo { peers_pending: Vec::new(), is_leader: false, ..info });
        invalid(client.region(b"x").await);
        invalid(client.change_peers(RegionId(1), &[]).await);
        invalid(client.change_peers(RegionId(1), &[changes[0], changes[0]]).await);
    })
    .unwrap();
}

/// A service that knows nothing of clusters.
struct Alone;

impl AdminService for Alone {
    fn regions(&self, _: Vec<u8>, _: usize) -> impl Future<Output = Result<RegionPage, WireError>> + 'static {
        std::future::ready(Ok(RegionPage::default()))
    }

    fn split(&self, _: Vec<Vec<u8>>) -> impl Future<Output = Result<Vec<RegionInfo>, WireError>> + 'static {
        std::future::ready(Ok(Vec::new()))
    }

    fn info(&self) -> StoreInfo {
        StoreInfo::default()
    }

    fn statistics(&self) -> impl Future<Output = String> + 'static {
        std::future::ready(String::new())
    }
}

#[test]
fn a_store_that_runs_alone_says_so() {
    block_on(async {
        let client = client(Alone).await;
        let alone = "this store runs alone";
        assert_eq!(invalid(client.stores().await), alone);
        let request = JoinRequest { token: 1, addresses: vec!["10.0.0.2:1".into()] };
        assert_eq!(invalid(client.join(&request).await), alone);
        assert_eq!(invalid(client.announce(StoreId(1), &request.addresses).await), alone);
        let change = PeerChange { store: StoreId(2), kind: PeerChangeKind::AddVoter };
        assert_eq!(invalid(client.change_peers(RegionId(1), &[change]).await), alone);
        assert_eq!(invalid(client.transfer_leader(RegionId(1), StoreId(1)).await), alone);
        assert_eq!(invalid(client.region(b"rkey").await), alone);
    })
    .unwrap();
}
