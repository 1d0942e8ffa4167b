//! Every allocation of the test binary is counted, thread by thread and for the whole process.
//!
//! Tests run side by side, so the counts of the process mean something only in one of its own: see [`alone`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counting what each thread and all of them hold, and the peaks.
struct Counting;

static PROCESS_CALLS: AtomicUsize = AtomicUsize::new(0);
static PROCESS_HELD: AtomicIsize = AtomicIsize::new(0);
static PROCESS_PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    CALLS.set(CALLS.get() + usize::from(change > 0));

    let held = PROCESS_HELD.fetch_add(change, Relaxed) + change;
    PROCESS_PEAK.fetch_max(held, Relaxed);
    PROCESS_CALLS.fetch_add(usize::from(change > 0), Relaxed);
}

/// How often this thread has asked for memory so far.
pub fn allocations() -> usize {
    CALLS.get()
}

/// How often any thread has asked for memory so far. Only in a test that runs [`alone`].
pub fn process_allocations() -> usize {
    PROCESS_CALLS.load(Relaxed)
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe to implement; this one hands every call on"
)]
// SAFETY: every call goes to the system's allocator with the arguments unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `f` and gives its result and the most bytes this thread held on top of those it held before.
pub fn peak_of<T>(f: impl FnOnce() -> T) -> (T, isize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = f();
    (result, PEAK.get() - before)
}

/// [`peak_of`] over all threads. Only in a test that runs [`alone`].
pub fn process_peak_of<T>(f: impl FnOnce() -> T) -> (T, isize) {
    let before = PROCESS_HELD.load(Relaxed);
    PROCESS_PEAK.store(before, Relaxed);
    let result = f();
    (result, PROCESS_PEAK.load(Relaxed) - before)
}

/// Runs `f` without a word about panics in it: a backtrace takes more memory to print than what is measured here may take.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                usual(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = f();
    QUIET.set(false);
    result
}

/// Runs `test`, the body of the test of that full name, in a process where nothing else runs.
#[track_caller]
pub fn alone(name: &str, test: impl FnOnce()) {
    const MARK: &str = "MAMBASCOPE_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return test();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    // Who got here wants the test to run, also one that is ignored elsewhere.
    child.args([name, "--exact", "--include-ignored", "--nocapture"]);
    child.arg("--test-threads=1");
    let output = child.env(MARK, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        // A name that is wrong runs no test, which is a success too.
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_watch_sees_other_threads_too() {
    alone("memory::the_watch_sees_other_threads_too", || {
        let work = || drop(std::hint::black_box(vec![1_u8; 1 << 20]));
        let (calls, all_calls) = (allocations(), process_allocations());
        let (((), own), all) = process_peak_of(|| {
            peak_of(|| {
                std::thread::scope(|scope| {
                    scope.spawn(work);
                });
            })
        });
        assert!(own < 1 << 20 && all >= 1 << 20, "{own} {all}");
        assert!(process_allocations() - all_calls > allocations() - calls);
        let before = process_allocations();
        std::hint::black_box(before.wrapping_mul(7));
        assert_eq!(process_allocations(), before);
    });
}

#[test]
fn the_watch_sees_memory() {
    let ((), peak) = peak_of(|| drop(std::hint::black_box(vec![1_u8; 1 << 20])));
    assert!(peak >= 1 << 20, "{peak}");
}
