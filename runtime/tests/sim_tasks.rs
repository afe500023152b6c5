//! Tasks, time, clocks and mailboxes in the simulator.

use pinion_runtime::sim::{self, Config};
use pinion_runtime::{mailbox, now, sleep, spawn, wall_clock, yield_now};
use pinion_types::CoreId;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

#[test]
fn timers_fire_in_the_order_of_their_deadlines() {
    sim::run(Config::new(1), |simulation| {
        let order = Rc::new(RefCell::new(Vec::new()));
        simulation.block_on(async {
            let sleepers: Vec<_> = [30, 10, 20]
                .map(|millis| {
                    let order = order.clone();
                    spawn(async move {
                        sleep(Duration::from_millis(millis)).await;
                        order.borrow_mut().push(millis);
                    })
                })
                .into();
            for sleeper in sleepers {
                sleeper.await;
            }
        });
        assert_eq!(*order.borrow(), [10, 20, 30]);
    });
}

#[test]
fn an_hour_passes_at_once() {
    let elapsed = sim::run(Config::new(1), |simulation| {
        simulation.run_for(Duration::from_hours(1));
        simulation.elapsed()
    });
    assert!(elapsed >= Duration::from_hours(1) && elapsed < Duration::from_secs(3601));
}

#[test]
fn who_yields_until_a_deadline_sees_it() {
    sim::run(Config::new(1), |simulation| {
        simulation.block_on(async {
            let deadline = now() + Duration::from_micros(50);
            while now() < deadline {
                yield_now().await;
            }
        });
    });
}

#[test]
fn the_choice_among_ready_tasks_is_the_seeds() {
    let orders: BTreeSet<Vec<u32>> = (0..20)
        .map(|seed| {
            sim::run(Config::new(seed), |simulation| {
                let order = Rc::new(RefCell::new(Vec::new()));
                simulation.block_on(async {
                    let tasks: Vec<_> = (0..4)
                        .map(|number| {
                            let order = order.clone();
                            spawn(async move { order.borrow_mut().push(number) })
                        })
                        .collect();
                    for task in tasks {
                        task.await;
                    }
                });
                order.take()
            })
        })
        .collect();
    assert!(orders.len() > 5, "{orders:?}");
}

#[test]
fn a_core_takes_its_tasks_along_when_it_ends() {
    struct Told(Rc<Cell<bool>>);
    impl Drop for Told {
        fn drop(&mut self) {
            // What is dropped may still try to start something.
            spawn(async { panic!("nothing starts on a core that has ended") });
            self.0.set(true);
        }
    }
    sim::run(Config::new(1), |simulation| {
        let dropped = Rc::new(Cell::new(false));
        let told = Told(dropped.clone());
        let host = simulation.add_host("a");
        let core = host.spawn_core(CoreId(0), async move {
            spawn(async move {
                let _told = told;
                std::future::pending::<()>().await;
            });
            yield_now().await;
        });
        simulation.block_on(core).unwrap();
        assert!(dropped.get());
        simulation.run_for(Duration::from_secs(1));
    });
}

#[test]
fn a_world_ends_with_tasks_that_spawn_wake_and_close_as_they_are_dropped() {
    struct Busy(mailbox::oneshot::Sender<()>, pinion_runtime::net::TcpListener, pinion_runtime::fs::File);
    impl Drop for Busy {
        fn drop(&mut self) {
            let (sender, _receiver) = mailbox::oneshot::channel();
            drop(std::mem::replace(&mut self.0, sender));
            spawn(sleep(Duration::from_secs(1)));
            let (address, _file) = (self.1.local_addr(), self.2.clone());
            assert!(pinion_runtime::net::TcpListener::bind(address).is_err());
        }
    }
    sim::run(Config::new(1), |simulation| {
        let host = simulation.add_host("a");
        for core in 0..3 {
            host.spawn_core::<()>(CoreId(core), async move {
                let (sender, receiver) = mailbox::oneshot::channel();
                let listener = pinion_runtime::net::TcpListener::bind("0.0.0.0:0".parse().unwrap()).unwrap();
                let file = pinion_runtime::fs::OpenOptions::write().create().open("/f").await.unwrap();
                spawn(async move {
                    let _busy = Busy(sender, listener, file);
                    std::future::pending::<()>().await;
                });
                receiver.await.unwrap();
            });
        }
        simulation.run_for(Duration::from_millis(1));
        let connecting = pinion_runtime::net::TcpStream::connect(host.address(1));
        simulation.block_on(async {
            let _ = futures_util::poll!(Box::pin(connecting));
        });
    });
}

