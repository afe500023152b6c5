# Raw keys: single keys and values without transactions.
#
# This schema is public API. It evolves by appending alone.
#
# Keys here are the caller's keys, without zone byte. A key is 1 byte to 4 KiB, a value 0 bytes to 8 MiB (both are settings of the
# server). An acknowledged write is durable. Calls of one connection run concurrently: a call sent while another is outstanding may
# take effect before it.
#
# Every request may carry
# - `context`: the region that the caller means. Without it the store routes;
# - `timeoutMs`: after that time the answer is `timedOut`; 0 is no limit of its own.
#
# Single calls are convenient. `batch` and many calls in flight are how a client gets throughput.

@0xf6e86f22c28d7a8b;

using Common = import "common.capnp";

interface Raw {
  get @0 GetRequest -> GetAnswer;
  # The value of a key.

  put @1 PutRequest -> DoneAnswer;
  # Writes a key, over what was there.

  delete @2 DeleteRequest -> DoneAnswer;
  # Removes a key. A key that is not there is not an error.

  batch @3 BatchRequest -> BatchAnswer;
  # Runs a mixed list of operations, each with its own result: the call for throughput. All reads of a region see one state, from
  # before the batch's writes; the writes of a region take effect together, in the order of the list. There is no atomicity between
  # regions.

  batchGet @4 BatchGetRequest -> BatchGetAnswer;
  # The values of several keys: one snapshot for each region.

  batchPut @5 BatchPutRequest -> DoneAnswer;
  # Writes several keys: atomically within a region.

  batchDelete @6 BatchDeleteRequest -> DoneAnswer;
  # Removes several keys: atomically within a region.

  deleteRange @7 DeleteRangeRequest -> DoneAnswer;
  # Removes every key of `[start, end)`: atomically within a region, region by region without a context.

  scan @8 ScanRequest -> ScanAnswer;
  # Keys and values of a range, in order: one snapshot for each region. Answers are bounded in bytes.

  compareAndSwap @9 CompareAndSwapRequest -> CompareAndSwapAnswer;
  # Writes a key if its value is the expected one. Decided where the write is applied: no other write comes between.

  getTtl @10 GetRequest -> TtlAnswer;
  # How long a key has still to live.

  bulkLoad @11 BulkLoadRequest -> (loader :BulkLoader);
  # Opens a stream of writes.
}

interface BulkLoader {
  # A stream of writes with flow control. Chunks are written in the order of their calls. Each chunk is as `batchPut` per region; the
  # load as a whole is not atomic.

  put @0 (pairs :List(KeyValue)) -> stream;
  # Writes a chunk; returns when it is durable. Keep a few in flight. The first chunk that fails ends the load: later chunks throw, and
  # `done` says why. Chunks of 256 KiB to 1 MiB do best.

  done @1 () -> LoadAnswer;
  # Waits for the chunks before it.
}

struct KeyValue {
  key @0 :Data;
  value @1 :Data;
}

struct GetRequest {
  key @0 :Data;
  family @1 :Common.Family;
  timeoutMs @2 :UInt32;
  context @3 :Common.Context;
}

struct GetAnswer {
  union {
    notFound @0 :Void;
    value @1 :Data;
    error @2 :Common.Error;
  }
}

struct PutRequest {
  key @0 :Data;
  value @1 :Data;
  family @2 :Common.Family;
  timeoutMs @3 :UInt32;
  ttlMs @4 :UInt64;
  # Milliseconds that the key lives from now on; 0 is for ever.
  context @5 :Common.Context;
}

struct DoneAnswer {
  union {
    done @0 :Void;
    error @1 :Common.Error;
  }
}

struct DeleteRequest {
  key @0 :Data;
  family @1 :Common.Family;
  timeoutMs @2 :UInt32;
  context @3 :Common.Context;
}

struct Operation {
  key @0 :Data;
  family @1 :Common.Family;
  union {
    get @2 :Void;
    put @3 :Data;
    # The value.
    delete @4 :Void;
  }
  ttlMs @5 :UInt64;
  # Of `put`: as in PutRequest.
}

struct BatchRequest {
  operations @0 :List(Operation);
  timeoutMs @1 :UInt32;
  context @2 :Common.Context;
}

