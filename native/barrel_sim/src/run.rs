//! Runs side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::report::Findings;
use crate::scenarios::{Plan, Scenario, Shared};

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// What is asked.
    pub scenario: &'static Scenario,
    /// Of which world.
    pub plan: Plan,
}

/// Runs all jobs on so many threads. The answers are in the order of the jobs, whichever ended first;
/// `done` hears of each when it ends.
pub fn run(
    jobs: &[Job],
    threads: usize,
    done: impl Fn(&Job, &Findings) + Sync,
) -> Vec<(Job, Findings)> {
    let next = AtomicUsize::new(0);
    let shared = Shared::default();
    // guards what the threads found so far; nothing is computed under it
    let found = Mutex::new(Vec::with_capacity(jobs.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let findings = job.scenario.run(job.plan, &shared);
                    done(job, &findings);
                    if let Ok(mut found) = found.lock() {
                        found.push((*job, findings));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    let place = |job: &Job| {
        jobs.iter()
            .position(|one| one.plan == job.plan && one.scenario.name == job.scenario.name)
    };
    found.sort_by_key(|(job, _)| place(job));
    found
}
