# What an administrator asks of a store.
#
# This schema is public API. It evolves by appending alone.

@0xcdd51854c77ea169;

using Common = import "common.capnp";
using Raw = import "raw.capnp";

interface Admin {
  regions @0 RegionsRequest -> RegionsAnswer;
  # The store's regions, in order of their keys.

  split @1 SplitRequest -> RegionsAnswer;
  # Splits the regions that own the keys, at the keys. A key that is a region's start already is left as it is. Answers with the
  # regions made and changed.

  info @2 () -> StoreInfo;

  statistics @3 () -> (text :Text);
  # Counters and gauges of the store: one `name value` a line, sorted by name. For people and scrapers; the names are not API.

  stores @4 () -> StoresAnswer;
  # The cluster's stores, in order of their ids.

  join @5 JoinRequest -> JoinAnswer;
  # Makes the caller a store of this cluster. A second call with the same token gives the same answer, with its addresses as they are now.

  announce @6 AnnounceRequest -> Raw.DoneAnswer;
  # A store came back and listens on other addresses.

  changePeers @7 ChangePeersRequest -> RegionAnswer;
  # Changes who keeps a region: all changes or none. Answers with the region as it is after that. The changes are under way in a joint
  # configuration meanwhile, and go on when the caller does not wait.

  transferLeader @8 TransferLeaderRequest -> Raw.DoneAnswer;
  # Makes the region's peer on another store its leader.

  region @9 RegionRequest -> RegionAnswer;
  # The region that a key is in.
}

struct RegionsRequest {
  start @0 :Data;
  # First stored key (with zone byte) of interest; empty is the first.
  limit @1 :UInt32;
  # Regions at most; 0 is the server's bound.
}

struct RegionInfo {
  region @0 :Common.Region;
  core @1 :UInt16;
  # The core that the region is pinned to.
  leader @2 :Common.Peer;
  # Null when there is none.
  term @3 :UInt64;
  appliedIndex @4 :UInt64;
  approximateSizeBytes @5 :UInt64;
  # Of the data on disk and in memory.
  approximateKeys @6 :UInt64;
  peersPending @7 :List(UInt64);
  # Peers that lag behind or wait for a snapshot, by their ids. Filled by the leader alone.
  isLeader @8 :Bool;
  # The store that answers leads the region.
}

struct RegionAnswer {
  union {
    region @0 :RegionInfo;
    error @1 :Common.Error;
  }
}

struct RegionRequest {
  key @0 :Data;
  # A stored key, with zone byte.
}

struct RegionsAnswer {
  union {
    page :group {
      regions @0 :List(RegionInfo);
      resumeKey @1 :Data;
      # Null: these are all. Else ask again with this as `start`.
    }
    error @2 :Common.Error;
  }
}

struct SplitRequest {
  keys @0 :List(Data);
  # Raw keys, without zone byte.
}

struct StoreInfo {
  storeId @0 :UInt64;
  clusterId @1 :UInt64;
  version @2 :Text;
  # Of the program.
  cores @3 :UInt16;
  addresses @4 :List(Text);
  # Where each core listens, in the order of the cores.
  uptimeMs @5 :UInt64;
  replicas @6 :UInt16 = 3;
  # Voters that the store gives the regions which it leads, where there are as many stores; 0 if that is left to the operator.
}

struct StoreRecord {
  # A store of the cluster.

  id @0 :UInt64;
  addresses @1 :List(Text);
  # Where each core listens, in the order of the cores.
  version @2 :UInt64;
  # Grows with each change of the record: of two, the larger is the newer.
}

struct StoresAnswer {
  union {
    stores @0 :List(StoreRecord);
    error @1 :Common.Error;
  }
}

struct JoinRequest {
  token @0 :UInt64;
  # Drawn by the joiner at random and kept before it asks, so that asking again is safe. Never 0.
  addresses @1 :List(Text);
  # Where each core of the joiner listens, in the order of the cores.
}

struct JoinAnswer {
  union {
    joined :group {
      clusterId @0 :UInt64;
      storeId @1 :UInt64;
      # The joiner's, never used before.
      stores @2 :List(StoreRecord);
      # All of the cluster, the joiner among them.
    }
    error @3 :Common.Error;
  }
}

struct AnnounceRequest {
  storeId @0 :UInt64;
  addresses @1 :List(Text);
  # Where each core listens now, in the order of the cores.
}

struct PeerChange {
  # What is to become of the region's peer on a store.

  storeId @0 :UInt64;
  kind @1 :Kind;

  enum Kind {
    addVoter @0;
    # A new voter, or the learner there becomes one.
    addLearner @1;
    # A new learner, or the voter there becomes one.
    remove @2;
    # The peer goes, and its data with it.
  }
}

struct ChangePeersRequest {
  regionId @0 :UInt64;
  changes @1 :List(PeerChange);
  # At least one, and one for a store at most.
}

struct TransferLeaderRequest {
  regionId @0 :UInt64;
  toStoreId @1 :UInt64;
}
