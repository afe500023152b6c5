//! Regions, epochs, peers, contexts, families.

use super::{DecodeError, list_length};
use crate::generated::common_capnp as schema;
use crate::{Context, ReadFrom, WireError};
use pinion_types::{ColumnFamily, Epoch, Peer, PeerId, PeerRole, Region, RegionId, StoreId, Term};
use std::time::Duration;

/// Most peers that a region on the wire may have: far more than any placement rule asks for.
const PEERS_MAX: u32 = 64;

pub(crate) fn read_family(
    family: Result<schema::Family, capnp::NotInSchema>,
) -> Result<ColumnFamily, WireError> {
    match family {
        Ok(schema::Family::Default) => Ok(ColumnFamily::Default),
        Ok(schema::Family::Lock) => Ok(ColumnFamily::Lock),
        Ok(schema::Family::Write) => Ok(ColumnFamily::Write),
        Err(capnp::NotInSchema(number)) => Err(WireError::invalid(format!(
            "no such family: {number}; there are default (0), lock (1) and write (2)"
        ))),
    }
}

pub(crate) fn write_family(family: ColumnFamily) -> schema::Family {
    match family {
        ColumnFamily::Default => schema::Family::Default,
        ColumnFamily::Lock => schema::Family::Lock,
        ColumnFamily::Write => schema::Family::Write,
    }
}

pub(crate) fn read_epoch(reader: schema::epoch::Reader<'_>) -> Epoch {
    Epoch { conf_ver: reader.get_conf_ver(), version: reader.get_version() }
}

pub(crate) fn write_epoch(mut builder: schema::epoch::Builder<'_>, epoch: Epoch) {
    builder.set_conf_ver(epoch.conf_ver);
    builder.set_version(epoch.version);
}

/// A role that the schema does not have is of a newer store, and nothing to guess at.
pub(crate) fn read_peer(reader: schema::peer::Reader<'_>) -> Result<Peer, capnp::NotInSchema> {
    let role = match reader.get_role()? {
        schema::PeerRole::Voter if reader.get_learner() => PeerRole::Learner,
        schema::PeerRole::Voter => PeerRole::Voter,
        schema::PeerRole::Learner => PeerRole::Learner,
        schema::PeerRole::IncomingVoter => PeerRole::IncomingVoter,
        schema::PeerRole::DemotingVoter => PeerRole::DemotingVoter,
        schema::PeerRole::LeavingVoter => PeerRole::LeavingVoter,
    };
    Ok(Peer { id: PeerId(reader.get_id()), store: StoreId(reader.get_store_id()), role })
}

pub(crate) fn write_peer(mut builder: schema::peer::Builder<'_>, peer: Peer) {
    builder.set_id(peer.id.0);
    builder.set_store_id(peer.store.0);
    builder.set_learner(peer.role == PeerRole::Learner);
    builder.set_role(match peer.role {
        PeerRole::Voter => schema::PeerRole::Voter,
        PeerRole::Learner => schema::PeerRole::Learner,
        PeerRole::IncomingVoter => schema::PeerRole::IncomingVoter,
        PeerRole::DemotingVoter => schema::PeerRole::DemotingVoter,
        PeerRole::LeavingVoter => schema::PeerRole::LeavingVoter,
    });
}

pub(crate) fn read_region(reader: schema::region::Reader<'_>) -> Result<Region, DecodeError> {
    let peers = reader.get_peers()?;
    if peers.len() > PEERS_MAX {
        return Err(WireError::invalid(format!("a region with {} peers", peers.len())).into());
    }
    Ok(Region {
        id: RegionId(reader.get_id()),
        start: reader.get_start()?.to_vec(),
        end: reader.get_end()?.to_vec(),
        epoch: read_epoch(reader.get_epoch()?),
        peers: peers.iter().map(read_peer).collect::<Result<_, _>>()?,
    })
}

pub(crate) fn write_region(mut builder: schema::region::Builder<'_>, region: &Region) {
    builder.set_id(region.id.0);
    builder.set_start(&region.start);
    builder.set_end(&region.end);
    write_epoch(builder.reborrow().init_epoch(), region.epoch);
    let mut peers = builder.init_peers(list_length(region.peers.len()));
    for (index, &peer) in (0..).zip(&region.peers) {
        write_peer(peers.reborrow().get(index), peer);
    }
}

pub(crate) fn read_context(reader: schema::context::Reader<'_>) -> Result<Box<Context>, DecodeError> {
    if reader.get_region_id() == 0 {
        return Err(WireError::invalid("a context without region id").into());
    }
    Ok(Box::new(Context {
        region: RegionId(reader.get_region_id()),
        epoch: reader.has_epoch().then(|| reader.get_epoch()).transpose()?.map(read_epoch),
        peer: reader.has_peer().then(|| reader.get_peer()).transpose()?.map(read_peer).transpose()?,
        term: Term(reader.get_term()),
        read_from: match reader.get_read_from() {
            Ok(schema::ReadFrom::Leader) => ReadFrom::Leader,
            Ok(schema::ReadFrom::Replica) => ReadFrom::Replica,
            Ok(schema::ReadFrom::Stale) => {
                ReadFrom::Stale(Duration::from_millis(reader.get_age_max_ms().into()))
            }
            Err(capnp::NotInSchema(number)) => {
                return Err(WireError::invalid(format!(
                    "nobody can be read from as {number}; there are leader (0), replica (1) and stale (2)"
                ))
                .into());
            }
        },
    }))
}

pub(crate) fn write_context(mut builder: schema::context::Builder<'_>, context: &Context) {
    builder.set_region_id(context.region.0);
    builder.set_term(context.term.0);
    match context.read_from {
        ReadFrom::Leader => builder.set_read_from(schema::ReadFrom::Leader),
        ReadFrom::Replica => builder.set_read_from(schema::ReadFrom::Replica),
        ReadFrom::Stale(age) => {
            builder.set_read_from(schema::ReadFrom::Stale);
            builder.set_age_max_ms(u32::try_from(age.as_millis()).unwrap_or(u32::MAX));
        }
    }
    if let Some(epoch) = context.epoch {
        write_epoch(builder.reborrow().init_epoch(), epoch);
    }
    if let Some(peer) = context.peer {
        write_peer(builder.init_peer(), peer);
    }
}
