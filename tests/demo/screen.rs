//! What the demo writes: a title and a line of why for each step, the commands, what they said, and what was checked.

use std::{
    cell::Cell,
    env,
    ffi::OsString,
    io::{self, IsTerminal as _},
    path::Path,
    time::Instant,
};

/// Wide enough for a SPIFFE ID beside something, and narrow enough for most windows.
const WIDTH: usize = 100;
const INDENT: &str = "   ";

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
const CYAN: &str = "36";

/// Standard output, for people.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
    steps: Cell<u32>,
    begun: Instant,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { colour: wants_colour(), steps: Cell::new(0), begun: Instant::now() }
    }

    /// How long the demo has been running, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// How many steps have begun.
    pub(crate) fn steps(&self) -> u32 {
        self.steps.get()
    }

    pub(crate) fn title(&self, title: &str, text: &str) {
        println!("\n{}\n{text}", self.paint(BOLD, title));
    }

    /// Begins a step: what it is, and why it matters.
    pub(crate) fn step(&self, title: &str, why: &str) {
        self.steps.set(self.steps.get() + 1);
        println!("\n{}", self.paint(BOLD, &format!("{}. {title}", self.steps.get())));
        println!("{INDENT}{}\n", self.paint(DIM, why));
    }

    /// A command, as it runs in a pod.
    pub(crate) fn command(&self, pod: &str, command: &str) {
        let prompt = format!("{pod}$");
        let mut line = String::new();
        let mut lines = Vec::new();
        // Options stay together with their values.
        for word in command.split_inclusive(' ') {
            let room = WIDTH - INDENT.len() - prompt.len() - 4;
            if !line.is_empty() && line.len() + word.len() > room && word.starts_with('-') {
                lines.push(std::mem::take(&mut line) + "\\");
            }
            line.push_str(word);
        }
        lines.push(line);
        for (number, line) in lines.iter().enumerate() {
            let margin = if number == 0 { self.paint(CYAN, &prompt) } else { " ".repeat(prompt.len() + 2) };
            println!("{INDENT}{margin} {}", self.paint(BOLD, line));
        }
    }

    /// What a command said.
    pub(crate) fn output(&self, text: &str) {
        text.lines().for_each(|line| println!("{INDENT}{}", printable(line)));
    }

    /// A line of our own between the others.
    pub(crate) fn note(&self, text: &str) {
        text.lines().for_each(|line| println!("{INDENT}{}", self.paint(DIM, line)));
    }

    pub(crate) fn blank(&self) {
        println!();
    }

    /// Something that was checked, and holds.
    pub(crate) fn fact(&self, text: &str) {
        println!("{INDENT}{} {text}", self.paint(GREEN, "✓"));
    }

    pub(crate) fn failure(&self, text: &str) {
        println!("{INDENT}{} {text}", self.paint(RED, "✗"));
    }

    /// Rows in columns as wide as they need to be.
    pub(crate) fn table<const N: usize>(&self, headings: [&str; N], rows: &[[String; N]]) {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let line = |cells: [&str; N]| {
            let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        println!("{INDENT}{}", self.paint(DIM, &line(headings)));
        for row in rows {
            println!("{INDENT}{}", line(std::array::from_fn(|column| row[column].as_str())));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A command as a person would type it: programs and the demo's own files by their names alone.
pub(crate) fn as_typed(words: &[OsString], files: &Path) -> String {
    let typed = words.iter().enumerate().map(|(number, word)| {
        let path = Path::new(word);
        let name = path.file_name().unwrap_or(word);
        let is_ours = number == 0 || path.starts_with(files);
        quoted(&if is_ours { name } else { word.as_os_str() }.to_string_lossy())
    });
    typed.collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=:/.,@%+[]".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
}

/// What others chose to say is not to steer a terminal.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Colour is for terminals whose owner has not declined it (<https://no-color.org>).
fn wants_colour() -> bool {
    let declined = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !declined && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
