//! The same for programs.

use std::fmt::Write;

use super::finding::{Limit, Row};

/// An array with an object for each row.
#[must_use]
pub fn json(rows: &[Row]) -> String {
    let objects: Vec<String> = rows.iter().map(object).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

fn object(row: &Row) -> String {
    let values: Vec<String> = row
        .values
        .iter()
        .map(|(seed, value)| format!("{{\"seed\":{seed},\"value\":{}}}", number(*value)))
        .collect();
    let limit = match row.limit {
        Limit::AtMost(limit) => format!("{{\"at_most\":{}}}", number(limit)),
        Limit::AtLeast(limit) => format!("{{\"at_least\":{}}}", number(limit)),
        Limit::Shown => "null".into(),
    };
    format!(
        "  {{\"row\":{},\"what\":{},\"limit\":{limit},\"pass\":{},\"values\":[{}]}}",
        quoted(row.row),
        quoted(&row.what),
        row.passes(),
        values.join(",")
    )
}

fn number(value: f64) -> String {
    match value.is_finite() {
        true => format!("{value}"),
        false => "null".into(),
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A line for each figure: row, what, seed, value, limit, pass.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from("row,what,seed,value,limit,pass\n");
    for row in rows {
        for (seed, value) in &row.values {
            let what = row.what.replace('"', "\"\"");
            let _ = writeln!(
                text,
                "{},\"{what}\",{seed},{value},{},{}",
                row.row,
                row.limit,
                row.limit.allows(*value)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![Row {
            row: "P1",
            what: "the \"tree\"".into(),
            limit: Limit::AtMost(0.01),
            values: vec![(1, 0.0), (2, f64::NAN)],
        }]
    }

    #[test]
    fn a_row_is_an_object() {
        let expected = "[\n  {\"row\":\"P1\",\"what\":\"the \\\"tree\\\"\",\"limit\":{\"at_most\":0.01},\"pass\":false,\"values\":[{\"seed\":1,\"value\":0},{\"seed\":2,\"value\":null}]}\n]\n";
        assert_eq!(json(&rows()), expected);
    }

    #[test]
    fn a_figure_is_a_line() {
        let text = csv(&rows());
        assert_eq!(
            text.lines().nth(1),
            Some("P1,\"the \"\"tree\"\"\",1,0,<= 0.01,true")
        );
        assert_eq!(text.lines().count(), 3);
    }
}
