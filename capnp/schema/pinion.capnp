# Where a client begins: the bootstrap interface of every connection to a Pinion store.
#
# This schema is public API. It evolves by appending alone.

@0xb572e5971891ae4c;

using Raw = import "raw.capnp".Raw;
using Admin = import "admin.capnp".Admin;
using Link = import "link.capnp";

interface Pinion {
  # Hands out capabilities, each only to whom it is due. Calls on what is asked for may be sent at once, without waiting for the answer.

  raw @0 () -> (raw :Raw);
  # Raw keys.

  admin @1 () -> (admin :Admin);
  # Administration.

  link @2 Link.LinkHello -> Link.LinkAnswer;
  # For stores of the same cluster: what stores say to each other.
}
