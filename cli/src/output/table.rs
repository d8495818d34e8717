//! Rows in columns, and pairs below one another. Every cell is cleaned on its way in.

use comfy_table::{ContentArrangement, Table as Grid, presets};

use super::{View, clean};

/// Rows in columns under headings, as `docker ps` prints them.
pub(crate) struct Table {
    grid: Grid,
    /// The cells in red, each with its row.
    alarms: Vec<(usize, String)>,
}

impl Table {
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let mut grid = bare();
        grid.set_header(headings.map(str::to_uppercase));
        Self { grid, alarms: Vec::new() }
    }

    /// Makes a table with as many columns as there are headings.
    pub(crate) fn with_columns(headings: impl IntoIterator<Item = String>) -> Self {
        let mut grid = bare();
        grid.set_header(headings.into_iter().map(|heading| clean::line(&heading).to_uppercase()));
        Self { grid, alarms: Vec::new() }
    }

    /// Adds a row to a table of so many columns.
    pub(crate) fn cells(&mut self, cells: impl IntoIterator<Item = String>) {
        self.grid.add_row(cells.into_iter().map(|cell| clean::line(&cell).into_owned()));
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.grid.add_row(cells.map(|cell| clean::line(&cell).into_owned()));
    }

    /// Shows a cell of the last row in red.
    pub(crate) fn alarm(&mut self, cell: &str) {
        self.alarms.push((self.grid.row_count(), clean::line(cell).into_owned()));
    }

    pub(crate) fn text(mut self, view: &View) -> String {
        let plain = trimmed(&mut self.grid);
        let text = self.coloured(plain, view);
        let (heading, rows) = text.split_once('\n').unwrap_or((&text, ""));
        let heading = view.bold(heading);
        if rows.is_empty() { format!("{heading}\n") } else { format!("{heading}\n{rows}\n") }
    }
}

impl Table {
    /// Colours the cells in their lines: what steers a terminal would count as width before.
    fn coloured(&self, text: String, view: &View) -> String {
        if self.alarms.is_empty() {
            return text;
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (row, cell) in &self.alarms {
            if let Some(line) = lines.get_mut(*row)
                && let Some(at) = line.rfind(cell.as_str())
            {
                line.replace_range(at..at + cell.len(), &view.red(cell));
            }
        }
        lines.join("\n")
    }
}

/// Pairs of a name and a value; those without a value are left out.
pub(crate) struct Pairs(Vec<(&'static str, String)>);

impl Pairs {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn pair(mut self, name: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.0.push((name, clean::line(&value).into_owned()));
        }
        self
    }

    pub(crate) fn some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.pair(name, value),
            None => self,
        }
    }

    pub(crate) fn text(self, view: &View) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, value): (&str, String)| {
            let name = view.dim(&format!("{name:width$}"));
            format!("{name}   {value}\n")
        };
        self.0.into_iter().map(line).collect()
    }
}

fn bare() -> Grid {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    grid
}

fn trimmed(grid: &mut Grid) -> String {
    for column in grid.column_iter_mut() {
        column.set_padding((0, 3));
    }
    grid.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_one_another_without_trailing_spaces() {
        let mut table = Table::new(["id", "name"]);
        table.row(["1".into(), "\u{1b}[31mwéb\n".into()]);
        table.row(["22".into(), String::new()]);
        assert_eq!(table.text(&View::plain()), "ID   NAME\n1    wéb\n22\n");
    }

    #[test]
    fn a_red_cell_stands_where_it_stood() {
        let mut table = Table::new(["id", "lease", "ports"]);
        table.row(["1".into(), "59s".into(), "x".into()]);
        table.alarm("59s");
        table.row(["2".into(), "1h 59s".into(), "y".into()]);
        let view = View { colour: true, ..View::plain() };
        let text = table.text(&view);
        assert!(text.ends_with("1    \u{1b}[1;31m59s\u{1b}[0m      x\n2    1h 59s   y\n"), "{text:?}");
    }

    #[test]
    fn pairs_leave_out_what_is_not_there() {
        let pairs = Pairs::new().pair("name", "web").pair("ports", "").some("lease", None::<String>);
        assert_eq!(pairs.pair("id", 7).text(&View::plain()), "name   web\nid     7\n");
    }
}
