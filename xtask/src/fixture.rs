//! `cargo xtask fixture`: the data directories of two stores of a cluster of three, killed in the middle of their work, as this version writes them.
//!
//! They are packed into `tests/fixtures/NAME.fixture`, with what they must be found to hold in `NAME.txt`: `family`, key, value, with a tab between
//! them, where `zeros N` stands for so many bytes of zero; and `region`, start, end. The stores know each other by addresses of the loopback
//! network that nothing else uses, so that they find each other wherever they are unpacked; who uses these addresses has a lock on the
//! machine's temporary folder. A test opens every fixture there is with the program of the day.

mod pack;

use crate::{server::Server, shell, workspace};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a step may take to be possible.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const FAMILIES: [&str; 3] = ["default", "lock", "write"];
/// A value that takes much of the log and little of the fixture.
const ZEROS: usize = 100 << 10;

/// What to make.
#[derive(Args)]
pub(crate) struct FixtureArguments {
    /// The fixture's name: the format that it is of. One that is there is not overwritten
    name: String,
}

/// What a key was last given: a text, or zeros.
enum Given {
    Text(String),
    Zeros(usize),
}

/// A cluster at work, and what it must hold.
struct Maker {
    program: PathBuf,
    home: PathBuf,
    model: BTreeMap<(&'static str, String), Given>,
    /// The listing's lines of regions.
    regions: String,
}

/// `cargo xtask fixture`.
pub(crate) fn make(arguments: &FixtureArguments) -> Result<()> {
    let fixtures = workspace::root().join("tests/fixtures");
    let (packed, listed) = (
        fixtures.join(format!("{}.fixture", arguments.name)),
        fixtures.join(format!("{}.txt", arguments.name)),
    );
    if packed.exists() {
        bail!("{} is there: what a version wrote is never written anew", packed.display());
    }
    shell::run(&mut shell::cargo(["build", "--package", "pinion", "--bin", "pinion"]))?;
    let home = workspace::target().join("fixture");
    crate::server::fresh(&home)?;
    // Who else uses the addresses has it too: a run of the test, or of this.
    let alone = File::open(std::env::temp_dir())?;
    alone.lock()?;
    let mut maker = Maker {
        program: workspace::target().join("debug/pinion"),
        home: home.clone(),
        model: BTreeMap::new(),
        regions: String::new(),
    };
    maker.work()?;
    // The third store is not needed: two of three are most.
    fs::remove_dir_all(home.join("3"))?;
    let mut bytes = Vec::new();
    pack::pack(&home, &["LOCK"], &mut bytes)?;
    fs::write(&packed, &bytes)?;
    fs::write(&listed, maker.listing())?;
    println!("{}: {} KiB", packed.display(), bytes.len() >> 10);
    Ok(())
}

impl Maker {
    /// Everything that a directory is to hold, in an order in which much of it is still in the log at the end.
    fn work(&mut self) -> Result<()> {
        let mut stores = Vec::new();
        for number in 1..=3 {
            stores.push(self.start(number)?);
        }
        self.wait_for_voters()?;
        self.fill("a", 0..80)?;
        self.delete_some("a")?;
        self.split("a-40")?;
        self.replace_peer("a-60", 2)?;
        // More than the log keeps: it is flushed, compacted, and its segments are written again.
        for number in 0..36 {
            self.put_zeros(&format!("zeros-{number:02}"))?;
        }
        self.delete_range("default", "zeros-00", "zeros-34")?;
        self.fill("b", 0..80)?;
        self.split("b-40")?;
        self.replace_peer("a-60", 1)?;
        self.replace_peer("b-60", 2)?;
        for number in 40..44 {
            self.put_zeros(&format!("zeros-{number:02}"))?;
        }
        self.delete_range("default", "zeros-40", "zeros-44")?;
        // Both sides keep the same tables.
        self.split("a-20")?;
        self.transfer("a-10", 2)?;
        self.transfer("b-60", 1)?;
        // From here on nothing is flushed.
        self.fill("c", 0..40)?;
        self.delete_some("c")?;
        for (key, value) in [("a-20", "changed"), ("b-70", "changed")] {
            self.raw("default", &["cas", key, value, "--expect", &format!("default {key}")])?;
            self.model.insert(("default", key.to_owned()), Given::Text(value.to_owned()));
        }
        self.raw("default", &["put", "brief", "for a century", "--ttl", "876000h"])?;
        self.model.insert(("default", "brief".to_owned()), Given::Text("for a century".to_owned()));
        self.regions = self.list_regions()?;
        // By SIGKILL, one right after the other.
        drop(stores);
        Ok(())
    }

    fn address(number: u32) -> String {
        format!("127.61.7.{number}:26107")
    }