#[test]
fn a_crash_drops_the_tasks_and_a_core_may_start_again() {
    sim::run(Config::new(1), |simulation| {
        let host = simulation.add_host("a");
        let ticks = Rc::new(Cell::new(0));
        let tick = |ticks: Rc<Cell<u32>>| async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                ticks.set(ticks.get() + 1);
            }
        };
        let core = host.spawn_core::<()>(CoreId(0), tick(ticks.clone()));
        simulation.run_for(Duration::from_millis(10));
        host.crash();
        assert!(core.is_over());
        assert!(simulation.block_on(core).is_none());
        let before = ticks.get();
        assert!(before >= 8, "{before}");
        simulation.run_for(Duration::from_millis(10));
        assert_eq!(ticks.get(), before);
        host.start();
        host.spawn_core::<()>(CoreId(0), tick(ticks.clone()));
        simulation.run_for(Duration::from_millis(10));
        assert!(ticks.get() > before);
    });
}

#[test]
fn a_paused_host_stands_still_while_its_clock_goes_on() {
    sim::run(Config::new(1), |simulation| {
        let host = simulation.add_host("a");
        let slept = host.spawn_core(CoreId(0), async {
            let before = now();
            sleep(Duration::from_millis(1)).await;
            before.elapsed()
        });
        simulation.run_for(Duration::from_micros(500));
        host.pause();
        simulation.run_for(Duration::from_secs(5));
        assert!(!slept.is_over());
        host.resume();
        assert!(simulation.block_on(slept).unwrap() >= Duration::from_secs(5));
    });
}

#[test]
fn clocks_drift_and_jump() {
    sim::run(Config::new(1), |simulation| {
        let host = simulation.add_host("a");
        host.set_clock_drift(100_000);
        let (host_slept, wall) = simulation
            .block_on(host.spawn_core(CoreId(0), async {
                let (start, wall) = (now(), wall_clock());
                sleep(Duration::from_secs(11)).await;
                (start.elapsed(), wall_clock().saturating_sub(wall))
            }))
            .unwrap();
        let world = simulation.elapsed();
        assert!(host_slept >= Duration::from_secs(11));
        assert!(wall >= Duration::from_secs(11));
        assert!(world < Duration::from_millis(10_001), "eleven fast seconds are ten: {world:?}");
        let read = || simulation.block_on(host.spawn_core(CoreId(0), async { wall_clock() })).unwrap();
        let before = read();
        host.put_wall_clock_back(Duration::from_mins(1));
        assert!(read() < before);
        host.put_wall_clock_forward(Duration::from_mins(2));
        assert!(read() > before + Duration::from_secs(59));
    });
}

#[test]
fn cores_talk_by_mailbox() {
    sim::run(Config::new(3), |simulation| {
        let host = simulation.add_host("a");
        let cores: Vec<_> = mailbox::mesh::<u32>(2, 8)
            .into_iter()
            .enumerate()
            .map(|(core, (sender, mut receiver))| {
                host.spawn_core(CoreId(u16::try_from(core).unwrap()), async move {
                    let other = CoreId(1 - receiver.core().0);
                    spawn(async move {
                        for number in 0..100 {
                            while sender.try_send(other, number).is_err() {
                                sleep(Duration::from_micros(10)).await;
                            }
                        }
                        std::future::pending::<()>().await;
                    });
                    let mut sum = 0;
                    for _ in 0..100 {
                        sum += receiver.recv().await;
                    }
                    sleep(Duration::from_millis(10)).await;
                    sum
                })
            })
            .collect();
        for core in cores {
            assert_eq!(simulation.block_on(core), Some(4950));
        }
    });
}

#[test]
#[should_panic(expected = "nothing is ready and nothing will happen")]
fn waiting_for_nothing_is_reported() {
    sim::run(Config::new(1), |simulation| simulation.block_on(std::future::pending::<()>()));
}
