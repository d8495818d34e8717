//! A rate that is drawn while it is measured: one line on standard error, on a terminal only.

use gx_core::measurement::{BitsPerSecond, Direction, Sample, Step};
use indicatif::{ProgressBar, ProgressStyle};

use super::human;

/// How many readings are drawn.
const DRAWN: usize = 32;
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws rates.
pub(crate) struct Rates {
    bar: Option<ProgressBar>,
    before: Sample,
    rates: Vec<f64>,
}

impl Rates {
    pub(super) fn new(is_drawn: bool) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("a template that a test reads");
        let bar = is_drawn.then(|| ProgressBar::new_spinner().with_style(style));
        if let Some(bar) = &bar {
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar.set_message("latency");
        }
        Self { bar, before: Sample::default(), rates: Vec::new() }
    }

    /// Draws a step.
    pub(crate) fn step(&mut self, step: &Step) {
        let Some(bar) = self.bar.clone() else { return };
        match step {
            Step::Latency(latency) => bar.set_message(format!("latency   {}", latency.median_ms)),
            Step::Begun(direction) => {
                (self.before, self.rates) = (Sample::default(), Vec::new());
                bar.set_message(name(*direction).to_owned());
            }
            Step::Reading(direction, sample) => bar.set_message(self.line(*direction, *sample)),
            // Lines are drawn now and then; the last one is what came of it.
            Step::Ended(_) => bar.force_draw(),
        }
    }

    /// Returns the line after one more reading.
    fn line(&mut self, direction: Direction, sample: Sample) -> String {
        let span = sample.at_ms.0 - self.before.at_ms.0;
        if span > 0.0 {
            let moved = sample.bytes.saturating_sub(self.before.bytes);
            self.rates.push(moved as f64 * 8e3 / span);
            self.before = sample;
        }
        let from = self.rates.len().saturating_sub(DRAWN);
        let drawn = sparks(&self.rates[from..]);
        let now = self.rates.last().copied().unwrap_or_default();
        let (rate, moved) = (human::rate(BitsPerSecond(now)), human::bytes(sample.bytes));
        format!(
            "{:<9} {rate:>14}  {drawn:<DRAWN$}  {moved} in {:.1} s",
            name(direction),
            sample.at_ms.0 / 1e3
        )
    }
}

impl Drop for Rates {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn name(direction: Direction) -> &'static str {
    match direction {
        Direction::Down => "download",
        Direction::Up => "upload",
    }
}

/// Returns a small picture: the highest is the whole height.
fn sparks(rates: &[f64]) -> String {
    let most = rates.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let height = |rate: &f64| HEIGHTS[((rate / most * 7.0).round().clamp(0.0, 7.0)) as usize];
    rates.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gx_core::measurement::Millis;

    #[test]
    fn a_rate_is_drawn_from_one_reading_to_the_next() {
        let mut rates = Rates::new(false);
        let mut line = |ms: f64, bytes| rates.line(Direction::Up, Sample { at_ms: Millis(ms), bytes });
        assert!(line(100.0, 500_000).contains("40.0 Mbit/s"));
        let text = line(200.0, 1_750_000);
        assert!(text.starts_with("upload ") && text.contains("100 Mbit/s  ▄█ "), "{text}");
        assert!(line(200.0, 0).contains("100 Mbit/s"), "a clock that stands still is no rate");
        for n in 0..1_000_u32 {
            assert!(line(300.0 + f64::from(n), 1_750_000).chars().count() < 100);
        }
    }
}
