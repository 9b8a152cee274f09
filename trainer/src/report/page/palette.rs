//! Colours of the confusion matrix, for a light and a dark background. Correct predictions are blue and errors orange, which
//! colour-blind readers can distinguish.

/// Number of shades of each colour.
pub const SHADES: u8 = 100;

/// Red, green and blue.
pub type Rgb = [u8; 3];

/// Colours of the cells.
pub struct Palette {
    pub background: Rgb,
    /// Colour of a cell on the diagonal with a rate of 1.
    pub correct: Rgb,
    /// Colour of any other cell with a rate of 1.
    pub error: Rgb,
}

pub const LIGHT: Palette = Palette { background: [0xff; 3], correct: [0x08, 0x4f, 0x94], error: [0xb8, 0x4a, 0x00] };
pub const DARK: Palette =
    Palette { background: [0x1d, 0x1f, 0x1c], correct: [0x6f, 0xb1, 0xea], error: [0xf2, 0x9a, 0x4a] };

/// Returns the shade of a rate from 0 to 1, from 0 for the background to [`SHADES`]. The scale is that of the square root, so
/// that rare errors are visible; a rate above 0 has at least shade 5.
pub fn shade(rate: f64) -> u8 {
    if rate > 0.0 { (rate.min(1.0).sqrt() * f64::from(SHADES)).round().max(5.0) as u8 } else { 0 }
}

impl Palette {
    /// Returns the colour of a cell.
    pub fn colour(&self, shade: u8, is_correct: bool) -> Rgb {
        let full = if is_correct { self.correct } else { self.error };
        let opacity = f64::from(shade) / f64::from(SHADES);
        let mix =
            |channel: usize| f64::from(self.background[channel]) * (1.0 - opacity) + f64::from(full[channel]) * opacity;
        [0, 1, 2].map(|channel| mix(channel).round() as u8)
    }

    /// Returns whether white text is more legible than black text on a cell.
    pub fn is_dark(&self, shade: u8, is_correct: bool) -> bool {
        // Above this luminance, black has the larger contrast ratio of WCAG 2.
        luminance(self.colour(shade, is_correct)) < 0.179
    }

    /// Returns the colours as CSS custom properties.
    pub fn custom_properties(&self) -> String {
        let hex = |[red, green, blue]: Rgb| format!("#{red:02x}{green:02x}{blue:02x}");
        let (background, correct, error) = (hex(self.background), hex(self.correct), hex(self.error));
        format!("--cell: {background}; --correct: {correct}; --error: {error};")
    }
}

/// Returns the style sheet of the custom properties for both colour schemes.
pub fn style() -> String {
    format!(
        ":root {{ {} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n",
        LIGHT.custom_properties(),
        DARK.custom_properties()
    )
}

/// Returns the relative luminance of a colour, as defined by WCAG 2.
fn luminance(colour: Rgb) -> f64 {
    let [red, green, blue] = colour.map(|channel| {
        let value = f64::from(channel) / 255.0;
        if value <= 0.03928 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shade_grows_with_the_square_root_of_the_rate() {
        assert_eq!([0.0, 1e-6, 0.04, 0.25, 1.0, f64::NAN].map(shade), [0, 5, 20, 50, 100, 0]);
    }

    /// 4.5 is the minimum contrast ratio of normal text in WCAG 2, level AA.
    #[test]
    fn text_is_legible_on_every_shade() {
        for palette in [LIGHT, DARK] {
            for (shade, is_correct) in (0..=SHADES).flat_map(|shade| [(shade, true), (shade, false)]) {
                let cell = luminance(palette.colour(shade, is_correct)) + 0.05;
                let contrast = if palette.is_dark(shade, is_correct) { 1.05 / cell } else { cell / 0.05 };
                assert!(contrast >= 4.5, "shade {shade}: contrast {contrast}");
            }
        }
    }
}
