//! The tables, and the section of BENCHMARKS.md between its markers.
//!
//! Each task has a part between markers of its own, so that running some tasks leaves the figures of the others unchanged. The
//! summary lists the targets in all parts.

use std::{fmt::Write as _, fs, path::Path};

use super::{programs::PATIENCE, runs::Runs};

const BEGIN: &str = "<!-- wan: written by `make wan` -->";
const END: &str = "<!-- wan: end -->";

/// Prefixes of headings and of targets.
const HEADING: &str = "### ";
const REACH: &str = "Targets";

/// The transport of tasks that do not use the link.
pub(crate) const NO_LINK: &str = "http, no link";

/// Columns of a table; empty columns are omitted.
const COLUMNS: [&str; 7] = [
    "over",
    "program",
    "bytes sent",
    "arrived",
    "requests",
    "seconds: min / median / max",
    "peak resident: min / median / max",
];

/// A target of a row.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The figure that is compared.
    figure: Figure,
    /// The largest value that meets it.
    most: f64,
    /// How that value was derived.
    origin: Option<&'static str>,
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
        Self { figure: Figure::Bytes, most, origin: None }
    }

    pub(crate) fn seconds(most: f64) -> Self {
        Self { figure: Figure::Seconds, most, origin: None }
    }

    pub(crate) fn requests(most: f64) -> Self {
        Self { figure: Figure::Requests, most, origin: None }
    }

    pub(crate) fn resident(most: f64) -> Self {
        Self { figure: Figure::Resident, most, origin: None }
    }

    /// States how the value was derived, if it depends on other runs of the task.
    pub(crate) fn as_of(self, origin: &'static str) -> Self {
        Self { origin: Some(origin), ..self }
    }

    /// The target, the measured value, and whether it meets the target.
    fn judge(&self, runs: &Runs) -> String {
        let ([.., bytes_sent], [.., requests]) = (runs.bytes(), runs.requests());
        let ([.., resident], [_, seconds, _]) = (runs.resident(), runs.seconds());
        let (text, value, figure) = match self.figure {
            Figure::Bytes => (bytes(self.most), bytes_sent, bytes(bytes_sent)),
            Figure::Requests => (format!("{} requests", self.most), requests, requests.to_string()),
            Figure::Resident => {
                (format!("{} MiB resident", self.most), resident, format!("{resident:.0} MiB"))
            }
            Figure::Seconds => (format!("{:.2} s", self.most), seconds, format!("{seconds:.2} s")),
        };
        let origin = self.origin.map_or_else(String::new, |origin| format!(" ({origin})"));
        // A value that could not be measured does not meet the target.
        format!("≤ {text}{origin}: {figure} {}", mark(value <= self.most))
    }
}

/// The results of one task.
#[derive(Debug, Default)]
pub(crate) struct Table {
    blocks: Vec<Block>,
    /// The link, if it is not that of the other tasks.
    link: Option<String>,
}

/// The results of one comparison.
#[derive(Debug)]
struct Block {
    title: String,
    /// Transports and their targets.
    reach: Vec<(String, String)>,
    rows: Vec<[String; COLUMNS.len()]>,
    notes: Vec<String>,
}

impl Table {
    /// Adds the runs of a program; `targets` are empty for peers.
    pub(crate) fn add(&mut self, task: &str, over: &str, program: &str, runs: &Runs, targets: &[Target]) {
        let [fewest, _, most] = runs.requests();
        let requests = match (fewest, most) {
            (_, 0.0) => String::new(),
            _ if fewest == most => most.to_string(),
            _ => format!("{fewest} – {most}"),
        };
        let [least, median, longest] = runs.seconds();
        let mut program = program.to_owned();
        if !runs.right() {
            let what = if longest < f64::from(PATIENCE) { "wrong or failed" } else { "cut off" };
            let _ = write!(program, " **{what}**");
        }
        let [small, middle, large] = runs.resident();
        let resident =
            if large > 0.0 { format!("{small:.0} / {middle:.0} / {large:.0} MiB") } else { String::new() };
        let seconds = format!("{least:.2} / {median:.2} / {longest:.2}");
        let row = [
            over.to_owned(),
            program,
            range(runs.bytes()),
            range(runs.arrived()),
            requests,
            seconds,
            resident,
        ];
        eprintln!("{task} | {}", row.join(" | "));
        self.block(task).rows.push(row);
        for target in targets {
            let mut judged = target.judge(runs);
            if !runs.right() {
                judged.push_str(" (**not all right**)");
            }
            self.reach(task, over, judged);
        }
    }

    /// Adds a task that could not be measured, and why.
    pub(crate) fn missing(&mut self, task: &str, why: &str) {
        self.reach(task, "", format!("not measured: {why}"));
    }

    /// Adds a target for a figure that is not of a single run.
    pub(crate) fn figure(&mut self, task: &str, reach: &str, figure: &str, reached: bool) {
        self.reach(task, "", format!("{reach}: {figure} {}", mark(reached)));
    }

    /// States that the task uses another link.
    pub(crate) fn through(&mut self, link: String) {
        self.link = Some(link);
    }

