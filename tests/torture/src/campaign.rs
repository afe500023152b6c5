//! A campaign: rounds of start, look at everything, write, fail, recover.
//!
//! A round is one failure of a server that serves, after a number of acknowledged writes, and every fourth round has one more, of the
//! server that starts again: a fifth of all failures hit the start-up.

use crate::medium::{Medium, run};
use crate::server::{Launch, Server};
use anyhow::{Context, Result, bail};
use pinion_workload::{Connection, Model, Random, Session, session};
use std::rc::Rc;
use std::time::Duration;

/// Connections that write, calls that each has outstanding, and connections that read.
const CONNECTIONS: usize = 4;
const DEPTH: usize = 4;
const READERS: usize = 2;
const WRITERS: usize = CONNECTIONS * DEPTH;
/// Every so many rounds the start is hit, too.
const START_EVERY: u64 = 4;
/// Tries to hit a start before it is over.
const START_TRIES_MAX: u32 = 20;
/// The failure comes up to so long after the last write that was asked for.
const DELAY_US_MAX: u64 = 200_000;
/// The server lives on for up to so long on a medium that has failed.
const AFTERMATH_US_MAX: u64 = 50_000;
/// A round that has not got its writes acknowledged by then has failed.
const WRITES_TAKE_MAX: Duration = Duration::from_mins(2);
/// Calls that are neither answered nor refused so long after the server's end are a fault of the client's.
const CALLS_END_MAX: Duration = Duration::from_secs(30);

/// What a campaign does.
pub(crate) struct Plan {
    pub(crate) rounds: u64,
    /// Acknowledged writes of a round, at least.
    pub(crate) writes: u64,
    pub(crate) launch: Launch,
    /// A fault was planted, and must be found.
    pub(crate) expect_loss: bool,
}

/// What a campaign has done.
#[derive(Debug, Default)]
struct Tally {
    serving: u64,
    starting: u64,
    reads: u64,
    open: usize,
    slowest_start: Duration,
}

/// All that goes through a round. The server goes first when it is dropped: it has the medium's files open.
struct Round {
    server: Server,
    medium: Box<dyn Medium + Send>,
    model: Model,
    random: Random,
}

/// Runs the campaign on `medium`.
pub(crate) fn campaign(plan: &Plan, medium: Box<dyn Medium + Send>, random: Random) -> Result<()> {
    let mut tally = Tally::default();
    let result = rounds(plan, medium, random, &mut tally);
    println!(
        "{} failures while serving, {} during start-up; {} reads; {} writes settled by a restart; slowest start {:?}",
        tally.serving, tally.starting, tally.reads, tally.open, tally.slowest_start
    );
    match (result, plan.expect_loss) {
        (Ok(acknowledged), false) => {
            println!("{acknowledged} acknowledged writes, all found again");
            Ok(())
        }
        (Ok(_), true) => bail!("a fault was planted, and {} failures have not found it", tally.serving),
        (Err(error), true) if tally.serving > 0 => {
            println!("the planted fault was found: {error:#}");
            Ok(())
        }
        (Err(error), _) => Err(error),
    }
}

/// The answer is the number of acknowledged writes.
fn rounds(plan: &Plan, medium: Box<dyn Medium + Send>, random: Random, tally: &mut Tally) -> Result<u64> {
    let server = plan.launch.start(&medium.data_dir())?.ready()?;
    split(plan, &server)?;
    let mut round = Round { server, medium, model: Model::new(session::keys(WRITERS)), random };
    for number in 1..=plan.rounds {
        let before = round.model.acknowledged();
        round = on_runtime(round, plan.writes, tally).with_context(|| format!("round {number}"))?;
        tally.serving += 1;
        tally.open += round.model.open();
        println!(
            "round {number}: {} writes acknowledged, {} open at the failure",
            round.model.acknowledged() - before,
            round.model.open()
        );
        round.medium.recover()?;
        if number.is_multiple_of(START_EVERY) {
            fail_start(plan, &mut round, tally)?;
        }
        round.server = plan.launch.start(&round.medium.data_dir())?.ready()?;
        tally.slowest_start = tally.slowest_start.max(round.server.start_took());
    }
    // A clean stop must keep everything, too.
    round = look(round)?;
    round.server.stop()?;
    round.server = plan.launch.start(&round.medium.data_dir())?.ready()?;
    round = look(round)?;
    round.server.stop()?;
    Ok(round.model.acknowledged())
}

/// Splits the one region that there is at first, so that every core has one.
fn split(plan: &Plan, server: &Server) -> Result<()> {
    let cores = server.addresses().len();
    let keys = session::keys(WRITERS);
    for core in 1..cores {
        let border = session::slice(WRITERS * core / cores).start;
        let key = std::str::from_utf8(&keys[border])?;
        let program = plan.launch.program.to_str().context("the program's path is not UTF-8")?;
        run(program, &["region", "split", key, "--connect", &server.addresses()[0]])?;
    }
    Ok(())
}

