//! Aligned text tables: two spaces between columns, no frames, so that cut and awk work too.

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// How a cell stands out, when colour is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// As is.
    #[default]
    Plain,
    /// Headings.
    Bold,
    /// Things that are fine.
    Good,
    /// Things to look at.
    Warn,
    /// Things that are wrong.
    Bad,
    /// Things that matter less.
    Dim,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Its text, in one line.
    pub text: String,
    /// Its style.
    pub style: Style,
}

impl Cell {
    /// A cell that stands out.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.to_string(), style: Style::Plain }
    }
}

enum Row {
    Cells(Vec<Cell>),
    /// The first cells, then one text over the rest.
    Spanning(Vec<Cell>, Cell),
}

/// A table being filled.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with one cell per column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has one cell per column");
        self.rows.push(Row::Cells(cells));
    }

    /// Adds a row whose last text runs over the remaining columns, however long it is.
    pub fn spanning(&mut self, cells: Vec<Cell>, rest: Cell) {
        assert!(cells.len() < self.columns.len(), "a spanning text replaces at least one column");
        self.rows.push(Row::Spanning(cells, rest));
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, a line per row, the headings first.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| width(name)).collect();
        for row in &self.rows {
            let (Row::Cells(cells) | Row::Spanning(cells, _)) = row;
            for (w, cell) in widths.iter_mut().zip(cells) {
                *w = (*w).max(width(&cell.text));
            }
        }
        let heading: Vec<Cell> =
            self.columns.iter().map(|(name, _)| Cell::styled(*name, Style::Bold)).collect();
        let mut out = String::new();
        self.line(&heading, None, &widths, color, &mut out);
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.line(cells, None, &widths, color, &mut out),
                Row::Spanning(cells, rest) => {
                    self.line(cells, Some(rest), &widths, color, &mut out)
                }
            }
        }
        out
    }

    fn line(
        &self,
        cells: &[Cell],
        rest: Option<&Cell>,
        widths: &[usize],
        color: bool,
        out: &mut String,
    ) {
        let last = if rest.is_some() { usize::MAX } else { cells.len() - 1 };
        for (i, cell) in cells.iter().enumerate() {
            let pad = widths[i] - width(&cell.text);
            if self.columns[i].1 == Align::Right {
                out.extend(std::iter::repeat_n(' ', pad));
            }
            paint(&cell.text, cell.style, color, out);
            if i == last {
                break;
            }
            if self.columns[i].1 == Align::Left {
                out.extend(std::iter::repeat_n(' ', pad));
            }
            out.push_str("  ");
        }
        if let Some(rest) = rest {
            paint(&rest.text, rest.style, color, out);
        }
        // An empty last cell must not leave blanks at the end of the line.
        let kept = out.trim_end_matches(' ').len();
        out.truncate(kept);
        out.push('\n');
    }
}

/// Adds `text` in `style` to `out`.
pub fn paint(text: &str, style: Style, color: bool, out: &mut String) {
    let code = if color && !text.is_empty() { style.code() } else { "" };
    out.push_str(code);
    out.push_str(text);
    if !code.is_empty() {
        out.push_str("\x1b[0m");
    }
}

/// Columns a text takes. Names and addresses are ASCII; for anything else this is near enough.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut t =
            Table::new(&[("NODE", Align::Left), ("TERM", Align::Right), ("ROLE", Align::Left)]);
        t.row(vec!["1".into(), 7.into(), Cell::styled("leader", Style::Good)]);
        t.row(vec!["12".into(), 12345.into(), "".into()]);
        t.spanning(
            vec!["3".into()],
            Cell::styled("does not answer: connection refused", Style::Bad),
        );
        t
    }

    #[test]
    fn plain() {
        let want = "\
NODE   TERM  ROLE
1         7  leader
12    12345
3     does not answer: connection refused
";
        assert_eq!(table().render(false), want);
    }

    #[test]
    fn coloured_is_the_same_text_with_codes() {
        let coloured = table().render(true);
        assert!(coloured.contains("\x1b[32mleader\x1b[0m"), "{coloured:?}");
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some(at) = rest.find('\x1b') {
            stripped.push_str(&rest[..at]);
            rest = &rest[at + rest[at..].find('m').unwrap() + 1..];
        }
        stripped.push_str(rest);
        assert_eq!(stripped, table().render(false));
    }
}