    /// Adds a sentence.
    pub(crate) fn note(&mut self, task: &str, note: String) {
        eprintln!("{task} | {note}");
        self.block(task).notes.push(note);
    }

    fn reach(&mut self, task: &str, over: &str, judged: String) {
        eprintln!("{task} | {over} | {judged}");
        let reach = &mut self.block(task).reach;
        match reach.iter_mut().find(|(other, _)| other == over) {
            Some((_, text)) => {
                text.push_str("; ");
                text.push_str(&judged);
            }
            None => reach.push((over.to_owned(), judged)),
        }
    }

    fn block(&mut self, task: &str) -> &mut Block {
        let known = self.blocks.iter().position(|block| block.title == task);
        let index = known.unwrap_or_else(|| {
            let title = task.to_owned();
            self.blocks.push(Block { title, reach: Vec::new(), rows: Vec::new(), notes: Vec::new() });
            self.blocks.len() - 1
        });
        &mut self.blocks[index]
    }

    /// Markdown; `rounds` and `link` describe the measurement.
    pub(crate) fn markdown(&self, rounds: &str, link: &str) -> String {
        let link = self.link.as_deref().unwrap_or(link);
        let mut text = String::new();
        for block in &self.blocks {
            let _ = writeln!(text, "{HEADING}{}", block.title);
            for (over, reach) in &block.reach {
                let comma = if over.is_empty() { "" } else { ", " };
                let _ = writeln!(text, "{REACH}{comma}{over}: {reach}.\n");
            }
            if block.rows.iter().any(|[over, ..]| over != NO_LINK) {
                let _ = writeln!(text, "{rounds}; {link}.\n");
            } else if !block.rows.is_empty() {
                let _ = writeln!(text, "{rounds}.\n");
            }
            for note in &block.notes {
                let _ = writeln!(text, "{note}\n");
            }
            block.table(&mut text);
        }
        text
    }
}

impl Block {
    fn table(&self, text: &mut String) {
        if self.rows.is_empty() {
            return;
        }
        let used: Vec<usize> = (0..COLUMNS.len())
            .filter(|&column| self.rows.iter().any(|row| !row[column].is_empty()))
            .collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<&str> = cells.collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&mut used.iter().map(|&column| COLUMNS[column]));
        line(&mut used.iter().map(|_| "---"));
        for row in &self.rows {
            line(&mut used.iter().map(|&column| row[column].as_str()));
        }
        text.push('\n');
    }
}

fn mark(reached: bool) -> &'static str {
    if reached { "✓" } else { "✗" }
}

/// The smallest and largest value, if they differ when rounded.
fn range([fewest, _, most]: [f64; 3]) -> String {
    match (bytes(fewest), bytes(most)) {
        _ if most == 0.0 => String::new(),
        (fewest, most) if fewest == most => most,
        (fewest, most) => format!("{fewest} – {most}"),
    }
}

/// In decimal units, like the targets.
fn bytes(bytes: f64) -> String {
    match bytes {
        ..1e6 => format!("{:.0} KB", (bytes / 1e3).ceil()),
        ..1e7 => format!("{:.2} MB", bytes / 1e6),
        _ => format!("{:.1} MB", bytes / 1e6),
    }
}

/// A part of the section: the new measurement, or the one in the file.
pub(crate) fn part(name: &str, now: Option<String>, before: &str) -> String {
    let (begin, end) = (format!("<!-- wan: {name} -->\n"), format!("<!-- wan: end of {name} -->\n"));
    let kept = || Some(before.split_once(&begin)?.1.split_once(&end)?.0.to_owned());
    match now.or_else(kept) {
        Some(text) => format!("{begin}{text}{end}"),
        None => String::new(),
    }
}

/// The targets in all parts.
pub(crate) fn summary(parts: &str) -> String {
    let mut text = String::from("| task | over | target: measured |\n|---|---|---|\n");
    let mut title = "";
    for line in parts.lines() {
        if let Some(heading) = line.strip_prefix(HEADING) {
            title = heading;
        } else if let Some((over, reach)) = line.strip_prefix(REACH).and_then(|rest| rest.split_once(": ")) {
            let over = over.trim_start_matches(", ");
            let _ = writeln!(text, "| {title} | {over} | {} |", reach.trim_end_matches('.'));
        }
    }
    text
}

/// The section in the file at `path`; empty if it does not exist yet.
pub(crate) fn read(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("BENCHMARKS.md");
    let section = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    section.map_or_else(String::new, |(section, _)| section.to_owned())
}

/// Writes `section` between the markers of the file at `path`, or at its end if it has no markers yet.
pub(crate) fn write(path: &Path, section: &str) {
    let text = fs::read_to_string(path).expect("BENCHMARKS.md");
    let (before, after) = match text.split_once(BEGIN) {
        Some((before, rest)) => (before, rest.split_once(END).expect("the end's marker").1),
        None => (text.as_str(), "\n"),
    };
    let before = before.trim_end();
    fs::write(path, format!("{before}\n\n{BEGIN}\n{section}{END}{after}")).expect("to write BENCHMARKS.md");
}
