//! The primitives of [`super::super::concurrency`], as the checker knows them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};

pub use shuttle::future::JoinHandle;
pub use shuttle::sync::Mutex;
pub use shuttle::sync::atomic::AtomicUsize;

/// Starts a detached task. As on Tokio, its panic is its own.
pub fn spawn(
    _: &tokio::runtime::Handle,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    shuttle::future::spawn(async {
        let _ = AssertUnwindSafe(task).catch_unwind().await;
    })
}

/// As much of Tokio's watch channel as this room uses.
pub mod watch {
    use std::sync::PoisonError;

    use shuttle::sync::MutexGuard;

    use super::{Arc, Mutex, Poll, Waker};

    struct Shared<T> {
        value: T,
        version: u64,
        closed: bool,
        waiting: Vec<Waker>,
    }

    /// A task that panics poisons what others hold at that moment, as all share one thread.
    fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub struct Sender<T>(Arc<Mutex<Shared<T>>>);

    pub struct Receiver<T> {
        shared: Arc<Mutex<Shared<T>>>,
        seen: u64,
    }

    /// The other end was dropped.
    #[derive(Debug)]
    pub struct Closed;

    pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
        let sender = Sender::new(value);
        let receiver = sender.subscribe();
        (sender, receiver)
    }

    impl<T> Sender<T> {
        pub fn new(value: T) -> Sender<T> {
            let shared = Shared { value, version: 0, closed: false, waiting: Vec::new() };
            Sender(Arc::new(Mutex::new(shared)))
        }

        pub fn subscribe(&self) -> Receiver<T> {
            let seen = lock(&self.0).version;
            Receiver { shared: self.0.clone(), seen }
        }

        pub fn send_replace(&self, value: T) -> T {
            self.change(|shared| {
                shared.version += 1;
                std::mem::replace(&mut shared.value, value)
            })
        }

        fn change<R>(&self, change: impl FnOnce(&mut Shared<T>) -> R) -> R {
            let (done, waiting) = {
                let mut shared = lock(&self.0);
                (change(&mut shared), std::mem::take(&mut shared.waiting))
            };
            waiting.into_iter().for_each(Waker::wake);
            done
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.change(|shared| shared.closed = true);
        }
    }

    impl<T> Receiver<T> {
        /// Waits for a value that was not seen yet.
        pub async fn changed(&mut self) -> Result<(), Closed> {
            let seen = self.seen;
            self.seen =
                self.until(|shared| (shared.version > seen).then_some(shared.version)).await?;
            Ok(())
        }

        pub async fn wait_for(&mut self, fits: impl Fn(&T) -> bool) -> Result<(), Closed> {
            self.until(|shared| fits(&shared.value).then_some(())).await
        }

        async fn until<R>(&self, ready: impl Fn(&Shared<T>) -> Option<R>) -> Result<R, Closed> {
            std::future::poll_fn(|context| {
                let mut shared = lock(&self.shared);
                if let Some(ready) = ready(&shared) {
                    return Poll::Ready(Ok(ready));
                }
                if shared.closed {
                    return Poll::Ready(Err(Closed));
                }
                shared.waiting.push(context.waker().clone());
                Poll::Pending
            })
            .await
        }
    }
}

/// Uptime, and who waits for when.
#[derive(Default)]
struct Clock {
    now: Duration,
    timers: BTreeMap<(Duration, usize), Waker>,
    numbers: usize,
}

// The checker runs all tasks of a run on one thread. A look at the clock is no step of theirs.
thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

/// A run begins: time, too.
pub fn reset_time() {
    CLOCK.take();
}

pub fn uptime() -> Duration {
    CLOCK.with_borrow(|clock| clock.now)
}

/// Time passes while nobody waits for it.
pub fn pass(by: Duration) {
    CLOCK.with_borrow_mut(|clock| {
        assert!(clock.timers.is_empty());
        clock.now += by;
    });
}

/// Time passes until the next timer fires; with none, it stands still.
pub fn fire_next_timer() {
    let fired = CLOCK.with_borrow_mut(|clock| {
        let ((at, _), waker) = clock.timers.pop_first()?;
        clock.now = clock.now.max(at);
        Some(waker)
    });
    fired.into_iter().for_each(Waker::wake);
}

/// Elapsed before the other was ready.
#[derive(Debug)]
pub struct Elapsed;

pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    // The future first, as Tokio does: what is ready in time counts.
    match select(pin!(future), pin!(sleep(limit))).await {
        Either::Left((ready, _)) => Ok(ready),
        Either::Right(_) => Err(Elapsed),
    }
}

pub fn sleep(duration: Duration) -> Sleep {
    CLOCK.with_borrow_mut(|clock| {
        clock.numbers += 1;
        Sleep { until: (clock.now.saturating_add(duration), clock.numbers) }
    })
}

pub struct Sleep {
    until: (Duration, usize),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        CLOCK.with_borrow_mut(|clock| {
            if clock.now >= self.until.0 {
                return Poll::Ready(());
            }
            clock.timers.insert(self.until, context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        CLOCK.with_borrow_mut(|clock| clock.timers.remove(&self.until));
    }
}
