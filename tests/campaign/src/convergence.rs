//! What must hold when all trouble is over: every region has its voters, all of them hold the same, and nothing is lost.

use crate::judge::Ledger;
use crate::keys::decode;
use crate::network;
use crate::routes::connect;
use anyhow::{Context as _, Result, bail, ensure};
use pinion_capnp::{Client as Connection, Context, RawRequest, ReadFrom};
use pinion_client::{Client, ClientError, RawCall, RawReply, RegionInfo, Scan};
use pinion_linearizability::Key;
use pinion_types::key::{Escaped, Zone};
use pinion_types::{PeerRole, Region};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a read is tried.
const TRIES_MAX: usize = 20;
/// How long a read may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Keys and their bytes.
type Content = Vec<(Key, Vec<u8>)>;

/// Waits until every region has a leader and as many voters, none of which lags.
pub fn wait_until_whole(client: &Client, voters: usize, within: Duration) -> Result<Vec<RegionInfo>> {
    let begun = Instant::now();
    loop {
        let regions = client.blocking().regions();
        let is_whole = |info: &RegionInfo| {
            let voting = info.region.peers.iter().filter(|peer| peer.role == PeerRole::Voter).count();
            info.is_leader
                && info.peers_pending.is_empty()
                && voting == voters
                && info.region.peers.len() == voters
        };
        match regions {
            Ok(regions) if !regions.is_empty() && regions.iter().all(is_whole) => return Ok(regions),
            found if begun.elapsed() > within => {
                bail!("after {within:?} regions do not have their {voters} voters: {found:#?}")
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Reads every region from every replica. All must hold the same, and of each key what the ledger says; how many keys there are.
pub(crate) fn compare(regions: Vec<RegionInfo>, ledger: &Ledger) -> Result<usize> {
    let contents = pinion_runtime::machine::block_on(async move { replicas(&regions).await })??;
    let held: BTreeMap<Key, Vec<u8>> = contents.into_iter().collect();
    for (key, may_hold) in &ledger.0 {
        let value = held.get(key).map(|bytes| decode(bytes)).transpose();
        let value = value.map_err(|what| anyhow::anyhow!("key {} holds {what}", Escaped(key)))?;
        ensure!(
            may_hold.contains(&value),
            "key {} holds {value:?}, and by what was acknowledged and read it holds one of {may_hold:?}",
            Escaped(key)
        );
    }
    for key in held.keys() {
        let is_known = ledger.0.contains_key(key) || key.ends_with(b"/probe");
        ensure!(is_known, "key {} was never written", Escaped(key));
    }
    Ok(held.len())
}

async fn replicas(regions: &[RegionInfo]) -> Result<Content> {
    let mut all = Content::new();
    for info in regions.iter().filter(|info| has_raw_keys(&info.region)) {
        let region = &info.region;
        let mut first: Option<Content> = None;
        for peer in &region.peers {
            let host = u8::try_from(peer.store.0)?;
            let connection = connect(network::listener(host)).await?.with_timeout(ANSWER_MAX);
            let content = read(&connection, region)
                .await
                .with_context(|| format!("region {} on store {}", region.id, peer.store))?;
            match &first {
                None => first = Some(content),
                Some(there) => equal(there, &content).with_context(|| {
                    format!("region {} on stores {} and {}", region.id, region.peers[0].store, peer.store)
                })?,
            }
        }
        all.extend(first.unwrap_or_default());
    }
    Ok(all)
}

fn has_raw_keys(region: &Region) -> bool {
    region.start.as_slice() < Zone::Raw.end().as_slice()
        && (region.end.is_empty() || region.end > Zone::Raw.stored(b""))
}

/// Everything that a store has of a region, by its own word that it is the newest.
async fn read(connection: &Connection, region: &Region) -> Result<Content> {
    let mut start = Zone::Raw.caller_key(&region.start).unwrap_or_default().to_vec();
    let end = Zone::Raw.caller_key(&region.end).unwrap_or_default().to_vec();
    let mut pairs = Content::new();
    loop {
        let scan = Scan {
            start: start.clone(),
            end: end.clone(),
            limit: 1000,
            bytes_max: 1 << 20,
            ..Scan::default()
        };
        let context = Context {
            region: region.id,
            epoch: Some(region.epoch),
            read_from: ReadFrom::Replica,
            ..Context::default()
        };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(RawCall::Scan(scan)) };
        let RawReply::Page(page) = patiently(connection, &request).await? else {
            bail!("a scan was answered with something else");
        };
        pairs.extend(page.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.resume {
            Some(resume) if end.is_empty() || resume < end => start = resume,
            _ => return Ok(pairs),
        }
    }
}

async fn patiently(connection: &Connection, request: &RawRequest) -> Result<RawReply, ClientError> {
    let mut tries = 1;
    loop {
        match connection.call(request).await {
            Err(ClientError::Refused(_)) if tries < TRIES_MAX => tries += 1,
            answer => return answer,
        }
        pinion_runtime::sleep(LOOK_EVERY).await;
    }
}

fn equal(one: &Content, other: &Content) -> Result<()> {
    if one == other {
        return Ok(());
    }
    let (one, other): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (one.iter().cloned().collect(), other.iter().cloned().collect());
    let shown = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    for key in one.keys().chain(other.keys()) {
        let (here, there) = (one.get(key), other.get(key));
        ensure!(
            here == there,
            "replicas differ: key {} is {:?} and {:?}",
            Escaped(key),
            shown(here),
            shown(there)
        );
    }
    bail!("replicas differ in the order of their keys, or have one twice")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_that_differ_are_told_by_the_key() {
        let content = |text: &str| -> Content {
            text.split(' ')
                .map(|pair| pair.split_once('=').unwrap())
                .map(|(k, v)| (k.into(), v.into()))
                .collect()
        };
        assert!(equal(&content("a=1 b=2"), &content("a=1 b=2")).is_ok());
        let error = equal(&content("a=1 b=2"), &content("a=1 c=2")).unwrap_err().to_string();
        assert!(error.contains("key b"), "{error}");
        assert!(equal(&content("a=1 b=2"), &content("b=2 a=1")).is_err());
    }
}
