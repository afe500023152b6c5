//! Regions of real stores that grow too large are split, and their replicas hold the same.

use super::cluster::{three_with, wait_until};
use super::process::{Server, run, scratch, text};
use pinion_capnp::{Client, Context, RawCall, RawReply, RawRequest, ReadFrom, RegionInfo, Scan};
use pinion_types::key::Zone;
use std::fmt::Write as _;

const KEYS: u32 = 6000;

/// Text of a thousand letters that no compression makes much of.
fn value(number: u32) -> String {
    let mut state = u64::from(number) + 1;
    let mut text = String::new();
    while text.len() < 1000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        write!(text, "{:08x}", state >> 32).unwrap();
    }
    text
}

/// The pairs of a region, as the replica of one store has them.
async fn held(server: &Server, info: &RegionInfo) -> Vec<(Vec<u8>, Vec<u8>)> {
    let client = Client::connect(server.address.parse().unwrap()).await.unwrap();
    let mut start = Zone::Raw.caller_key(&info.region.start).unwrap().to_vec();
    let mut pairs = Vec::new();
    loop {
        let scan = Scan { start, limit: 1000, bytes_max: 1 << 20, ..Scan::default() };
        let context = Context { region: info.region.id, read_from: ReadFrom::Replica, ..Context::default() };
        let request = RawRequest { context: Some(Box::new(context)), ..RawRequest::new(RawCall::Scan(scan)) };
        let RawReply::Page(page) = client.call(&request).await.unwrap() else {
            panic!("a scan was answered with something else")
        };
        pairs.extend(page.pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.resume.filter(|next| info.region.contains(&Zone::Raw.stored(next))) {
            Some(next) => start = next,
            None => return pairs,
        }
    }
}

#[test]
fn a_region_that_grows_is_split_on_all_of_its_stores() {
    let home = scratch();
    let config = home.path().join("config.toml");
    std::fs::write(&config, "[tree]\ncompress = false\n[region]\nsplit_size = \"1M\"\n").unwrap();
    let servers = three_with(home.path(), &["--config", config.to_str().unwrap()]);
    let mut lines = String::new();
    for number in 0..KEYS {
        writeln!(lines, "key{number:05}\t{}", value(number)).unwrap();
    }
    let file = home.path().join("pairs");
    std::fs::write(&file, &lines).unwrap();
    let put = servers[0].raw(&["batch-put", "--per-region", file.to_str().unwrap()]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    wait_until(&servers[1].address, |status| {
        let none = |what: &str| status[what].as_array().is_some_and(Vec::is_empty);
        let largest = status["largest_region"]["approximate_size_bytes"].as_u64().unwrap_or(u64::MAX);
        let is_split = status["regions"].as_u64().is_some_and(|count| count >= 8) && largest < 1 << 20;
        is_split && none("regions_without_leader") && none("regions_with_few_voters")
    });
    let shown = run(&["cluster", "--connect", &servers[2].address, "status"]);
    assert!(text(&shown.stdout).contains("\nlargest  "), "{}", text(&shown.stdout));
    pinion_runtime::machine::block_on(async move {
        let client = Client::connect(servers[0].address.parse().unwrap()).await.unwrap();
        let regions = client.regions(b"", 0).await.unwrap().regions;
        let raw: Vec<_> =
            regions.iter().filter(|info| info.region.start.first() == Some(&Zone::Raw.prefix())).collect();
        assert!(raw.len() >= 6, "{} regions of 6 MB", raw.len());
        let mut all = Vec::new();
        for info in raw {
            let first = held(&servers[0], info).await;
            assert!(first.iter().all(|(key, _)| info.region.contains(&Zone::Raw.stored(key))));
            for other in &servers[1..] {
                assert!(held(other, info).await == first, "replicas of {:?} differ", info.region);
            }
            all.extend(first);
        }
        let expected =
            (0..KEYS).map(|number| (format!("key{number:05}").into_bytes(), value(number).into_bytes()));
        assert!(all.into_iter().eq(expected), "every key is there once, with its value");
    })
    .unwrap();
}
