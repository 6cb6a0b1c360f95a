//! Tables with aligned columns.

use std::io::{self, Write};

/// Spaces between two columns.
const GAP: usize = 2;

/// To which side the cells of a column are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a heading. What is no terminal gets the same columns as plain text.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns. Headings are in capitals by custom.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it has another number of cells than there are columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "a row has one cell for each column");
        self.rows.push(cells.into());
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes it, the heading in bold where `colours` are wanted.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, colours: bool) -> io::Result<()> {
        let mut widths: Vec<_> = self.columns.iter().map(|(heading, _)| width(heading)).collect();
        for row in &self.rows {
            for (width_so_far, cell) in widths.iter_mut().zip(row) {
                *width_so_far = width(cell).max(*width_so_far);
            }
        }
        let headings: Vec<_> = self.columns.iter().map(|(heading, _)| *heading).collect();
        let heading = self.line(&widths, &headings);
        if colours {
            writeln!(out, "\x1b[1m{heading}\x1b[0m")?;
        } else {
            writeln!(out, "{heading}")?;
        }
        self.rows
            .iter()
            .try_for_each(|row| writeln!(out, "{}", self.line(&widths, row)))
    }

    fn line(&self, widths: &[usize], cells: &[impl AsRef<str>]) -> String {
        let mut line = String::new();
        for ((cell, width_of_column), (_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let cell = cell.as_ref();
            let padding = " ".repeat(width_of_column - width(cell));
            match align {
                Align::Left => line.extend([cell, &padding]),
                Align::Right => line.extend([&*padding, cell]),
            }
            line.push_str(&" ".repeat(GAP));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Columns that a text takes. Names from a disk are escaped before they come here; wide characters are rare there.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(table: &Table, colours: bool) -> String {
        let mut out = Vec::new();
        table.write(&mut out, colours).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_the_end() {
        let mut table = Table::new(&[
            ("IMAGE", Align::Left),
            ("SIZE", Align::Right),
            ("NOTE", Align::Left),
        ]);
        assert!(table.is_empty());
        table.row(["golden01".to_owned(), "5".to_owned(), String::new()]);
        table.row(["größe".to_owned(), "12.3 kB".to_owned(), "x".to_owned()]);
        assert_eq!(
            shown(&table, false),
            "IMAGE        SIZE  NOTE\ngolden01        5\ngröße     12.3 kB  x\n"
        );
        assert!(shown(&table, true).starts_with("\x1b[1mIMAGE        SIZE  NOTE\x1b[0m\n"));
    }
}
