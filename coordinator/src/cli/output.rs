//! Where answers go: tables and lines for people, JSON for programs.
//!
//! stdout is data, stderr is talk. Commands hand over values; nothing else in the command line
//! writes to either. Colour is never the only signal: every coloured word says the same without.

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, FixedOffset, Local, Utc};
use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, presets,
};
use serde::Serialize;

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines and tables for people.
    Table,
    /// The same with more columns.
    Wide,
    /// One JSON document, or one a line where the answer is a stream.
    Json,
}

/// What an answer is shown on.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Columns of a terminal; `None` never cuts.
    pub width: Option<u16>,
    /// Whether to colour.
    pub colour: bool,
    /// Whether to show times in UTC instead of the local zone.
    pub utc: bool,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// At work.
    Busy,
    /// Somebody may want to look.
    Warn,
    /// Somebody must look.
    Bad,
    /// Beside the point.
    Dim,
    /// No tone.
    Plain,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Warn => Some("33"),
            Self::Bad => Some("31"),
            Self::Dim => Some("2"),
            Self::Plain => None,
        }
    }
}

/// A value that people can read.
pub trait Shown: Serialize {
    /// Writes it for people.
    fn human(&self, page: &mut Page);
}

/// What is being written for people.
#[derive(Debug)]
pub struct Page {
    text: String,
    screen: Screen,
    /// More columns were asked for.
    pub wide: bool,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(screen: Screen, wide: bool) -> Self {
        Self {
            text: String::new(),
            screen,
            wide,
        }
    }

