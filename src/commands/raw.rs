//! `pinion raw`: reads and writes raw keys of a running store.

use super::connection::{block_on, connect};
use super::text::Notation;
use crate::cli::exit;
use crate::cli::raw::{Output, RawArguments, RawCommand};
use anyhow::Context as _;
use pinion_client::{Atomicity, Cluster, Operations, Remaining, Scan};
use pinion_types::ColumnFamily;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the mode.
pub(crate) fn run(arguments: &RawArguments) -> anyhow::Result<ExitCode> {
    let notation = Notation::new(arguments.hex);
    let request = match Request::new(&arguments.command, notation) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("pinion: {error:#}");
            return Ok(ExitCode::from(exit::USAGE));
        }
    };
    let arguments = arguments.clone();
    block_on(async move {
        let client = connect(&arguments.connection.connect, arguments.connection.timeout).await?;
        let printer = Printer { notation, output: arguments.connection.output };
        Call { client, printer, family: arguments.family }.run(request).await
    })
}

/// A command with its keys and values as bytes.
enum Request {
    Get(Vec<u8>),
    Put(Vec<u8>, Vec<u8>, Option<Duration>),
    Delete(Vec<u8>),
    Scan { scan: Scan, limit: u64 },
    BatchPut { pairs: Vec<(Vec<u8>, Vec<u8>)>, atomicity: Atomicity, ttl: Option<Duration> },
    DeleteRange(Vec<u8>, Vec<u8>),
    Cas { key: Vec<u8>, expected: Option<Vec<u8>>, value: Vec<u8>, ttl: Option<Duration> },
    Ttl(Vec<u8>),
}

impl Request {
    fn new(command: &RawCommand, notation: Notation) -> anyhow::Result<Self> {
        let bound = |key: &Option<OsString>| notation.argument(key.as_deref().unwrap_or_default());
        Ok(match command {
            RawCommand::Get { key } => Self::Get(notation.argument(key)?),
            RawCommand::Put { key, value, ttl } => {
                Self::Put(notation.argument(key)?, value_argument(value, notation)?, *ttl)
            }
            RawCommand::Delete { key } => Self::Delete(notation.argument(key)?),
            RawCommand::Scan { start, end, limit, reverse, keys_only } => {
                let scan = Scan {
                    start: bound(start)?,
                    end: bound(end)?,
                    reverse: *reverse,
                    keys_only: *keys_only,
                    ..Scan::default()
                };
                Self::Scan { scan, limit: *limit }
            }
            RawCommand::BatchPut { file, per_region, ttl } => Self::BatchPut {
                pairs: read_pairs(file, notation)?,
                atomicity: if *per_region { Atomicity::PerRegion } else { Atomicity::Whole },
                ttl: *ttl,
            },
            RawCommand::DeleteRange { start, end } => {
                Self::DeleteRange(notation.argument(start)?, notation.argument(end)?)
            }
            RawCommand::Cas { key, value, expect, absent: _, ttl } => Self::Cas {
                key: notation.argument(key)?,
                expected: expect.as_deref().map(|value| notation.argument(value)).transpose()?,
                value: value_argument(value, notation)?,
                ttl: *ttl,
            },
            RawCommand::Ttl { key } => Self::Ttl(notation.argument(key)?),
        })
    }
}

/// A value of the command line, or standard input's bytes as they are for `-`.
fn value_argument(value: &OsStr, notation: Notation) -> anyhow::Result<Vec<u8>> {
    if value != "-" {
        return notation.argument(value);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(bytes)
}

/// The pairs of a file: key, tab, value on each line.
fn read_pairs(file: &Path, notation: Notation) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line reads its input; no core is there to block"
    )]
    let bytes = if file == Path::new("-") {
        value_argument(OsStr::new("-"), notation)?
    } else {
        std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            let tab = line.iter().position(|&byte| byte == b'\t');
            let pair = tab
                .context("there is no tab between key and value")
                .and_then(|tab| Ok((notation.field(&line[..tab])?, notation.field(&line[tab + 1..])?)));
            pair.with_context(|| format!("line {} of {}", index + 1, file.display()))
        })
        .collect()
}

/// A connection, and how its answers are printed.
struct Call {
    client: Cluster,
    printer: Printer,
    family: ColumnFamily,
}

