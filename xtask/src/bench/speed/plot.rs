//! The ratios as a picture: a dot for each median, small ones for the pairs, and a bar for what the goal allows.

use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

use crate::shell::{Doing, Result};

const WIDTH: u32 = 860;
const ROW: u32 = 26;
const LABELS: i32 = 330;
const TOP: i32 = 50;
/// The ratios at the left and the right edge.
const FROM: f64 = 0.0;
const TO: f64 = 1.4;
// Seen on light and on dark.
const INK: RGBColor = RGBColor(110, 118, 129);
const GOOD: RGBColor = RGBColor(46, 160, 67);
const BAD: RGBColor = RGBColor(218, 54, 51);
const ALLOWED: RGBColor = RGBColor(88, 166, 255);

/// Draws the ratios.
pub(crate) fn draw(rows: &[&Value], file: &Path) -> Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).doing(folder.display())?;
    }
    let height = TOP as u32 + ROW * rows.len() as u32 + 20;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let say = |words: &str, at: (i32, i32), size: i32| {
        area.draw(&Text::new(words.to_owned(), at, text(size))).doing(file.display())
    };
    say("gx : iperf3, the same link in turn; the bar is what the goal allows", (10, 8), 15)?;
    for tenth in 0..=7 {
        let ratio = f64::from(tenth) * 0.2;
        let line = PathElement::new([(x(ratio), TOP - 6), (x(ratio), height as i32 - 16)], INK.mix(0.3));
        area.draw(&line).doing(file.display())?;
        say(&format!("{ratio:.1}"), (x(ratio) - 8, TOP - 22), 12)?;
    }
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + (ROW * number as u32) as i32 + ROW as i32 / 2;
        let word = |key: &str| row[key].as_str().unwrap_or_default();
        say(&format!("{}, {}", word("what"), word("way")), (10, y - 7), 13)?;
        let (low, high) = (row["low"].as_f64().unwrap_or(FROM), row["high"].as_f64().unwrap_or(TO));
        let bar = Rectangle::new([(x(low), y - 7), (x(high), y + 7)], ALLOWED.mix(0.25).filled());
        area.draw(&bar).doing(file.display())?;
        for pair in row["pairs"].as_array().into_iter().flatten().filter_map(Value::as_f64) {
            area.draw(&Circle::new((x(pair), y), 2, INK.filled())).doing(file.display())?;
        }
        let colour = if row["holds"] == Value::Bool(true) { GOOD } else { BAD };
        let ratio = row["ratio"].as_f64().unwrap_or_default();
        area.draw(&Circle::new((x(ratio), y), 5, colour.filled())).doing(file.display())?;
    }
    area.present().doing(file.display())
}

fn x(ratio: f64) -> i32 {
    let part = (ratio.clamp(FROM, TO) - FROM) / (TO - FROM);
    LABELS + (part * f64::from(WIDTH as i32 - LABELS - 20)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_picture_has_each_row() {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let file = folder.path().join("plots/x.svg");
        let row = json!({ "what": "a link", "way": "upload", "low": 0.9, "ratio": 0.95, "pairs": [0.9, 1.0], "holds": true });
        draw(&[&row], &file).unwrap_or_else(|failure| panic!("{failure}"));
        let svg = std::fs::read_to_string(file).unwrap_or_default();
        assert!(svg.contains("a link, upload") && svg.contains("#2EA043"), "{svg}");
    }
}
