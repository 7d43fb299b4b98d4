//! Columns from tab-separated lines, with the rules of Go's text/tabwriter: a column is a run of neighbouring lines
//! that have a tab there, and what follows the last tab of a line belongs to none. Widths are those of a terminal: two
//! columns for a wide character, none for one that combines.

use unicode_width::UnicodeWidthStr;

/// Aligns `text`; columns are at least `min` wide, with `pad` blanks between.
pub(crate) fn align(text: &str, min: usize, pad: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let widths = widths(&lines, min, pad);
    let mut out = String::with_capacity(text.len() * 2);
    for (cells, widths) in lines.iter().zip(widths) {
        for (i, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(i) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            }
        }
        out.push('\n');
    }
    out
}

/// The width of each tab-terminated cell: its column's.
fn widths(lines: &[Vec<&str>], min: usize, pad: usize) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            if out[start].len() <= column {
                start += 1;
                continue;
            }
            let run = out[start..].iter().take_while(|w| w.len() > column).count();
            let widest = lines[start..start + run].iter().map(|l| l[column].width() + pad).max().unwrap_or(0);
            for widths in &mut out[start..start + run] {
                widths[column] = widest.max(min);
            }
            start += run;
        }
    }
    out
}

/// As Docker's lists are laid out.
pub(crate) fn list(text: &str) -> String {
    align(text, 10, 3)
}
