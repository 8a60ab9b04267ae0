//! A small writer of pictures.

use std::fmt::Write;

/// Colours that are told apart with any eyes (Okabe and Ito).
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777"];

/// Where a text's point is.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture of some width and height, on white.
pub struct Svg {
    body: String,
    size: [f64; 2],
}

impl Svg {
    pub fn new(size: [f64; 2], title: &str) -> Self {
        let mut svg = Self { body: String::new(), size };
        svg.rectangle([0.0, 0.0], size, "#ffffff");
        svg.text([size[0] / 2.0, 22.0], 15, Anchor::Middle, title);
        svg
    }

    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str, width: f64) {
        self.add(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ));
    }

    pub fn rectangle(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: &str) {
        self.add(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#
        ));
    }

    /// A dot that says its name to whoever points at it.
    pub fn dot(&mut self, [x, y]: [f64; 2], colour: &str, name: &str) {
        let name = escape(name);
        self.add(format_args!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="4.5" fill="{colour}" fill-opacity="0.8"><title>{name}</title></circle>"#));
    }

    pub fn text(&mut self, [x, y]: [f64; 2], size: u32, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.add(format_args!(
            r##"<text x="{x:.1}" y="{y:.1}" font-size="{size}" text-anchor="{anchor}" fill="#222222">{text}</text>"##
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments) {
        // Writing to a String does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub fn finish(self) -> String {
        let [width, height] = self.size;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\">\n{}</svg>\n",
            self.body
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A logarithmic axis.
pub struct LogAxis {
    pub values: [f64; 2],
    pub pixels: [f64; 2],
}

impl LogAxis {
    pub fn at(&self, value: f64) -> f64 {
        let [low, high] = self.values.map(f64::log10);
        self.pixels[0] + (value.log10() - low) / (high - low) * (self.pixels[1] - self.pixels[0])
    }

    /// The powers of ten on it.
    pub fn decades(&self) -> impl Iterator<Item = f64> {
        let [low, high] = self.values.map(f64::log10);
        (low.ceil() as i32..=high.floor() as i32).map(|exponent| 10f64.powi(exponent))
    }
}
