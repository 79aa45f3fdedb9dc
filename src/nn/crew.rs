//! Threads that look for work instead of sleeping, for stretches in which pieces of work of some
//! microseconds follow each other: between the products of one token, waking a thread would take
//! as long as the product.
//!
//! The threads are the pool's own. One that has other work to do does not come, and what it would have
//! done is done by those who are there.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

/// Looks for work before a thread lets others run: some microseconds.
const LOOKS: u32 = 2000;
/// Bits of a ticket for the place that is taken next, and for the number of places.
const PLACES: u32 = 20;

/// Work that is handed out: a function of a place.
struct Work<'a> {
    each: &'a (dyn Fn(usize) + Sync),
}

/// What the threads of one stretch share.
struct Crew {
    /// The number of the work, of its places, and of the place that is taken next.
    ticket: AtomicU64,
    /// The current work; whoever has taken a place of it may follow the pointer, since the work is not
    /// over before all places are done.
    work: AtomicPtr<()>,
    done: AtomicUsize,
    failed: AtomicBool,
    over: AtomicBool,
    /// The thread that hands out the work.
    leader: Option<usize>,
}

thread_local! {
    /// The crew that this thread leads.
    static LED: Cell<*const Crew> = const { Cell::new(ptr::null()) };
}

impl Crew {
    /// Does the next place of the current work; whether there was one.
    fn step(&self) -> bool {
        let ticket = self.ticket.load(Ordering::Acquire);
        let mask = (1 << PLACES) - 1;
        let (place, places) = (ticket & mask, ticket >> PLACES & mask);
        if place == places {
            return false;
        }
        let taken = self.ticket.compare_exchange_weak(
            ticket,
            ticket + 1,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        if taken.is_err() {
            return true;
        }
        let finish = Finish(self);
        let work = self.work.load(Ordering::Acquire).cast::<Work<'_>>();
        // SAFETY: the place taken is one of the current work, and `hand_out`, in whose frame that lies,
        // does not return before it is done.
        let each = unsafe { (*work).each };
        each(place as usize);
        finish.well();
        true
    }

    /// Does the places of all work that is handed out until the stretch is over.
    fn help(&self) {
        // The leader, who has come here as it waited for other work of the pool, would wait for itself.
        if rayon::current_thread_index() == self.leader {
            return;
        }
        let mut looks = 0;
        while !self.over.load(Ordering::Acquire) {
            if self.step() {
                looks = 0;
                continue;
            }
            looks += 1;
            match looks < LOOKS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
    }

    /// Has `each` done for every place below `places`.
    fn hand_out(&self, places: usize, each: &(dyn Fn(usize) + Sync)) {
        let work = Work { each };
        let number = (self.ticket.load(Ordering::Relaxed) >> (2 * PLACES)).wrapping_add(1);
        self.done.store(0, Ordering::Relaxed);
        self.work
            .store(ptr::from_ref(&work).cast_mut().cast(), Ordering::Relaxed);
        let ticket = number << (2 * PLACES) | (places as u64) << PLACES;
        // What is handed out within a place goes to the pool.
        LED.set(ptr::null());
        self.ticket.store(ticket, Ordering::Release);
        let all = AllDone { crew: self, places };
        while self.step() {}
        drop(all);
        LED.set(self);
        assert!(
            !self.failed.load(Ordering::Relaxed),
            "a thread of the crew failed"
        );
    }
}

/// Waits until every place of the current work is done, or, where the leader fails, every one that
/// somebody has begun.
struct AllDone<'a> {
    crew: &'a Crew,
    places: usize,
}

impl Drop for AllDone<'_> {
    fn drop(&mut self) {
        let crew = self.crew;
        let mask = (1 << PLACES) - 1;
        loop {
            let ticket = crew.ticket.load(Ordering::Acquire);
            let left = (ticket >> PLACES & mask) - (ticket & mask);
            let (order, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
            let end = ticket + left;
            let taken = crew.ticket.compare_exchange(ticket, end, order, relaxed);
            if taken.is_ok() {
                crew.done.fetch_add(left as usize, Ordering::Release);
                break;
            }
        }
        let mut looks = 0u32;
        while crew.done.load(Ordering::Acquire) < self.places {
            looks = looks.saturating_add(1);
            match looks < LOOKS {
                true => std::hint::spin_loop(),
                false => std::thread::yield_now(),
            }
        }
    }
}

/// Counts a place as done, whatever happened in it, so that nobody waits for ever.
struct Finish<'a>(&'a Crew);