impl Call {
    async fn run(&self, request: Request) -> anyhow::Result<ExitCode> {
        let (client, family) = (&self.client, self.family);
        match request {
            Request::Get(key) => match client.get(family, &key).await? {
                Some(value) => self.printer.value(&key, &value),
                None => self.printer.not_found(&key),
            },
            Request::Put(key, value, ttl) => {
                client.put(family, &key, &value, ttl).await?;
                self.printer.done()
            }
            Request::Delete(key) => {
                client.delete(family, &key).await?;
                self.printer.done()
            }
            Request::Scan { scan, limit } => self.scan(Scan { family, ..scan }, limit).await,
            Request::BatchPut { pairs, atomicity, ttl } => self.batch_put(&pairs, atomicity, ttl).await,
            Request::DeleteRange(start, end) => {
                client.delete_range(family, &start, &end).await?;
                self.printer.done()
            }
            Request::Cas { key, expected, value, ttl } => {
                let swap = client.compare_and_swap(family, &key, expected.as_deref(), &value, ttl).await?;
                self.printer.swap(swap.0, swap.1.as_deref())
            }
            Request::Ttl(key) => self.printer.remaining(&key, client.time_to_live(family, &key).await?),
        }
    }

    async fn batch_put(
        &self,
        pairs: &[(Vec<u8>, Vec<u8>)],
        atomicity: Atomicity,
        ttl: Option<Duration>,
    ) -> anyhow::Result<ExitCode> {
        let mut operations = Operations::with_capacity(pairs.len(), 0);
        for (key, value) in pairs {
            operations.put(self.family, key, value, ttl);
        }
        let results = self.client.run_batch(operations, atomicity).await?;
        if let Some(error) = results.first_error() {
            return Err(error.clone()).context("not all pairs were written");
        }
        self.printer.done()
    }

    /// Asks for page after page until the limit or the range's end.
    async fn scan(&self, mut scan: Scan, limit: u64) -> anyhow::Result<ExitCode> {
        let mut left = usize::try_from(limit)?;
        while left > 0 {
            scan.limit = left;
            let page = self.client.scan(scan.clone()).await?;
            for (key, value) in page.pairs.iter() {
                self.printer.pair(key, value, scan.keys_only)?;
            }
            left -= page.pairs.len().min(left);
            match page.resume {
                None => break,
                Some(resume) if scan.reverse => scan.end = resume,
                Some(resume) => scan.start = resume,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints answers to standard output and says what the process exits with.
struct Printer {
    notation: Notation,
    output: Output,
}

impl Printer {
    /// A value: as it is, or in hexadecimal, and a line's end.
    fn value(&self, key: &[u8], value: &[u8]) -> anyhow::Result<ExitCode> {
        match (self.output, self.notation) {
            (Output::Json, _) => json_line(&json!({"key": self.show(key), "value": self.show(value)}))?,
            (Output::Plain, Notation::Hex) => line(self.show(value).as_bytes())?,
            (Output::Plain, Notation::Plain) => line(value)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn not_found(&self, key: &[u8]) -> anyhow::Result<ExitCode> {
        if self.output == Output::Json {
            json_line(&json!({"key": self.show(key), "value": null}))?;
        } else {
            eprintln!("pinion: no such key: {}", self.show(key));
        }
        Ok(ExitCode::from(exit::NOT_FOUND))
    }

    fn done(&self) -> anyhow::Result<ExitCode> {
        if self.output == Output::Json {
            json_line(&json!({"done": true}))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn pair(&self, key: &[u8], value: &[u8], key_only: bool) -> anyhow::Result<()> {
        match (self.output, key_only) {
            (Output::Json, false) => json_line(&json!({"key": self.show(key), "value": self.show(value)})),
            (Output::Json, true) => json_line(&json!({"key": self.show(key)})),
            (Output::Plain, false) => line(format!("{}\t{}", self.show(key), self.show(value)).as_bytes()),
            (Output::Plain, true) => line(self.show(key).as_bytes()),
        }
    }

    fn swap(&self, swapped: bool, previous: Option<&[u8]>) -> anyhow::Result<ExitCode> {
        let previous = previous.map(|value| self.show(value));
        match self.output {
            Output::Json => json_line(&json!({"swapped": swapped, "previous": previous}))?,
            Output::Plain => {
                if let Some(previous) = previous {
                    line(previous.as_bytes())?;
                }
                if !swapped {
                    eprintln!("pinion: not swapped");
                }
            }
        }
        Ok(if swapped { ExitCode::SUCCESS } else { ExitCode::from(exit::NOT_FOUND) })
    }

    fn remaining(&self, key: &[u8], remaining: Remaining) -> anyhow::Result<ExitCode> {
        let millis = match remaining {
            Remaining::NotFound => return self.not_found(key),
            Remaining::Forever => None,
            Remaining::For(time) => Some(u64::try_from(time.as_millis())?),
        };
        match self.output {
            Output::Json => json_line(&json!({"key": self.show(key), "ttl_ms": millis}))?,
            Output::Plain => {
                line(millis.map_or_else(|| "forever".into(), |millis| millis.to_string()).as_bytes())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, bytes: &[u8]) -> String {
        self.notation.show(bytes)
    }
}

fn json_line(value: &serde_json::Value) -> anyhow::Result<()> {
    line(value.to_string().as_bytes())
}

fn line(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.write_all(b"\n")?)
}