struct OperationResult {
  union {
    done @0 :Void;
    # The `put` or `delete` is durable.
    notFound @1 :Void;
    value @2 :Data;
    error @3 :Common.Error;
  }
}

struct BatchAnswer {
  union {
    results @0 :List(OperationResult);
    # One for each operation, in their order.
    error @1 :Common.Error;
    # Nothing was done.
  }
}

struct BatchGetRequest {
  keys @0 :List(Data);
  family @1 :Common.Family;
  timeoutMs @2 :UInt32;
  context @3 :Common.Context;
}

struct BatchGetAnswer {
  union {
    results @0 :List(GetAnswer);
    # One for each key, in their order.
    error @1 :Common.Error;
  }
}

enum Atomicity {
  whole @0;
  # Everything or nothing. Keys of several regions are refused with `batchSpansRegions`.

  perRegion @1;
  # Each region's part is atomic by itself. After an error some parts may have been written.
}

struct BatchPutRequest {
  pairs @0 :List(KeyValue);
  # A key that comes twice gets its last value.
  family @1 :Common.Family;
  atomicity @2 :Atomicity;
  timeoutMs @3 :UInt32;
  ttlMs @4 :UInt64;
  # For all of them: as in PutRequest.
  context @5 :Common.Context;
}

struct BatchDeleteRequest {
  keys @0 :List(Data);
  family @1 :Common.Family;
  atomicity @2 :Atomicity;
  timeoutMs @3 :UInt32;
  context @4 :Common.Context;
}

struct DeleteRangeRequest {
  start @0 :Data;
  # First key to go. Empty is the first key of all.
  end @1 :Data;
  # First key to stay. Empty is no end.
  family @2 :Common.Family;
  timeoutMs @3 :UInt32;
  context @4 :Common.Context;
}

struct ScanRequest {
  start @0 :Data;
  # First key of the range. Empty is the first key of all.
  end @1 :Data;
  # First key after the range, backwards too. Empty is no end.
  limit @2 :UInt32;
  # Pairs at most; 0 is none, as in the course.
  bytesMax @3 :UInt32;
  # Bytes of keys and values at most; 0 is the server's bound, which a larger number does not lift. One pair always fits.
  reverse @4 :Bool;
  # From the range's last key backwards.
  keysOnly @5 :Bool;
  # Leaves the values empty.
  family @6 :Common.Family;
  timeoutMs @7 :UInt32;
  context @8 :Common.Context;
}

struct ScanAnswer {
  union {
    page :group {
      pairs @0 :List(KeyValue);
      # In order of their keys, descending for `reverse`.

      resumeKey @1 :Data;
      # Null: the range was read to its end. Else ask again with this as `start` (as `end` for `reverse`). With a context a scan
      # ends at the region's end, and the key is where the next region's part begins.
    }
    error @2 :Common.Error;
  }
}

struct CompareAndSwapRequest {
  key @0 :Data;
  expected :union {
    absent @1 :Void;
    # The key must not be there.
    value @2 :Data;
    # The key must have this value.
  }
  value @3 :Data;
  # The new value.
  family @4 :Common.Family;
  timeoutMs @5 :UInt32;
  ttlMs @6 :UInt64;
  # Of the new value: as in PutRequest.
  context @7 :Common.Context;
}

struct CompareAndSwapAnswer {
  union {
    outcome :group {
      swapped @0 :Bool;
      previous :union {
        absent @1 :Void;
        value @2 :Data;
        # The value before the call, swapped or not.
      }
    }
    error @3 :Common.Error;
  }
}

struct TtlAnswer {
  union {
    notFound @0 :Void;
    forever @1 :Void;
    # The key does not expire.
    remainingMs @2 :UInt64;
    error @3 :Common.Error;
  }
}

struct BulkLoadRequest {
  family @0 :Common.Family;
  ttlMs @1 :UInt64;
  # For all pairs: as in PutRequest.
}

struct LoadAnswer {
  union {
    pairs @0 :UInt64;
    # How many pairs were written.
    error @1 :Common.Error;
    # Why the load ended early. Chunks before the failed one are durable.
  }
}
