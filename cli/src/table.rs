//! Columns under each other. Pure.

use crate::words::plain;

/// Between two columns.
const GAP: &str = "   ";

/// A table with its head; an empty cell is a dash. Every line ends with a line feed.
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let cell = |text: &String| if text.is_empty() { "-".to_owned() } else { plain(text) };
    let rows = rows.iter().map(|row| row.each_ref().map(cell));
    let all: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &all {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(GAP).trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_lines_end_where_their_text_does() {
        let rows = [["a".to_owned(), "x\ny".to_owned()], ["länger".to_owned(), String::new()]];
        assert_eq!(table(["ROUTE", "WHY"], &rows), "ROUTE    WHY\na        x y\nlänger   -\n");
    }
}
