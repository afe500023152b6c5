# What an administrator asks of a store.
#
# This schema is public API. It evolves by appending alone.

@0xcdd51854c77ea169;

using Common = import "common.capnp";

interface Admin {
  regions @0 RegionsRequest -> RegionsAnswer;
  # The store's regions, in order of their keys.

  split @1 SplitRequest -> RegionsAnswer;
  # Splits the regions that own the keys, at the keys. A key that is a region's start already is left as it is. Answers with the
  # regions made and changed.

  info @2 () -> StoreInfo;

  statistics @3 () -> (text :Text);
  # Counters and gauges of the store: one `name value` a line, sorted by name. For people and scrapers; the names are not API.
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
}
