# What stores say to each other.
#
# This schema evolves by appending alone, so that stores of neighbouring versions understand each other. It is no API for clients.

@0xb7f31c0a5d2e9846;

using Common = import "common.capnp";
using Raw = import "raw.capnp";

struct LinkHello {
  # Who opens a link, and to whom.

  clusterId @0 :UInt64;
  # The sender's cluster. Another one than the receiver's is `clusterNotMatch`.

  fromStoreId @1 :UInt64;
  # The sender. Neither 0 nor the receiver itself.

  fromCore @2 :UInt16;
  # The core of the sender that speaks on this link.

  toStoreId @3 :UInt64;
  # Whom the sender means to reach. Another store is `storeNotMatch`.

  addresses @4 :List(Text);
  # Where each core of the sender listens, in the order of the cores.
}

struct LinkAnswer {
  union {
    link @0 :Link;
    # The receiver is who it was taken for.

    error @1 :Common.Error;
  }
}

interface Link {
  # One core of a store speaks to one core of another.

  messages @0 (messages :List(RegionMessage)) -> ();
  # Delivers messages, in their order. The answer says that they were taken, not that they were acted on: it is the sender's flow control.
  # Any message may be lost.

  snapshotOffer @1 SnapshotOffer -> OfferAnswer;
  # Announces the files of a snapshot. Answers how much of them is there already, from an earlier try.

  snapshotChunk @2 SnapshotChunk -> Raw.DoneAnswer;
  # Part of a file of an offered snapshot. Keep a few in flight.

  snapshotDone @3 SnapshotKey -> Raw.DoneAnswer;
  # All chunks were sent. Answers when the files were verified and the snapshot's message was handed to the peer.

  snapshotAbort @4 SnapshotKey -> ();
  # The snapshot is not wanted any more.

  allocateIds @5 (count :UInt64) -> IdsAnswer;
  # Ids that were never given before, for regions and peers.
}

struct RegionMessage {
  # A message from a region's peer to another one.

  regionId @0 :UInt64;

  epoch @1 :Common.Epoch;
  # The region's, as the sender knows it.

  from @2 :Common.Peer;
  to @3 :Common.Peer;

  start @4 :Data;
  end @5 :Data;
  # The sender's range, in stored keys. Filled only in messages that may create the receiver's peer.

  fromCore @6 :UInt16;
  # The core that the sending peer is on.

  union {
    raft @7 :RaftMessage;

    gone @8 :Void;
    # The peer `to` is no longer a member of the region as of `epoch`: its store is to delete it.
  }
}

enum MessageKind {
  # What a message of consensus is about; `MessageKind` of the crate pinion-raft says which fields each kind uses.

  propose @0;
  append @1;
  appendResponse @2;
  vote @3;
  voteResponse @4;
  preVote @5;
  preVoteResponse @6;
  snapshot @7;
  heartbeat @8;
  heartbeatResponse @9;
  transferLeader @10;
  timeoutNow @11;
  readIndex @12;
  readIndexResponse @13;
}

struct RaftMessage {
  # A message of consensus. What a peer says to its own storage never travels and has no kind here.

  kind @0 :MessageKind;
  reject @1 :Bool;
  # The answer is no.
  to @2 :UInt64;
  from @3 :UInt64;
  # Ids of peers, which differ.
  term @4 :UInt64;
  # The sender's term; that of the election for votes; 0 for a message that belongs to no term.
  logTerm @5 :UInt64;
  # The term of the entry at `index`.
  index @6 :UInt64;
  # A position in the log.
  commit @7 :UInt64;
  # The sender's commit index, as far as the receiver may use it.
  rejectHint @8 :UInt64;
  # Where a rejected append should be tried next.
  priority @9 :Int64;
  # The candidate's.
  lease @10 :UInt64;
  # When a heartbeat was sent, by its leader's clock, in nanoseconds; 0 where leases have no part in it.
  entries @11 :List(Entry);
  # In order and without gaps.
  snapshot @12 :Snapshot;
  # Null in a message without one.
  context @13 :Data;
  # Names a read or the kind of an election.
}

enum EntryKind {
  # What an entry's data means.

  normal @0;
  confChange @1;
  confChangeV2 @2;
}

struct Entry {
  # One entry of the log.

  term @0 :UInt64;
  index @1 :UInt64;
  kind @2 :EntryKind;
  data @3 :Data;
}

struct Snapshot {
  # Where a snapshot stands.

  index @0 :UInt64;
  term @1 :UInt64;
  # The last entry that it covers.
  confState @2 :ConfState;
  # The configuration at `index`.
  data @3 :Data;
  # The region's own, small: the files travel by themselves.
}

struct ConfState {
  # A configuration: ids of peers.

  voters @0 :List(UInt64);
  # In a joint configuration those of the incoming half.
  learners @1 :List(UInt64);
  votersOutgoing @2 :List(UInt64);
  # Empty when the configuration is not joint.
  learnersNext @3 :List(UInt64);
  # Voters of the outgoing half that become learners when the joint configuration is left.
  autoLeave @4 :Bool;
  # The leader leaves the joint configuration by itself.
}

struct SnapshotKey {
  # Names one snapshot on its way to one peer.

  regionId @0 :UInt64;
  toPeerId @1 :UInt64;
  index @2 :UInt64;
  term @3 :UInt64;
  # The last entry that it covers.
}

struct SnapshotFile {
  # A file of a snapshot.

  number @0 :UInt64;
  sizeBytes @1 :UInt64;
  # In an offer the whole file; in the answer what is there of it, from its start.
}

struct SnapshotOffer {
  message @0 :RegionMessage;
  # Of consensus, and of the kind `snapshot`. It is handed to the peer when the files are complete.
  description @1 :Data;
  # What the receiver needs to make a tree of the files.
  files @2 :List(SnapshotFile);
}

struct OfferAnswer {
  union {
    there @0 :List(SnapshotFile);
    # Files that are not named begin at 0.
    error @1 :Common.Error;
  }
}

struct SnapshotChunk {
  key @0 :SnapshotKey;
  file @1 :UInt64;
  # The file's number.
  offset @2 :UInt64;
  # Where in the file the data begins, in bytes.
  crc32 @3 :UInt32;
  # The data's checksum: CRC-32 as in Ethernet and zlib.
  data @4 :Data;
  # At most 4 MiB.
}

struct IdsAnswer {
  union {
    first @0 :UInt64;
    # The ids are `first`, `first + 1`, and so on.
    error @1 :Common.Error;
  }
}
