//! The command line.

use std::path::PathBuf;

use crate::run::Job;
use crate::scenarios::{self, FEW_WHOLE, Kind, Plan, Scenario};

/// How it is used.
pub const USAGE: &str = "\
usage: barrel_sim --scenario NAME [--nodes N] [--seed S] [--seeds K]    one family of questions
       barrel_sim --table [--reduced] [--seeds K] [--rows H1,H2]        the acceptance table
  --nodes N      nodes of the world (as in the table)
  --seed S       the first seed (1)
  --seeds K      so many seeds (1, and 3 for the table)
  --reduced      small worlds
  --whole        nodes with all that ships (up to 300 nodes they are)
  --bare         views and tree alone
  --rows LIST    only families that answer one of these rows
  --threads N    runs at one time (2)
  --json FILE    the figures for programs
  --csv FILE     the same as lines
  --svg DIR      the curves
Exit 1 when a row fails.";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    scenario: Option<String>,
    table: bool,
    reduced: bool,
    kind: Option<Kind>,
    nodes: Option<u32>,
    seed: Option<u64>,
    seeds: Option<u64>,
    rows: Vec<String>,
    threads: Option<usize>,
    /// Where the figures go, for programs.
    pub json: Option<PathBuf>,
    /// The same as lines.
    pub csv: Option<PathBuf>,
    /// Where the curves go.
    pub svg: Option<PathBuf>,
}

/// More is no world that fits into a computer.
const MAX_NODES: u32 = 200_000;

impl Request {
    /// Reads the words behind the name of the program.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--scenario" => request.scenario = Some(value()?.clone()),
                "--table" => request.table = true,
                "--reduced" => request.reduced = true,
                "--whole" => request.kind = Some(Kind::Whole),
                "--bare" => request.kind = Some(Kind::Bare),
                "--nodes" => request.nodes = Some(number(word, value()?)?),
                "--seed" => request.seed = Some(number(word, value()?)?),
                "--seeds" => request.seeds = Some(number(word, value()?)?),
                "--threads" => request.threads = Some(number(word, value()?)?),
                "--rows" => request.rows = value()?.split(',').map(String::from).collect(),
                "--json" => request.json = Some(value()?.into()),
                "--csv" => request.csv = Some(value()?.into()),
                "--svg" => request.svg = Some(value()?.into()),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        request.check()
    }

    fn check(self) -> Result<Self, String> {
        match (&self.scenario, self.table) {
            (Some(_), true) => return Err("--scenario or --table, not both".into()),
            (None, false) => return Err("--scenario or --table?".into()),
            _ => {}
        }
        if let Some(name) = self
            .scenario
            .as_ref()
            .filter(|name| scenarios::find(name).is_none())
        {
            let names: Vec<&str> = scenarios::ALL.iter().map(|one| one.name).collect();
            return Err(format!(
                "no scenario {name}; there are {}",
                names.join(", ")
            ));
        }
        let unknown = |row: &&String| {
            !scenarios::ALL
                .iter()
                .any(|one| one.rows.contains(&row.as_str()))
        };
        if let Some(row) = self.rows.iter().find(unknown) {
            return Err(format!("no scenario answers row {row}"));
        }
        if self
            .nodes
            .is_some_and(|nodes| !(10..=MAX_NODES).contains(&nodes))
        {
            return Err(format!("--nodes is 10 to {MAX_NODES}"));
        }
        Ok(self)
    }

    /// Runs at one time.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or(2).max(1)
    }

    /// What is to be run.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let is_wanted = |one: &&Scenario| match &self.scenario {
            Some(name) => one.name == name,
            None => {
                self.rows.is_empty()
                    || one
                        .rows
                        .iter()
                        .any(|row| self.rows.iter().any(|wanted| wanted == row))
            }
        };
        let first = self.seed.unwrap_or(1);
        let seeds = self.seeds.unwrap_or(if self.table { 3 } else { 1 });
        let mut jobs = Vec::new();
        for scenario in scenarios::ALL.iter().filter(is_wanted) {
            let nodes = |seed| match (self.nodes, self.reduced, scenario.further) {
                (Some(nodes), _, _) => nodes,
                (None, true, _) => scenario.reduced,
                (None, false, further) if further > 0 && seed > first => further,
                (None, false, _) => scenario.nodes,
            };
            let kind = self.kind.unwrap_or_else(|| scenario.kind(nodes(first)));
            let mut job = |nodes, seed, kind| {
                let plan = Plan { nodes, seed, kind };
                jobs.push(Job { scenario, plan });
            };
            (first..first + seeds).for_each(|seed| job(nodes(seed), seed, kind));
            // the bare ones speak for the whole ones only if those do the same
            if self.table && kind == Kind::Bare && self.kind.is_none() {
                let whole = if self.reduced {
                    FEW_WHOLE
                } else {
                    scenario.besides
                };
                job(whole, first, Kind::Whole);
            }
        }
        jobs
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{word} takes a number, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(
            &line
                .split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_scenario_runs_once() {
        let jobs =
            parse("--nodes 10000 --scenario failures --seed 7").map(|request| request.jobs());
        let jobs = jobs.expect("a good line");
        assert_eq!(jobs.len(), 1);
        assert_eq!(
            (jobs[0].plan.nodes, jobs[0].plan.seed, jobs[0].plan.kind),
            (10_000, 7, Kind::Bare)
        );
        assert_eq!(jobs[0].scenario.name, "failures");
    }

    #[test]
    fn the_table_runs_everything_three_times() {
        let jobs = parse("--table --reduced")
            .map(|request| request.jobs())
            .expect("a good line");
        for scenario in scenarios::ALL {
            let of_it = jobs.iter().filter(|job| job.scenario.name == scenario.name);
            let seeds: Vec<u64> = of_it
                .clone()
                .filter(|job| job.plan.nodes == scenario.reduced)
                .map(|job| job.plan.seed)
                .collect();
            assert_eq!(seeds, [1, 2, 3], "{}", scenario.name);
            let whole = of_it.filter(|job| job.plan.kind == Kind::Whole).count();
            assert!(whole > 0, "{} is not asked of whole nodes", scenario.name);
        }
    }

    #[test]
    fn rows_choose_their_families() {
        let jobs = parse("--table --seeds 1 --rows H4,P7")
            .map(|request| request.jobs())
            .expect("a good line");
        let names: Vec<&str> = jobs.iter().map(|job| job.scenario.name).collect();
        assert_eq!(names, ["overlay", "overlay", "burst", "burst"]);
    }

    #[test]
    fn nonsense_is_named() {
        for (line, part) in [
            ("", "--scenario or --table?"),
            ("--scenario", "needs a value"),
            ("--scenario weather", "no scenario weather"),
            ("--table --rows X9", "row X9"),
            ("--table --seeds many", "not many"),
            ("--table --nodes 3", "--nodes is"),
            ("--tabel", "--tabel"),
        ] {
            assert!(parse(line).is_err_and(|said| said.contains(part)), "{line}");
        }
    }
}
