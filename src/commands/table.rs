//! Columns for people.

use std::fmt::Write as _;

/// Characters that a column is made as wide as at most: keys may be long, and the formatter takes no more than 65,535.
const WIDTH_MAX: usize = 80;

/// Rows under a heading, each column as wide as its widest field.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, fields: Vec<String>) {
        self.rows.push(fields);
    }

    /// The table as lines, without blanks at their ends. A field longer than [`WIDTH_MAX`] moves what is behind it in its own line alone.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|field| field.chars().count()).max()
        };
        let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0).min(WIDTH_MAX)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (field, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{field:<width$}  ");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let mut table = Table::new(&["id", "name"]);
        table.row(vec!["1000".into(), "x".into()]);
        assert_eq!(table.text(), "id    name\n1000  x\n");
    }

    #[test]
    fn a_very_long_field_is_whole_and_does_not_widen_the_others() {
        let mut table = Table::new(&["key", "size"]);
        let long = "k".repeat(70_000);
        table.row(vec![long.clone(), "1".into()]);
        table.row(vec!["a".into(), "2".into()]);
        let pad = " ".repeat(WIDTH_MAX);
        assert_eq!(table.text(), format!("key{}size\n{long}  1\na{} 2\n", &pad[1..], &pad[0..]));
    }
}
