//! The checker against stores in memory: a right one passes, and every fault is found.

use super::*;
use crate::store::fake::{Fake, Fault};
use std::rc::Rc;

const WRITERS: usize = 4;
const WRITES: u64 = 500;
const RESTARTS: usize = 5;

/// Writes, reads, stops and restarts a few times; the first violation ends it.
async fn torture(fault: Fault) -> Result<()> {
    let store = Rc::new(Fake::new(fault));
    let mut random = Random::new(7);
    let mut model = Model::new(keys(WRITERS));
    for restart in 0..=RESTARTS {
        let session = Rc::new(Session::new(model));
        verify(&session, &*store, &mut random).await?;
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (session, store, random) = (session.clone(), store.clone(), random.fork());
            tasks.push(pinion_runtime::spawn(async move {
                write(&session, &*store, slice(writer), random).await;
            }));
        }
        let (reading, reader_store, reader_random) = (session.clone(), store.clone(), random.fork());
        tasks.push(pinion_runtime::spawn(async move { read(&reading, &*reader_store, reader_random).await }));
        let before = session.acknowledged();
        while session.acknowledged() < before + WRITES && !session.stopped() {
            pinion_runtime::yield_now().await;
        }
        store.stop();
        session.stop();
        for task in tasks {
            task.await;
        }
        session.fault()?;
        store.restart();
        model = session.model.replace(Model::new(Vec::new()));
        assert!(model.acknowledged() >= before + WRITES, "restart {restart}");
    }
    Ok(())
}

fn run(fault: Fault) -> Result<()> {
    pinion_runtime::machine::block_on(torture(fault))?
}

#[test]
fn a_right_store_passes() {
    run(Fault::None).unwrap();
}

#[test]
fn every_fault_is_found() {
    for fault in [
        Fault::LosesLastWrites,
        Fault::ReadsOldState,
        Fault::BringsDeletedBack,
        Fault::TearsBatch,
        Fault::MixesValues,
    ] {
        let found = run(fault).expect_err(&format!("{fault:?}"));
        assert!(found.downcast_ref::<Violation>().is_some(), "{fault:?}: {found:#}");
    }
}

#[test]
fn keys_ascend_from_slice_to_slice() {
    let keys = keys(3);
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), slice(2).end);
}
