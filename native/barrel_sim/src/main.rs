//! `barrel_sim`: see `USAGE` in `cli`.

#![deny(unsafe_code)]

mod counting;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use barrel_sim::cli::{Request, USAGE};
use barrel_sim::report::{Chart, Findings, Row, csv, json, table};
use barrel_sim::run::{Job, run};
use barrel_sim::scenarios::Kind;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let request = match Request::parse(&words) {
        Ok(request) => request,
        Err(said) => {
            complain(&format!("barrel_sim: {said}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match answer(&request) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("barrel_sim: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Nobody is left to tell when standard error is closed.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether all rows pass.
fn answer(request: &Request) -> io::Result<bool> {
    let begun = Instant::now();
    let jobs = request.jobs();
    let found = run(&jobs, request.threads(), |job, findings| {
        let (name, plan, seconds) = (job.scenario.name, job.plan, begun.elapsed().as_secs_f64());
        complain(&format!(
            "{seconds:7.1} s  {name} of {} {} nodes, seed {}: {} events, history {:032x}",
            plan.nodes,
            plan.kind.name(),
            plan.seed,
            findings.steps,
            findings.hash
        ));
    });
    let (rows, jobs) = rows(&found);
    let text = table(&rows, |row, seed| command(&jobs[row], seed));
    io::stdout().write_all(text.as_bytes())?;
    let failed = rows.iter().filter(|row| !row.passes()).count();
    let verdict = format!(
        "{} figures, {failed} fail, {:.0} s\n",
        rows.len(),
        begun.elapsed().as_secs_f64()
    );
    io::stdout().write_all(verdict.as_bytes())?;
    if let Some(file) = &request.json {
        fs::write(file, json(&rows))?;
    }
    if let Some(file) = &request.csv {
        fs::write(file, csv(&rows))?;
    }
    if let Some(folder) = &request.svg {
        draw(folder, found)?;
    }
    Ok(failed == 0)
}

/// Rows of one family together, the families in the order of their runs, and a run that each row is of.
fn rows(found: &[(Job, Findings)]) -> (Vec<Row>, Vec<Job>) {
    let (mut rows, mut jobs) = (Vec::new(), Vec::new());
    let world = |job: &Job| (job.scenario.name, job.plan.nodes, job.plan.kind.name());
    for group in found.chunk_by(|(one, _), (other, _)| world(one) == world(other)) {
        let runs: Vec<(u64, Findings)> = group
            .iter()
            .map(|(job, found)| (job.plan.seed, found.clone()))
            .collect();
        let job = group[0].0;
        for mut row in Row::merge(&runs) {
            if job.plan.kind == Kind::Whole && job.scenario.takes_bare() {
                row.what = format!("{}, {} whole nodes", row.what, job.plan.nodes);
            }
            rows.push(row);
            jobs.push(job);
        }
    }
    (rows, jobs)
}

/// What repeats a figure.
fn command(job: &Job, seed: u64) -> String {
    let (scenario, plan) = (job.scenario.name, job.plan);
    format!(
        "cargo run --release -p barrel_sim -- --scenario {scenario} --nodes {} --{} --seed {seed}",
        plan.nodes,
        plan.kind.name()
    )
}

fn draw(folder: &Path, found: Vec<(Job, Findings)>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let charts = found
        .into_iter()
        .flat_map(|(_, findings)| findings.charts)
        .collect();
    for chart in Chart::merge(charts) {
        fs::write(folder.join(&chart.file).with_extension("svg"), chart.svg())?;
    }
    Ok(())
}
