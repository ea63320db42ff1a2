//! The acceptance table for a terminal.

use std::fmt::Write;

use super::finding::{Limit, Row};

/// One line for each row, and for each that failed what reproduces it: asked for by the index of the row.
#[must_use]
pub fn table(rows: &[Row], reproduce: impl Fn(usize, u64) -> String) -> String {
    let cells: Vec<[String; 5]> = rows.iter().map(cells).collect();
    let head = ["row", "what", "figures by seed", "target", ""].map(String::from);
    let mut widths = [0; 5];
    for line in std::iter::once(&head).chain(&cells) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in std::iter::once(&head).chain(&cells) {
        let padded: Vec<String> = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    for (index, row) in rows.iter().enumerate() {
        for seed in row.failed_seeds() {
            let _ = writeln!(
                text,
                "{} {} fails; again: {}",
                row.row,
                row.what,
                reproduce(index, seed)
            );
        }
    }
    text
}

fn cells(row: &Row) -> [String; 5] {
    let figures: Vec<String> = row.values.iter().map(|(_, value)| figure(*value)).collect();
    let verdict = match (row.limit, row.passes()) {
        (Limit::Shown, _) => "",
        (_, true) => "pass",
        (_, false) => "FAIL",
    };
    [
        row.row.into(),
        row.what.clone(),
        figures.join(" / "),
        row.limit.to_string(),
        verdict.into(),
    ]
}

/// As many digits as matter.
fn figure(value: f64) -> String {
    if value.is_nan() {
        return "none".into();
    }
    let digits = match value.abs() {
        size if size == size.trunc() => 0,
        size if size >= 1000.0 => 0,
        size if size >= 90.0 => 2,
        size if size >= 1.0 => 2,
        size if size >= 0.01 => 4,
        _ => 6,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_row_names_the_command_that_repeats_it() {
        let row = Row {
            row: "H4",
            what: "average shortest path".into(),
            limit: Limit::AtMost(6.45),
            values: vec![(1, 6.38), (2, 6.5)],
        };
        let text = table(&[row], |row, seed| format!("run {row} --seed {seed}"));
        assert!(text.contains("6.38 / 6.50      <= 6.45  FAIL"), "{text}");
        assert!(text.contains("again: run 0 --seed 2"), "{text}");
        assert!(!text.contains("--seed 1"), "{text}");
    }

    #[test]
    fn figures_have_as_many_digits_as_matter() {
        let all = [100.0, 99.95, 0.00036, 12_345.6, 6.382, f64::NAN].map(figure);
        assert_eq!(all, ["100", "99.95", "0.000360", "12346", "6.38", "none"]);
    }
}
