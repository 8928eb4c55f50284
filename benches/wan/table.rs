//! The tables, and the section of BENCHMARKS.md between its markers.

use std::{fmt::Write as _, fs, path::Path};

use super::{programs::PATIENCE, runs::Runs};

const BEGIN: &str = "<!-- wan: written by `make wan` -->";
const END: &str = "<!-- wan: end -->";

/// What a row has to reach.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What is compared.
    pub(crate) figure: Figure,
    /// The largest value that reaches it.
    pub(crate) most: f64,
}

/// A figure that has a target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    /// The most of all runs.
    Bytes,
    /// The most of all runs.
    Requests,
    /// The most of all runs, in MiB.
    Resident,
    /// The median of the runs.
    Seconds,
}

impl Target {
    pub(crate) fn bytes(most: f64) -> Self {
        Self { figure: Figure::Bytes, most }
    }

    pub(crate) fn seconds(most: f64) -> Self {
        Self { figure: Figure::Seconds, most }
    }

    pub(crate) fn requests(most: f64) -> Self {
        Self { figure: Figure::Requests, most }
    }

    pub(crate) fn resident(most: f64) -> Self {
        Self { figure: Figure::Resident, most }
    }

    fn reached(&self, runs: &Runs) -> bool {
        let ([.., bytes], [.., requests]) = (runs.bytes(), runs.requests());
        let ([.., resident], [_, seconds, _]) = (runs.resident(), runs.seconds());
        let figure = match self.figure {
            Figure::Bytes => bytes,
            Figure::Requests => requests,
            Figure::Resident => resident,
            Figure::Seconds => seconds,
        };
        figure <= self.most
    }

    fn text(&self) -> String {
        match self.figure {
            Figure::Bytes => format!("≤ {}", bytes(self.most)),
            Figure::Requests => format!("≤ {} requests", self.most),
            Figure::Resident => format!("≤ {} MiB resident", self.most),
            Figure::Seconds => format!("≤ {:.2} s", self.most),
        }
    }
}

/// Lines of one table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    lines: Vec<String>,
}

impl Table {
    /// Adds what a program did at a task; `targets` are empty for peers.
    pub(crate) fn add(&mut self, task: &str, over: &str, program: &str, runs: &Runs, targets: &[Target]) {
        let (sent, arrived) = (range(runs.bytes()), range(runs.arrived()));
        let [fewest, _, most] = runs.requests();
        let requests = match (fewest, most) {
            (_, 0.0) => String::new(),
            _ if fewest == most => most.to_string(),
            _ => format!("{fewest} – {most}"),
        };
        let [least, median, longest] = runs.seconds();
        let mut reach = targets
            .iter()
            .map(|target| format!("{} {}", target.text(), if target.reached(runs) { "✓" } else { "✗" }))
            .collect::<Vec<_>>()
            .join(", ");
        if !runs.right() {
            let [.., longest] = runs.seconds();
            let what = if longest < f64::from(PATIENCE) { "wrong or failed" } else { "cut off" };
            let _ = write!(reach, " **{what}**");
        }
        let [.., resident] = runs.resident();
        let resident = if resident > 0.0 { format!("{resident:.0} MiB") } else { String::new() };
        self.line(format!(
            "| {task} | {over} | {program} | {sent} | {arrived} | {requests} | {least:.2} / {median:.2} / {longest:.2} | {resident} | {reach} |"
        ));
    }

    /// Adds a task that cannot be measured, and why.
    pub(crate) fn not_yet(&mut self, task: &str, reach: &str, why: &str) {
        self.line(format!("| {task} | | layerslayer | | | | {why} | | {reach} |"));
    }

    /// Adds a figure that is the same in every run.
    pub(crate) fn note(&mut self, task: &str, reach: &str, figure: &str, reached: bool) {
        let mark = if reached { "✓" } else { "✗" };
        self.line(format!("| {task} | | layerslayer | {figure} | | | | | {reach} {mark} |"));
    }

    fn line(&mut self, line: String) {
        eprintln!("{line}");
        self.lines.push(line);
    }

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from(
            "| task | over | program | bytes sent | arrived | requests | seconds: min / median / max | peak resident | reach |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Smallest and largest, if they differ when rounded.
fn range([fewest, _, most]: [f64; 3]) -> String {
    match (bytes(fewest), bytes(most)) {
        _ if most == 0.0 => String::new(),
        (fewest, most) if fewest == most => most,
        (fewest, most) => format!("{fewest} – {most}"),
    }
}

/// Decimal units, as the table has them.
fn bytes(bytes: f64) -> String {
    match bytes {
        ..1e6 => format!("{:.0} KB", (bytes / 1e3).ceil()),
        ..1e7 => format!("{:.2} MB", bytes / 1e6),
        _ => format!("{:.1} MB", bytes / 1e6),
    }
}

/// Puts `section` between the markers of the file at `path`, at its end if there are none yet.
pub(crate) fn write(path: &Path, section: &str) {
    let text = fs::read_to_string(path).expect("BENCHMARKS.md");
    let (before, after) = match text.split_once(BEGIN) {
        Some((before, rest)) => (before, rest.split_once(END).expect("the end's marker").1),
        None => (text.as_str(), "\n"),
    };
    let before = before.trim_end();
    fs::write(path, format!("{before}\n\n{BEGIN}\n{section}{END}{after}")).expect("to write BENCHMARKS.md");
}
