//! Tasks: their table, their wakers, and which is polled next.

use super::random::Random;
use super::world::{Here, Place, World};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::trace::Kind;
use pinion_types::map::HashMap;

/// The id of the test driver, which is polled like a task but is none.
pub(super) const DRIVER: u64 = 0;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// All tasks of all hosts.
pub(super) struct Tasks {
    table: RefCell<HashMap<u64, Task>>,
    next: Cell<u64>,
    /// Tasks to be polled. The order says nothing: one is drawn.
    ready: RefCell<Vec<u64>>,
    /// Tasks woken since the last draw, in the order in which they were woken.
    woken: Arc<Mutex<Vec<u64>>>,
    driver: Arc<TaskWaker>,
}

struct Task {
    place: Place,
    /// Whether the core ends with this task.
    is_core: bool,
    /// Not there while it is polled.
    work: Option<Work>,
    wakes: Arc<TaskWaker>,
}

/// Wakers must be `Send`, although all of them stay on this thread: hence the atomic and the lock, which nobody else takes.
struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    woken: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        let woken = Arc::<Mutex<Vec<u64>>>::default();
        let driver = Arc::new(TaskWaker { id: DRIVER, queued: AtomicBool::new(false), woken: woken.clone() });
        Self {
            table: RefCell::default(),
            next: Cell::new(DRIVER + 1),
            ready: RefCell::default(),
            woken,
            driver,
        }
    }

    /// The driver's waker, with the driver woken.
    pub(super) fn wake_driver(&self) -> Waker {
        self.driver.wake_by_ref();
        Waker::from(self.driver.clone())
    }

    /// Says that the driver is about to be polled.
    pub(super) fn begin_driver(&self) {
        self.driver.queued.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.borrow().is_empty()
    }

    pub(super) fn count_on(&self, host: usize) -> usize {
        self.table.borrow().values().filter(|task| task.place.host == host).count()
    }

    /// Makes the tasks ready that could not run while their host was paused.
    pub(super) fn unpark(&self, ids: Vec<u64>) {
        self.ready.borrow_mut().extend(ids);
    }

    /// Draws a ready task. Those of paused hosts are handed to `park`.
    ///
    /// What one poll woke joins the others sorted by id, so that the order in which it woke them, which may hang on a library's
    /// addresses, decides nothing.
    pub(super) fn draw(&self, choices: &Random, park: impl Fn(Place, u64) -> bool) -> Option<u64> {
        let mut ready = self.ready.borrow_mut();
        {
            let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.sort_unstable();
            ready.append(&mut woken);
        }
        while !ready.is_empty() {
            let index = if ready.len() == 1 { 0 } else { choices.index(ready.len()) };
            let id = ready.swap_remove(index);
            if id == DRIVER {
                return Some(id);
            }
            // A task may have ended since it was woken.
            let place = self.table.borrow().get(&id).map(|task| task.place);
            if place.is_some_and(|place| !park(place, id)) {
                return Some(id);
            }
        }
        None
    }

    fn insert(&self, place: Place, is_core: bool, work: Work) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        let wakes = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), woken: self.woken.clone() });
        wakes.wake_by_ref();
        self.table.borrow_mut().insert(id, Task { place, is_core, work: Some(work), wakes });
        id
    }
}

impl World {
    /// Starts a task at `place`, where it is dropped at once when the place is no more.
    pub(super) fn spawn_at<T: 'static>(
        self: &Rc<Self>,
        place: Place,
        is_core: bool,
        future: impl Future<Output = T> + 'static,
    ) -> JoinHandle<T> {
        let slot = Rc::new(Slot { value: Cell::new(None), over: Cell::new(false), waker: Cell::new(None) });
        if !self.is_alive(place) {
            slot.over.set(true);
            return JoinHandle(slot);
        }
        let finish = Finish(slot.clone());
        let id = self.tasks.insert(
            place,
            is_core,
            Box::pin(async move {
                let value = future.await;
                finish.0.value.set(Some(value));
            }),
        );
        self.event(Kind::Spawn, [id, place.host as u64, u64::from(place.core)]);
        JoinHandle(slot)
    }

    /// Polls one task once.
    pub(super) fn poll_task(self: &Rc<Self>, id: u64) {
        let Some((place, task_waker, mut work)) = self.tasks.take(id) else {
            return;
        };
        let here = self.enter(place);
        self.event(Kind::Poll, [id, 0, 0]);
        let waker = Waker::from(task_waker);
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                let task = self.tasks.table.borrow_mut().remove(&id);
                drop(work);
                drop(here);
                self.event(Kind::End, [id, 0, 0]);
                if task.is_some_and(|task| task.is_core) {
                    self.drop_tasks(|other| other == place);
                }
            }
            Poll::Pending => {
                if let Some(task) = self.tasks.table.borrow_mut().get_mut(&id) {
                    task.work = Some(work);
                    return;
                }
                // The task crashed its own host.
                drop(here);
                let _here = self.enter(Place { dying: true, ..place });
                drop(work);
            }
        }
    }

    /// Drops the tasks at the places that `doomed` names. What the drops spawn is dropped as well.
    pub(super) fn drop_tasks(self: &Rc<Self>, doomed: impl Fn(Place) -> bool) {
        let ids: BTreeSet<u64> = self
            .tasks
            .table
            .borrow()
            .iter()
            .filter(|(_, task)| doomed(task.place))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let task = self.tasks.table.borrow_mut().remove(&id);
            if let Some(task) = task {
                let _here = self.enter(Place { dying: true, ..task.place });
                drop(task);
            }
        }
    }
}

impl Tasks {
    fn take(&self, id: u64) -> Option<(Place, Arc<TaskWaker>, Work)> {
        let mut table = self.table.borrow_mut();
        let task = table.get_mut(&id)?;
        let work = task.work.take()?;
        task.wakes.queued.store(false, Ordering::Relaxed);
        Some((task.place, task.wakes.clone(), work))
    }
}

/// Where a task leaves its result.
struct Slot<T> {
    value: Cell<Option<T>>,
    over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// Says that the task is over, when it is dropped: with a result or without.
struct Finish<T>(Rc<Slot<T>>);

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        self.0.over.set(true);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

/// A running task. Dropping the handle leaves the task running.
pub(crate) struct JoinHandle<T>(Rc<Slot<T>>);

impl<T> JoinHandle<T> {
    /// The task's result; `None` when it was dropped before its end.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.0.over.get() {
            return Poll::Ready(self.0.value.take());
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether the task has ended or was dropped.
    pub(super) fn is_over(&self) -> bool {
        self.0.over.get()
    }
}

impl Here {
    /// Starts a task on this core.
    pub(crate) fn spawn<T: 'static>(self, future: impl Future<Output = T> + 'static) -> JoinHandle<T> {
        self.world.spawn_at(self.place, false, future)
    }

    /// A seeded answer: code must be right whenever it yields.
    pub(crate) fn should_yield(self) -> bool {
        self.world.numbers.below(8) == 0
    }
}

/// Lets other ready tasks run.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
