//! Pictures: what was achieved under the device's roof, and peers beside ours.

use std::collections::BTreeSet;

use peft_kernels::ElementType;

use super::svg::{Anchor, COLOURS, LogAxis, Svg};
use super::table::peers;
use super::{Comparison, Section, picture};
use crate::bench::catalog::{Peaks, peaks_of_label};

const GREY: &str = "#dddddd";
const BLACK: &str = "#222222";

/// Names and contents of a device's pictures.
pub fn of(section: &Section) -> Result<Vec<(String, String)>, String> {
    let device = &section.device;
    let peaks = device.label.as_deref().map(peaks_of_label).transpose()?.flatten();
    let mut pictures = Vec::new();
    for (family, comparisons) in section.families() {
        let title = format!("{}, {family}", device.name);
        pictures.push((picture("roofline", &device.name, family), roofline(&title, &comparisons, peaks.as_ref())));
        let with_peers: Vec<_> =
            comparisons.into_iter().filter(|comparison| peers(comparison).next().is_some()).collect();
        if !with_peers.is_empty() {
            pictures.push((picture("peers", &device.name, family), bars(&title, &with_peers)));
        }
    }
    Ok(pictures)
}

/// Names in the order of the alphabet, each with a colour.
fn colours<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, &'static str)> {
    let names: BTreeSet<_> = names.collect();
    names.into_iter().zip(COLOURS.into_iter().cycle()).collect()
}

fn colour(colours: &[(&str, &'static str)], name: &str) -> &'static str {
    colours.iter().find(|(known, _)| *known == name).map_or(BLACK, |(_, colour)| colour)
}

fn legend(svg: &mut Svg, [x, y]: [f64; 2], colours: &[(&str, &str)]) {
    for (i, (name, colour)) in colours.iter().enumerate() {
        let y = y + 18.0 * i as f64;
        svg.rectangle([x, y - 9.0], [10.0, 10.0], colour);
        svg.text([x + 16.0, y], 11, Anchor::Start, name);
    }
}

/// Operations a second over operations a byte, both logarithmic.
fn roofline(title: &str, comparisons: &[&Comparison], peaks: Option<&Peaks>) -> String {
    let mut svg = Svg::new([860.0, 520.0], &format!("{title}: achieved against the floor"));
    let points: Vec<_> = comparisons
        .iter()
        .map(|Comparison { ours, .. }| {
            let rate = ours.flops as f64 / ours.time.median_ns;
            (ours, ours.flops as f64 / ours.bytes as f64, rate)
        })
        .filter(|(_, intensity, rate)| *intensity > 0.0 && *rate > 0.0)
        .collect();
    let top = points.iter().map(|point| point.2).chain(peaks.map(|peaks| peaks.rates.bf16 * 1e-9)).fold(1.0, f64::max);
    let bottom = points.iter().map(|point| point.2).fold(top, f64::min);
    let x = LogAxis { values: [0.1, 10_000.0], pixels: [70.0, 620.0] };
    let y = LogAxis { values: [bottom / 3.0, top * 2.0], pixels: [460.0, 40.0] };
    for value in x.decades() {
        svg.line([x.at(value), 40.0], [x.at(value), 460.0], GREY, 1.0);
        svg.text([x.at(value), 478.0], 11, Anchor::Middle, &value.to_string());
    }
    for value in y.decades() {
        svg.line([70.0, y.at(value)], [620.0, y.at(value)], GREY, 1.0);
        svg.text([64.0, y.at(value) + 4.0], 11, Anchor::End, &(value * 1e-3).to_string());
    }
    svg.text([345.0, 504.0], 12, Anchor::Middle, "operations a byte");
    svg.text([70.0, 34.0], 12, Anchor::Middle, "TFLOP/s");
    if let Some(peaks) = peaks {
        // One roof for each unit; none below the picture's lower edge.
        let roofs: BTreeSet<_> = [ElementType::BF16, ElementType::F16, ElementType::F32]
            .map(|element_type| peaks.rate(element_type))
            .map(|(rate, unit)| (unit, (rate * 1e-9) as u64))
            .into();
        let left = x.values[0].max(y.values[0] / (peaks.bandwidth * 1e-9));
        for (unit, rate) in roofs {
            let (rate, corner) = (rate as f64, rate as f64 / (peaks.bandwidth * 1e-9));
            let start = [x.at(left), y.at(left * peaks.bandwidth * 1e-9)];
            svg.line(start, [x.at(corner), y.at(rate)], BLACK, 1.5);
            svg.line([x.at(corner), y.at(rate)], [620.0, y.at(rate)], BLACK, 1.5);
            svg.text([616.0, y.at(rate) - 5.0], 11, Anchor::End, unit);
        }
    }
    let colours = colours(points.iter().map(|(ours, ..)| ours.kernel.as_str()));
    for (ours, intensity, rate) in &points {
        let percent =
            ours.percent_of_floor.map_or_else(String::new, |percent| format!(", {percent:.0} % of the floor"));
        let name = format!("{} {}{percent}", ours.shape, ours.types);
        let place = [x.at(intensity.clamp(x.values[0], x.values[1])), y.at(*rate)];
        svg.dot(place, colour(&colours, &ours.kernel), &name);
    }
    legend(&mut svg, [640.0, 60.0], &colours);
    svg.finish()
}

/// For each shape a bar for each peer: how many times as long as ours it takes.
fn bars(title: &str, comparisons: &[&Comparison]) -> String {
    const BAR: f64 = 13.0;
    const LEFT: f64 = 330.0;
    const WIDTH: f64 = 400.0;
    let arms = |comparison: &Comparison| peers(comparison).count() + 1;
    let lines: usize = comparisons.iter().map(|comparison| arms(comparison) + 1).sum();
    let longest = comparisons.iter().flat_map(|comparison| peers(comparison).map(|row| comparison.ratio(row)));
    let longest = longest.fold(1.0, f64::max);
    let mut svg = Svg::new([860.0, 70.0 + BAR * lines as f64], &format!("{title}: time, ours is 1 (longer is slower)"));
    let bottom = 50.0 + BAR * lines as f64;
    let one = LEFT + WIDTH / longest;
    let mut y = 50.0;
    for comparison in comparisons {
        svg.text([10.0, y + 10.0], 11, Anchor::Start, &format!("{} {}", comparison.ours.shape, comparison.ours.types));
        let ours = ("ours", 1.0, COLOURS[0]);
        let rows = peers(comparison).map(|row| {
            let ratio = comparison.ratio(row);
            (row.arm.as_str(), ratio, if ratio < 1.0 { COLOURS[1] } else { COLOURS[6] })
        });
        for (arm, ratio, colour) in std::iter::once(ours).chain(rows) {
            svg.rectangle([LEFT, y], [ratio / longest * WIDTH, BAR - 2.0], colour);
            svg.text([LEFT + ratio / longest * WIDTH + 5.0, y + 10.0], 10, Anchor::Start, &format!("{arm} {ratio:.2}"));
            y += BAR;
        }
        y += BAR;
    }
    svg.line([one, 40.0], [one, bottom], BLACK, 1.0);
    svg.finish()
}
