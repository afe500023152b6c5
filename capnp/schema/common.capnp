# What Pinion's interfaces have in common: families, regions, region contexts, errors.
#
# This schema is public API. It evolves by appending alone: no field is ever removed, renumbered or given another meaning.

@0xda5f49a8b3b75912;

enum Family {
  # A column family: a separate namespace of keys. A family that the server does not know is `invalidArgument`.

  default @0;
  lock @1;
  write @2;
}

struct Epoch {
  # How often a region's membership and its range changed.

  confVer @0 :UInt64;
  # Grows by one with every change of peers.

  version @1 :UInt64;
  # Grows with every split and merge.
}

struct Peer {
  # A region's replica on a store.

  id @0 :UInt64;
  storeId @1 :UInt64;
  learner @2 :Bool;
  # A learner receives the log and neither votes nor counts in quorums. Set exactly when `role` is `learner`; readers older than `role`
  # know nothing else.
  role @3 :PeerRole;
  # With `learner` set and `voter` here, the writer is older than this field, and the peer is a learner.
}

enum PeerRole {
  # What a peer may do in its group. A region whose peers have none of the last three roles has a configuration that is not joint.

  voter @0;
  # Votes and counts in quorums; while the configuration is joint, in both halves.
  learner @1;
  # Receives the log and neither votes nor counts.
  incomingVoter @2;
  # Votes in the incoming half only; a voter when the joint configuration is left.
  demotingVoter @3;
  # Votes in the outgoing half only; a learner when the joint configuration is left.
  leavingVoter @4;
  # Votes in the outgoing half only; removed when the joint configuration is left.
}

struct Region {
  # A key range `[start, end)` with an id, an epoch and the peers that keep it.

  id @0 :UInt64;

  start @1 :Data;
  # First stored key of the region. A stored key is a zone byte and then the caller's key: raw keys live in the zone `r` (0x72),
  # transactional keys in the zone `x` (0x78).

  end @2 :Data;
  # First stored key after the region; empty for no end.

  epoch @3 :Epoch;
  peers @4 :List(Peer);
}

struct Context {
  # Which region the caller means. With a context the call is answered by that region or by a region error; without one the store
  # routes the call to the regions that own its keys.

  regionId @0 :UInt64;
  # Required: 0 is `invalidArgument`.

  epoch @1 :Epoch;
  # What the caller knows of the region. Its version must be the region's own, else the answer is `epochNotMatch`. A null epoch is
  # not checked.

  peer @2 :Peer;
  # The peer that the caller addresses. A store id other than this store's is `storeNotMatch`. A null peer is not checked.

  term @3 :UInt64;
  # The term in which the caller saw the leader. Two or more behind the region's term is `staleCommand`; 0 is not checked.

  readFrom @4 :ReadFrom;
  # Who may answer a read. Of no meaning to a call that writes. A value that the server does not know is `invalidArgument`.

  ageMaxMs @5 :UInt32;
  # With `stale`: how old, in milliseconds, what is read may be at most. 0 is as `replica`.
}

enum ReadFrom {
  leader @0;
  # The leader alone: the newest acknowledged state, at once while its lease lasts.

  replica @1;
  # Any peer that has the data: the newest acknowledged state, which it asks the leader for.

  stale @2;
  # Any peer that has the data: a state that was the newest at some time within `ageMaxMs` before the call, without a question where the
  # peer asked recently.
}

struct Error {
  # Why a call was not done. What a client must act on is in the union; `message` is for people.

  message @0 :Text;

  union {
    internal @1 :Void;
    # A defect or a failure of the store's hardware. See `message`; the call may have been done.

    notLeader :group {
      # The peer does not lead the region. Ask `leader`, if there is one.
      regionId @2 :UInt64;
      leader @3 :Peer;
    }

    regionNotFound :group {
      # This store has no such region. Ask for the regions again.
      regionId @4 :UInt64;
    }

    keyNotInRegion :group {
      # The key, or the range, is not within the region of the context.
      regionId @5 :UInt64;
      key @6 :Data;
      # The caller's key, without zone byte.
      start @7 :Data;
      end @8 :Data;
      # The region's bounds: stored keys.
    }

    epochNotMatch :group {
      # The region changed since the caller learned of it.
      currentRegions @9 :List(Region);
      # The region as it is now, and the region to its right.
    }

    staleCommand @10 :Void;
    # Leadership changed meanwhile. Call again; the call was not done.

    storeNotMatch :group {
      # The call was meant for another store.
      requestedStoreId @11 :UInt64;
      actualStoreId @12 :UInt64;
    }

    serverBusy :group {
      # Too much is in flight. Nothing was done; come back later.
      retryAfterMs @13 :UInt32;
    }

    diskFull @14 :Void;
    # Writes are refused until there is room. Reads go on.

    invalidArgument @15 :Void;
    # The call makes no sense: an empty key, an unknown family, a start after its end. See `message`.

    tooLarge :group {
      # A key, a value or a list is over its limit.
      limit @16 :UInt64;
      got @17 :UInt64;
    }

    corruption :group {
      # Stored data failed its checksum. Other data is served on.
      file @18 :Text;
      offset @19 :UInt64;
    }

    batchSpansRegions @20 :Void;
    # The batch has keys of several regions and asked to be one atomic whole. Nothing was written.

    timedOut @21 :Void;
    # The call's time was over. A write may still be done.

    shuttingDown @22 :Void;
    # The store is stopping. Ask another store.

    undetermined @23 :Void;
    # The peer lost its region or stopped while the write was under way: it may or may not be done.

    clusterNotMatch :group {
      # A store of another cluster.
      requestedClusterId @24 :UInt64;
      actualClusterId @25 :UInt64;
    }
  }
}