    /// Adds a line; control characters from data are shown, not obeyed.
    pub fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref().trim_end());
        self.text.push('\n');
    }

    /// Adds text as it is.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A word in a tone.
    #[must_use]
    pub fn paint(&self, tone: Tone, word: &str) -> String {
        match tone.code().filter(|_| self.screen.colour) {
            Some(code) => format!("\u{1b}[{code}m{word}\u{1b}[0m"),
            None => word.to_owned(),
        }
    }

    /// A time in the viewer's zone.
    #[must_use]
    pub fn zoned(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        if self.screen.utc {
            at.fixed_offset()
        } else {
            at.with_timezone(&Local).fixed_offset()
        }
    }

    /// Adds a table; its last column is cut where the terminal is too narrow, unless wide.
    pub fn table(&mut self, grid: Grid) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if self.screen.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let last = grid.header.len().saturating_sub(1);
        let heads = grid.header.iter().map(|head| {
            let cell = Cell::new(head.to_uppercase());
            if self.screen.colour {
                cell.add_attribute(Attribute::Dim)
            } else {
                cell
            }
        });
        table.set_header(heads.collect::<Vec<_>>());
        for row in grid.rows {
            let mut cells = comfy_table::Row::from(row);
            if !self.wide && self.screen.width.is_some() {
                cells.max_height(1);
            }
            table.add_row(cells);
        }
        table.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = self.screen.width {
            table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
            if index != last {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            if grid.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let text = table.trim_fmt();
        self.raw(&text);
        self.raw("\n");
    }

    /// What was written.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Rows for a table without borders.
#[derive(Debug, Default)]
pub struct Grid {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    right: Vec<usize>,
}

impl Grid {
    /// A table with these columns; a `>` before a name aligns its column to the right.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        let right = header
            .iter()
            .enumerate()
            .filter(|(_, name)| name.starts_with('>'));
        Self {
            right: right.map(|(index, _)| index).collect(),
            header: header
                .iter()
                .map(|name| name.trim_start_matches('>'))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of as many cells.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Whether it has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A cell of data: line breaks and control characters are shown as spaces, so that one row stays one.
#[must_use]
pub fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(tame(text.as_ref()))
}

/// A cell in a tone.
#[must_use]
pub fn toned(tone: Tone, text: impl AsRef<str>) -> Cell {
    use comfy_table::Color;
    let cell = cell(text);
    match tone {
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Busy => cell.fg(Color::DarkCyan),
        Tone::Warn => cell.fg(Color::DarkYellow),
        Tone::Bad => cell.fg(Color::DarkRed),
        Tone::Dim => cell.add_attribute(Attribute::Dim),
        Tone::Plain => cell,
    }
}

/// Text of data on one line: a message can neither break a table nor drive a terminal.
#[must_use]
pub fn tame(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A log as text: its lines and tabs, without what could drive a terminal (colours, titles, moves).
#[must_use]
pub fn tame_log(log: &str) -> String {
    let mut text = String::with_capacity(log.len());
    let mut rest = log.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            skip_escape(&mut rest);
        } else if !c.is_control() || matches!(c, '\n' | '\t') {
            text.push(c);
        }
    }
    text
}

/// Leaves out an escape sequence whose introducer has just been read.
fn skip_escape(rest: &mut std::str::Chars<'_>) {
    match rest.next() {
        Some('[') => {
            rest.find(|c| ('@'..='~').contains(c));
        }
        // A title or a link ends with BEL, or with an escape of its own whose tail is one character.
        Some(']') => {
            let end = rest.find(|c| matches!(c, '\u{7}' | '\u{1b}'));
            if end == Some('\u{1b}') {
                rest.next();
            }
        }
        _ => {}
    }
}

/// The two streams of a command and how they are used.
pub struct Output {
    /// The shape of answers.
    pub format: Format,
    /// What they are shown on.
    pub screen: Screen,
    /// Whether to leave talk out.
    pub quiet: bool,
    /// Whether a person sits there who can be asked.
    pub interactive: bool,
    /// Whether stdout is a terminal that can be redrawn.
    pub redraws: bool,
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// The streams of this process. Colour only on a terminal, never with `NO_COLOR` or a dumb one.
    #[must_use]
    pub fn of_process(format: Format, quiet: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            format,
            screen: Screen {
                width: if terminal { Table::new().width() } else { None },
                colour: terminal && !set("NO_COLOR") && !dumb,
                utc: false,
            },
            quiet,
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            redraws: terminal && !dumb,
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }

    /// Plain output in UTC into the given streams, as a pipe would see it.
    #[must_use]
    pub fn plain(
        format: Format,
        stdout: Box<dyn Write + Send>,
        stderr: Box<dyn Write + Send>,
    ) -> Self {
        let screen = Screen {
            width: None,
            colour: false,
            utc: true,
        };
        Self {
            format,
            screen,
            quiet: false,
            interactive: false,
            redraws: false,
            stdout,
            stderr,
        }
    }

    /// Whether answers are for programs.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// A page for people, as wide as was asked for.
    #[must_use]
    pub fn page(&self) -> Page {
        Page::new(self.screen, self.format == Format::Wide)
    }

    /// Writes an answer.
    ///
    /// # Errors
    /// As stdout fails, a closed pipe among it.
    pub fn show<T: Shown>(&mut self, value: &T) -> io::Result<()> {
        if self.is_json() {
            serde_json::to_writer_pretty(&mut self.stdout, value)?;
            self.stdout.write_all(b"\n")?;
        } else {
            let mut page = self.page();
            value.human(&mut page);
            self.stdout.write_all(page.into_text().as_bytes())?;
        }
        self.stdout.flush()
    }

    /// Writes one item of a stream: a JSON line, or lines for people.
    ///
    /// # Errors
    /// As stdout fails.
    pub fn stream<T: Shown>(&mut self, value: &T) -> io::Result<()> {
        if self.is_json() {
            serde_json::to_writer(&mut self.stdout, value)?;
            self.stdout.write_all(b"\n")?;
            return self.stdout.flush();
        }
        self.show(value)
    }

    /// Writes text to stdout as it is.
    ///
    /// # Errors
    /// As stdout fails.
    pub fn raw(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }

    /// Says something beside the data, unless told to be quiet. Nobody's work fails because the
    /// talk could not be written.
    pub fn say(&mut self, text: impl AsRef<str>) {
        if !self.quiet {
            writeln!(self.stderr, "{}", text.as_ref()).ok();
        }
    }

    /// Says what went wrong and what to do next, quiet or not.
    pub fn complain(&mut self, message: &str, hint: Option<&str>) {
        // A flow file's problems say themselves where each is an error.
        let word = if message.starts_with("error: ") {
            ""
        } else {
            "error: "
        };
        writeln!(self.stderr, "{word}{message}").ok();
        if let Some(hint) = hint {
            writeln!(self.stderr, "hint: {hint}").ok();
        }
    }

    /// Asks a person; anything but yes is no.
    ///
    /// # Errors
    /// As the terminal fails.
    pub fn ask(&mut self, question: &str) -> io::Result<bool> {
        write!(self.stderr, "{question} [y/N] ")?;
        self.stderr.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(
            answer.trim().to_ascii_lowercase().as_str(),
            "y" | "yes"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{Grid, Page, Screen, Tone, cell, tame, tame_log, toned};

    fn page(width: Option<u16>, colour: bool) -> Page {
        Page::new(
            Screen {
                width,
                colour,
                utc: true,
            },
            false,
        )
    }

    fn grid() -> Grid {
        let mut grid = Grid::new(&["chunk", ">rows", "why"]);
        grid.row(vec![
            cell("orders/1"),
            cell("5"),
            cell("the disk is full\non etl3"),
        ]);
        grid.row(vec![toned(Tone::Bad, "o/10"), cell("1,000"), cell("")]);
        grid
    }

    #[test]
    fn a_table_has_columns_and_nothing_else() {
        let mut plain = page(None, false);
        plain.table(grid());
        assert_eq!(
            plain.into_text(),
            "CHUNK      ROWS  WHY\norders/1      5  the disk is full on etl3\no/10      1,000\n"
        );
    }

    #[test]
    fn only_the_last_column_is_cut_on_a_narrow_terminal() {
        let mut narrow = page(Some(30), false);
        narrow.table(grid());
        let text = narrow.into_text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("orders/1      5  the disk"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= 30),
            "{text}"
        );
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let mut coloured = page(None, true);
        coloured.table(grid());
        let word = coloured.paint(Tone::Good, "DONE");
        assert_eq!(word, "\u{1b}[32mDONE\u{1b}[0m");
        assert!(coloured.into_text().contains('\u{1b}'));
        assert_eq!(page(None, false).paint(Tone::Bad, "BLOCKED"), "BLOCKED");
    }

    #[test]
    fn text_of_others_cannot_drive_a_terminal() {
        assert_eq!(tame("a\u{1b}[31mb\r\nc\td "), "a [31mb  c d");
        assert_eq!(
            tame_log("red \u{1b}[1;31mword\u{1b}[0m\n\tnext\u{7}\r\n"),
            "red word\n\tnext\n"
        );
        assert_eq!(
            tame_log("\u{1b}]0;title\u{7}a\u{1b}]8;;link\u{1b}\\b\u{1b}(c"),
            "abc"
        );
        assert_eq!(tame_log("cut \u{1b}["), "cut ");
    }
}