/// Fails the medium, and kills the server, before the server says that it is ready.
fn fail_start(plan: &Plan, round: &mut Round, tally: &mut Tally) -> Result<()> {
    let mut window = u64::try_from(round.server.start_took().as_micros())?.max(1000);
    for _ in 0..START_TRIES_MAX {
        let starting = plan.launch.start(&round.medium.data_dir())?;
        let after = Duration::from_micros(round.random.below(window));
        let hit = starting.still_starting_after(after)?;
        if hit {
            round.medium.fail(&mut round.random)?;
        }
        starting.kill()?;
        if hit {
            tally.starting += 1;
            return round.medium.recover();
        }
        window = (window * 3 / 4).max(1000);
    }
    bail!("the server was ready too soon, {START_TRIES_MAX} times")
}

/// One round on an executor of its own.
fn on_runtime(round: Round, writes: u64, tally: &mut Tally) -> Result<Round> {
    let (round, reads) = pinion_runtime::machine::block_on(serve_and_fail(round, writes))??;
    tally.reads += reads;
    Ok(round)
}

/// Looks at everything, writes, and ends with the failure. The answer has the number of reads.
async fn serve_and_fail(mut round: Round, writes: u64) -> Result<(Round, u64)> {
    let session = Rc::new(Session::new(std::mem::replace(&mut round.model, Model::new(Vec::new()))));
    let address = |index: usize| &round.server.addresses()[index % round.server.addresses().len()];
    let first = Connection::connect(address(0)).await?;
    session::verify(&session, &first, &mut round.random).await?;
    let before = session.acknowledged();
    let mut tasks = Vec::new();
    for index in 0..CONNECTIONS {
        let connection = Rc::new(Connection::connect(address(index)).await?);
        for call in 0..DEPTH {
            let (session, connection, random) = (session.clone(), connection.clone(), round.random.fork());
            let slice = session::slice(index * DEPTH + call);
            tasks.push(pinion_runtime::spawn(async move {
                session::write(&session, &*connection, slice, random).await;
            }));
        }
    }
    for index in 0..READERS {
        let connection = Rc::new(Connection::connect(address(index)).await?);
        for _ in 0..DEPTH {
            let (session, connection, random) = (session.clone(), connection.clone(), round.random.fork());
            tasks.push(pinion_runtime::spawn(async move {
                session::read(&session, &*connection, random).await;
            }));
        }
    }
    wait_for_writes(&session, before + writes, &mut round).await?;
    let mut round = fail(round).await?;
    session.stop();
    end(tasks).await?;
    session.fault()?;
    round.model = session.model.replace(Model::new(Vec::new()));
    Ok((round, session.reads()))
}

async fn wait_for_writes(session: &Session, wanted: u64, round: &mut Round) -> Result<()> {
    let began = pinion_runtime::now();
    while session.acknowledged() < wanted && !session.stopped() {
        round.server.check_running()?;
        if began.elapsed() > WRITES_TAKE_MAX {
            let (have, why) = (session.acknowledged(), session.last_unknown());
            bail!(
                "{have} of {wanted} writes acknowledged after {WRITES_TAKE_MAX:?}; the last writer that gave up: {why}"
            );
        }
        pinion_runtime::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Fails the medium, then kills the server, from a thread of its own: the clients work on meanwhile, so that it may hit anything.
async fn fail(round: Round) -> Result<Round> {
    let Round { mut server, mut medium, model, mut random } = round;
    let pid = server.pid();
    let failing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_micros(random.below(DELAY_US_MAX)));
        medium.fail(&mut random)?;
        std::thread::sleep(Duration::from_micros(random.below(AFTERMATH_US_MAX)));
        run("kill", &["-KILL", &pid])?;
        anyhow::Ok((medium, random))
    });
    while !failing.is_finished() {
        pinion_runtime::sleep(Duration::from_millis(1)).await;
    }
    let failed = failing.join().map_err(|_| anyhow::anyhow!("the thread that fails the server panicked"))?;
    let (medium, random) = failed?;
    server.kill()?;
    Ok(Round { server, medium, model, random })
}

/// Waits for every task; a connection that broke must end them all.
async fn end(tasks: Vec<pinion_runtime::JoinHandle<()>>) -> Result<()> {
    use futures_util::future::{Either, join_all, select};
    let all = std::pin::pin!(join_all(tasks));
    let timer = std::pin::pin!(pinion_runtime::sleep(CALLS_END_MAX));
    match select(all, timer).await {
        Either::Left(_) => Ok(()),
        Either::Right(_) => bail!("calls are still open {CALLS_END_MAX:?} after the server's end"),
    }
}

/// Compares everything with the model; nothing fails.
fn look(mut round: Round) -> Result<Round> {
    pinion_runtime::machine::block_on(async move {
        let session = Session::new(std::mem::replace(&mut round.model, Model::new(Vec::new())));
        let connection = Connection::connect(&round.server.addresses()[0]).await?;
        session::verify(&session, &connection, &mut round.random).await?;
        round.model = session.model.into_inner();
        anyhow::Ok(round)
    })?
}
