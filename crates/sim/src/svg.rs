//! Pieces of charts: one look for all of them.

use std::fmt::{self, Write};

/// Text, and what matters.
pub const INK: &str = "#1f2937";
/// Axes, and what matters less.
pub const PALE: &str = "#6b7280";
/// Lines behind everything.
pub const GRID: &str = "#e5e7eb";
/// What is wrong.
pub const WRONG: &str = "#b91c1c";
/// Kinds of things, told apart by most eyes.
pub const KINDS: [&str; 10] =
    ["#4c78a8", "#f0a04b", "#6aa84f", "#c9597b", "#72b7b2", "#9671b5", "#d9bf3f", "#9d755d", "#e58fa5", "#8c9bab"];

/// A chart of that size.
pub struct Chart(String);

impl Chart {
    /// An empty one; `title` is for those who do not see it.
    pub fn new(width: f64, height: f64, title: &str) -> Chart {
        Chart(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" font-size=\"12\" role=\"img\">\n\
             <title>{}</title>\n<rect width=\"{width:.0}\" height=\"{height:.0}\" fill=\"white\"/>\n",
            escape(title)
        ))
    }

    /// Text; `anchor` is start, middle or end.
    pub fn text(&mut self, (x, y): (f64, f64), anchor: &str, colour: &str, size: f64, content: &str) {
        let content = escape(content);
        let _ = writeln!(
            self.0,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" font-size=\"{size}\">{content}</text>"
        );
    }

    /// A filled rectangle.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{width:.2}\" height=\"{height:.2}\" fill=\"{colour}\"/>"
        );
    }

    /// A line; `dash` as SVG has it, or empty.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64, dash: &str) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.0,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>"
        );
    }

    /// The text of the file.
    pub fn end(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}

/// What has no word of its own here.
impl Write for Chart {
    fn write_str(&mut self, element: &str) -> fmt::Result {
        self.0.write_str(element)
    }
}

/// As it may stand in text and in attributes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A step of an axis that has about so many marks: 1, 2 or 5 times a power of ten.
pub fn step(span: f64, marks: f64) -> f64 {
    let raw = (span / marks).max(1e-9);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= raw * 0.999).unwrap_or(10.0 * power)
}
