//! The picture: for each measurement, how many times better than Docker, on a logarithmic scale.

use std::fmt::Write;

use crate::report::Result;

const WIDTH: f64 = 900.0;
const LABELS: f64 = 400.0;
const BAR: f64 = 18.0;
const COLOURS: [&str; 2] = ["#2b6cb0", "#90b4d8"];

/// Draws all results, one bar per measurement and peer.
pub(crate) fn picture(results: &[&Result]) -> String {
    let names: Vec<&str> =
        results.first().map_or_else(Vec::new, |r| r.rows.iter().map(|w| w.what.as_str()).collect());
    let step = BAR * results.len() as f64 + 14.0;
    let height = 70.0 + step * names.len() as f64 + 24.0 * results.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"bold\">tare: times better than Docker (logarithmic)</text>\n"
    );
    let most = results.iter().flat_map(|r| &r.rows).filter_map(|r| r.better()).fold(10.0, f64::max);
    for power in 0..=most.log10().ceil() as i32 {
        let x = position(10f64.powi(power), most);
        let _ = writeln!(
            out,
            "<line x1=\"{x:.0}\" x2=\"{x:.0}\" y1=\"44\" y2=\"{:.0}\" stroke=\"#ddd\"/>",
            50.0 + step * names.len() as f64
        );
    }
    for (i, name) in names.iter().enumerate() {
        let top = 54.0 + step * i as f64;
        let _ =
            writeln!(out, "<text x=\"16\" y=\"{:.0}\">{}</text>", top + 13.0, escape(&name.replace('`', "")));
        for (j, result) in results.iter().enumerate() {
            let Some(better) =
                result.rows.iter().find(|r| r.what == *name).and_then(crate::report::Row::better)
            else {
                continue;
            };
            let (y, x) = (top + BAR * j as f64, position(better, most));
            let colour = COLOURS[j % COLOURS.len()];
            let (left, width) = (LABELS.min(x), (x - LABELS).abs());
            let _ = writeln!(
                out,
                "<rect x=\"{left:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{:.0}\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{:.0}\">{better:.1} ×</text>",
                BAR - 3.0,
                x.max(LABELS) + 6.0,
                y + 12.0
            );
        }
    }
    for (j, result) in results.iter().enumerate() {
        let y = 60.0 + step * names.len() as f64 + 24.0 * j as f64;
        let _ = writeln!(
            out,
            "<rect x=\"16\" y=\"{y:.0}\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"36\" y=\"{:.0}\">{}</text>",
            COLOURS[j % COLOURS.len()],
            y + 11.0,
            escape(&result.peer)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// Where a factor lies: 1 at the labels' edge, the largest at the right.
fn position(better: f64, most: f64) -> f64 {
    LABELS + (WIDTH - LABELS - 80.0) * better.max(0.1).log10() / most.log10()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
