//! How long an update takes by the number of servers, as a drawing with both axes in steps of ten.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const TOP: f64 = 24.0;
const RIGHT: f64 = 150.0;
/// From 1 to 1,000 servers, from 10 ms to 10,000 s.
const X: (f64, f64) = (0.0, 3.0);
const Y: (f64, f64) = (-2.0, 4.0);

/// A line: what it is, its colour, and its points as servers and seconds.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) colour: &'a str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws lines as SVG, readable on light and dark ground.
pub(super) fn draw(lines: &[Line<'_>]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#777\" role=\"img\"><title>Time of an update by the number of servers</title>\n"
    );
    for power in 0..=3 {
        let (x, y) = (across(f64::from(power)), HEIGHT - BOTTOM);
        let _ = writeln!(svg, "<path d=\"M{x:.1} {TOP}V{y}\" stroke=\"#7774\"/>");
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 18.0,
            10_i32.pow(power)
        );
    }
    for power in -2..=4 {
        let (y, right) = (up(f64::from(power)), WIDTH - RIGHT);
        let _ = writeln!(svg, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#7774\"/>");
        let label = 10_f64.powi(power);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label} s</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    let _ =
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">servers</text>", HEIGHT - 10.0);
    for Line { name, colour, points } in lines {
        let at = |(servers, seconds): &(f64, f64)| (across(servers.log10()), up(seconds.max(0.01).log10()));
        let path: Vec<String> =
            points.iter().map(|point| format!("{:.1} {:.1}", at(point).0, at(point).1)).collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join("L")
        );
        for (x, y) in points.iter().map(at) {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
        if let Some((x, y)) = points.last().map(at) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
                x + 8.0,
                y + 4.0
            );
        }
    }
    svg + "</svg>\n"
}

fn across(power: f64) -> f64 {
    LEFT + (power - X.0) / (X.1 - X.0) * (WIDTH - LEFT - RIGHT)
}

fn up(power: f64) -> f64 {
    HEIGHT - BOTTOM - (power - Y.0) / (Y.1 - Y.0) * (HEIGHT - BOTTOM - TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_as_many_are_as_far_apart_everywhere() {
        let line =
            Line { name: "gx", colour: "#07a", points: vec![(1.0, 0.01), (10.0, 0.1), (1_000.0, 10_000.0)] };
        let svg = draw(&[line]);
        assert!(svg.contains("M64.0 312.0L206.0 264.0L490.0 24.0"), "{svg}");
    }
}