impl Finish<'_> {
    fn well(self) {
        self.0.done.fetch_add(1, Ordering::Release);
        std::mem::forget(self);
    }
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::Relaxed);
        self.0.done.fetch_add(1, Ordering::Release);
    }
}

/// Ends a stretch, also where it panics.
struct Lead<'a>(&'a Crew);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        LED.set(ptr::null());
        self.0.over.store(true, Ordering::Release);
    }
}

/// Calls `f` on a thread of the pool while the others look for what it hands out with [`each`].
pub(crate) fn together<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    // The first scope is there to come to a thread of the pool.
    rayon::scope(|_| {
        let helpers = rayon::current_num_threads() - 1;
        if helpers == 0 || !LED.get().is_null() {
            return f();
        }
        let crew = Crew {
            ticket: AtomicU64::new(0),
            work: AtomicPtr::new(ptr::null_mut()),
            done: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            leader: rayon::current_thread_index(),
        };
        let crew = &crew;
        rayon::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| crew.help());
            }
            let _lead = Lead(crew);
            LED.set(crew);
            f()
        })
    })
}

/// Calls `f` for every number below `count` on all threads there are.
pub(crate) fn each(count: usize, f: impl Fn(usize) + Sync) {
    let crew = LED.get();
    if crew.is_null() || count >= 1 << PLACES {
        return (0..count).into_par_iter().for_each(&f);
    }
    if count < 2 {
        return (0..count).for_each(f);
    }
    // SAFETY: this thread leads the crew, which lives until `together` has returned on it and the
    // pointer is taken away before.
    unsafe { &*crew }.hand_out(count, &f);
}

/// Calls `f` for every piece of `out` of `length` numbers, with its index, on all threads there are.
pub(crate) fn each_chunk(out: &mut [f32], length: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let (all, start) = (out.len(), Start(out.as_mut_ptr()));
    each(all.div_ceil(length), |index| {
        let first = index * length;
        // SAFETY: pieces don't overlap and end with the slice, which is borrowed until all are done.
        let piece =
            unsafe { std::slice::from_raw_parts_mut(start.at(first), length.min(all - first)) };
        f(index, piece);
    });
}

/// Where the numbers lie whose pieces threads write to.
struct Start(*mut f32);

impl Start {
    fn at(&self, first: usize) -> *mut f32 {
        self.0.wrapping_add(first)
    }
}

// SAFETY: every thread writes to a piece of its own.
unsafe impl Sync for Start {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_written_by_one_thread() {
        let mut numbers = vec![0.0; 103];
        let fill = |index: usize, piece: &mut [f32]| piece.fill(index as f32);
        together(|| each_chunk(&mut numbers, 10, fill));
        assert!((0..103).all(|i| numbers[i] == (i / 10) as f32));
    }

    #[test]
    fn every_place_is_done_once_in_a_crew_and_without_one() {
        for crew in [true, false] {
            let sums: Vec<AtomicUsize> = (0..1000).map(|_| AtomicUsize::new(0)).collect();
            let all = || {
                for round in 1..200 {
                    each(round * 5, |place| {
                        sums[place].fetch_add(round, Ordering::Relaxed);
                    });
                }
                7
            };
            let seven = if crew { together(all) } else { all() };
            assert_eq!(seven, 7);
            for (place, sum) in sums.iter().enumerate() {
                let rounds = (1..200).filter(|round| place < round * 5);
                assert_eq!(sum.load(Ordering::Relaxed), rounds.sum::<usize>());
            }
        }
    }

    #[test]
    fn stretches_may_stand_within_each_other_and_side_by_side() {
        let total = AtomicUsize::new(0);
        let add = |n: usize| {
            total.fetch_add(n, Ordering::Relaxed);
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| together(|| together(|| each(10, add))));
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 4 * 45);
    }

    #[test]
    fn work_that_fails_ends_the_stretch() {
        let failed = std::panic::catch_unwind(|| {
            together(|| {
                each(64, |place| assert!(place != 33));
            });
        });
        assert!(failed.is_err());
        let after = AtomicUsize::new(0);
        together(|| {
            each(3, |_| {
                after.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(after.load(Ordering::Relaxed), 3);
    }
}