    fn start(&self, number: u32) -> Result<Server> {
        let mut command = Command::new(&self.program);
        command.arg("server").arg("--data-dir").arg(self.home.join(number.to_string()));
        command.arg("--config").arg(workspace::root().join("tests/fixtures/config.toml"));
        command.args(["--listen", &Self::address(number), "--cores", if number == 1 { "2" } else { "1" }]);
        if number > 1 {
            command.args(["--join", &Self::address(1)]);
        }
        let server = Server::spawn(command.stdout(Stdio::null()))?;
        self.until("the store to serve", || self.run(&["region", "list"], number, None).is_ok())?;
        Ok(server)
    }

    /// What the program prints when it asks a store.
    fn run(&self, arguments: &[&str], store: u32, input: Option<&[u8]>) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["--connect", &Self::address(store)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("there is an input")?.write_all(input.unwrap_or_default())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn raw(&self, family: &str, arguments: &[&str]) -> Result<String> {
        self.run(&[&["raw", "--cf", family], arguments].concat(), 1, None)
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) -> Result<()> {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > PATIENCE {
                bail!("waited in vain for {what}, in {}", self.home.display());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn wait_for_voters(&self) -> Result<()> {
        self.until("three voters of every region", || {
            let status = self.run(&["cluster", "--output", "json", "status"], 1, None);
            let status: Value =
                status.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            let none = |what: &str| status[what].as_array().is_some_and(Vec::is_empty);
            status["stores"] == 3 && none("regions_with_few_voters") && none("regions_without_leader")
        })
    }

    /// Gives every family keys `PREFIX-NN`.
    fn fill(&mut self, prefix: &str, numbers: std::ops::Range<u32>) -> Result<()> {
        for family in FAMILIES {
            let mut lines = String::new();
            for number in numbers.clone() {
                let key = format!("{prefix}-{number:02}");
                let value = format!("{family} {key}");
                writeln!(lines, "{key}\t{value}")?;
                self.model.insert((family, key), Given::Text(value));
            }
            let put = ["raw", "--cf", family, "batch-put", "--per-region", "-"];
            self.run(&put, 1, Some(lines.as_bytes()))?;
        }
        Ok(())
    }

    fn put_zeros(&mut self, key: &str) -> Result<()> {
        self.run(&["raw", "put", key, "-"], 1, Some(&vec![0; ZEROS]))?;
        self.model.insert(("default", key.to_owned()), Given::Zeros(ZEROS));
        Ok(())
    }

    fn delete_some(&mut self, prefix: &str) -> Result<()> {
        for family in FAMILIES {
            let key = format!("{prefix}-05");
            self.raw(family, &["delete", &key])?;
            self.model.remove(&(family, key));
        }
        self.delete_range("default", &format!("{prefix}-30"), &format!("{prefix}-36"))?;
        self.delete_range("write", &format!("{prefix}-10"), &format!("{prefix}-13"))
    }

    fn delete_range(&mut self, family: &'static str, start: &str, end: &str) -> Result<()> {
        self.raw(family, &["delete-range", start, end])?;
        self.model.retain(|(there, key), _| *there != family || key.as_str() < start || key.as_str() >= end);
        Ok(())
    }

    fn split(&self, key: &str) -> Result<()> {
        self.run(&["cluster", "split", key], 1, None)?;
        self.wait_for_voters()
    }

    fn region_of(&self, key: &str) -> Result<String> {
        let printed = self.run(&["cluster", "--output", "json", "region", key], 1, None)?;
        let region: Value = serde_json::from_str(&printed)?;
        Ok(region["id"].to_string())
    }

    /// Takes a region's peer off a store, which then gets another.
    fn replace_peer(&self, key: &str, store: u32) -> Result<()> {
        let region = self.region_of(key)?;
        let store = store.to_string();
        self.until("the peer to go", || {
            self.run(&["cluster", "remove-peer", &region, &store], 1, None).is_ok()
        })?;
        self.wait_for_voters()
    }

    fn transfer(&self, key: &str, store: u32) -> Result<()> {
        let region = self.region_of(key)?;
        let store = store.to_string();
        self.until("the leader", || {
            self.run(&["cluster", "transfer-leader", &region, &store], 1, None).is_ok()
        })?;
        self.wait_for_voters()
    }

    fn list_regions(&self) -> Result<String> {
        let mut lines = String::new();
        for printed in self.run(&["cluster", "--output", "json", "regions"], 1, None)?.lines() {
            let region: Value = serde_json::from_str(printed)?;
            let bound =
                |which: &str| region[which].as_str().map(str::to_owned).context("a region has bounds");
            writeln!(lines, "region\t{}\t{}", bound("start")?, bound("end")?)?;
        }
        Ok(lines)
    }

    fn listing(&self) -> String {
        let line = |((family, key), given): (&(&str, String), &Given)| match given {
            Given::Text(text) => format!("{family}\t{key}\t{text}\n"),
            Given::Zeros(count) => format!("{family}\t{key}\tzeros {count}\n"),
        };
        self.regions.clone() + &self.model.iter().map(line).collect::<String>()
    }
}
