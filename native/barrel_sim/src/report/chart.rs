//! Curves, as SVG.

use std::fmt::Write;

/// A line of points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// Ascending in the first number.
    pub points: Vec<(f64, f64)>,
}

/// Some lines over one pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// The name of the file, without the ending.
    pub file: String,
    /// Above it.
    pub title: String,
    /// Below it.
    pub across: String,
    /// Beside it.
    pub up: String,
    /// The lines.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
const LEGEND: f64 = 18.0;
/// Marks on an axis, at most.
const MARKS: f64 = 8.0;
/// Told apart by people who see red and green alike (Okabe and Ito 2008).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

impl Chart {
    /// Puts the lines of charts of the same file into one.
    #[must_use]
    pub fn merge(all: Vec<Self>) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for mut chart in all {
            match merged.iter_mut().find(|there| there.file == chart.file) {
                Some(there) => there.series.append(&mut chart.series),
                None => merged.push(chart),
            }
        }
        merged
    }

    /// A picture that needs nothing else.
    #[must_use]
    pub fn svg(&self) -> String {
        let across = Axis::over(
            self.series
                .iter()
                .flat_map(|line| line.points.iter().map(|point| point.0)),
        );
        let up = Axis::over(
            self.series
                .iter()
                .flat_map(|line| line.points.iter().map(|point| point.1)),
        );
        let height = HEIGHT + LEGEND * self.series.len() as f64;
        let mut svg = String::new();
        let _ = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
        );
        let _ = writeln!(
            svg,
            "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>"
        );
        label(&mut svg, WIDTH / 2.0, 22.0, "middle", &self.title);
        label(&mut svg, WIDTH / 2.0, HEIGHT - 18.0, "middle", &self.across);
        let _ = writeln!(svg, "<g transform=\"rotate(-90 16 {0})\">", HEIGHT / 2.0);
        label(&mut svg, 16.0, HEIGHT / 2.0, "middle", &self.up);
        svg.push_str("</g>\n");
        self.grid(&mut svg, &across, &up);
        for (index, line) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points: Vec<String> = line
                .points
                .iter()
                .map(|point| format!("{:.1},{:.1}", x(&across, point.0), y(&up, point.1)))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>",
                points.join(" ")
            );
            let at = HEIGHT + LEGEND * index as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>",
                at - 5.0
            );
            label(&mut svg, LEFT + 22.0, at, "start", &line.name);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn grid(&self, svg: &mut String, across: &Axis, up: &Axis) {
        for mark in across.marks() {
            let at = x(across, mark);
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#ddd\"/>",
                HEIGHT - BOTTOM
            );
            label(svg, at, HEIGHT - BOTTOM + 16.0, "middle", &written(mark));
        }
        for mark in up.marks() {
            let at = y(up, mark);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
                WIDTH - RIGHT
            );
            label(svg, LEFT - 6.0, at + 4.0, "end", &written(mark));
        }
    }
}

/// From the first mark to the last.
struct Axis {
    least: f64,
    step: f64,
    count: usize,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        for value in values.filter(|value| value.is_finite()) {
            least = least.min(value);
            most = most.max(value);
        }
        if least > most {
            (least, most) = (0.0, 1.0);
        }
        let rough = ((most - least) / MARKS).max(1e-6);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|part| part * power)
            .into_iter()
            .find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let least = (least / step).floor() * step;
        let count = ((most - least) / step).ceil().max(1.0) as usize;
        Self { least, step, count }
    }

    fn marks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=self.count).map(|index| self.least + self.step * index as f64)
    }

    /// From 0 at the first mark to 1 at the last.
    fn part(&self, value: f64) -> f64 {
        (value - self.least) / (self.step * self.count as f64)
    }
}

fn x(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.part(value) * (WIDTH - LEFT - RIGHT)
}

fn y(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.part(value) * (HEIGHT - BOTTOM - TOP)
}

fn written(value: f64) -> String {
    let rounded = format!("{value:.4}");
    rounded
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_string()
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> Chart {
        Chart {
            file: "one".into(),
            title: "a < b & c".into(),
            series: vec![Series {
                name: "line".into(),
                points: points.to_vec(),
            }],
            ..Chart::default()
        }
    }

    #[test]
    fn all_points_are_inside() {
        let svg = chart(&[(0.0, 100.0), (37.0, 99.6), (95.0, 12.3)]).svg();
        let points = svg
            .split("points=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let numbers: Vec<f64> = points
            .into_iter()
            .flat_map(|all| all.split([' ', ',']))
            .filter_map(|one| one.parse().ok())
            .collect();
        assert_eq!(numbers.len(), 6);
        for pair in numbers.chunks(2) {
            assert!((LEFT..=WIDTH - RIGHT).contains(&pair[0]), "{pair:?}");
            assert!((TOP..=HEIGHT - BOTTOM).contains(&pair[1]), "{pair:?}");
        }
        assert!(svg.contains("a &lt; b &amp; c"));
    }

    #[test]
    fn a_chart_without_points_is_empty_and_not_endless() {
        assert!(chart(&[]).svg().ends_with("</svg>\n"));
        assert!(chart(&[(3.0, 3.0)]).svg().ends_with("</svg>\n"));
        assert!(chart(&[(3.0, f64::NAN)]).svg().contains("polyline"));
    }

    #[test]
    fn charts_of_one_file_become_one() {
        let merged = Chart::merge(vec![chart(&[(1.0, 1.0)]), chart(&[(2.0, 2.0)])]);
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].series.len(), 2);
    }
}
