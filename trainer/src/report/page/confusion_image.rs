//! Confusion matrices of many classes as PNG images, with one pixel or more per cell.

use super::palette::{LIGHT, Palette, SHADES, shade};
use crate::evaluation::ConfusionMatrix;
use crate::report::evaluation_report::EvaluationReport;
use png::{BitDepth, ColorType, Encoder};

/// Maximum number of cells of a side. With more classes, a cell stands for a block of classes.
pub const MAX_SIDE: usize = 2000;
/// Minimum side of the image file, in pixels.
const FILE_SIDE: usize = 800;
/// Minimum shade of a cell with photos. A paler pixel could not be seen.
const MIN_SHADE: u8 = 30;

/// Returns the confusion matrix of all classes as a PNG file.
pub fn confusion_png(report: &EvaluationReport) -> Vec<u8> {
    let order = &report.similarity().order;
    encode(&report.details.confusion, order, &LIGHT, FILE_SIDE.div_ceil(side(order.len())))
}

/// Returns the number of classes on a side of the block that a cell stands for.
pub fn block(classes: usize) -> usize {
    classes.div_ceil(MAX_SIDE).max(1)
}

/// Returns the number of cells on a side of the image.
pub fn side(classes: usize) -> usize {
    classes.div_ceil(block(classes)).max(1)
}

/// Encodes the matrix with the classes in this order, and `scale` pixels on a side of a cell.
pub fn encode(confusion: &ConfusionMatrix, order: &[usize], palette: &Palette, scale: usize) -> Vec<u8> {
    let side = side(order.len());
    let cells = shades(confusion, order);
    let row = |row: &[u8]| row.iter().flat_map(|&cell| std::iter::repeat_n(cell, scale)).collect::<Vec<_>>();
    let pixels: Vec<u8> = cells.chunks_exact(side).flat_map(|cells| row(cells).repeat(scale)).collect();
    let colours = (0..=SHADES).map(|shade| palette.colour(shade, true));
    let colours = colours.chain((1..=SHADES).map(|shade| palette.colour(shade, false)));

    let mut file = Vec::new();
    let width = (side * scale) as u32;
    let mut encoder = Encoder::new(&mut file, width, width);
    encoder.set_color(ColorType::Indexed);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_palette(colours.flatten().collect::<Vec<u8>>());
    let writer = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels)?;
        writer.finish()
    });
    writer.expect("the palette and the number of pixels are valid");
    file
}

/// Returns the shade of each cell, row by row; those of errors follow those of correct predictions. Of a block of classes, the
/// largest rate of an error is shown, or that of a correct prediction if there are no errors.
fn shades(confusion: &ConfusionMatrix, order: &[usize]) -> Vec<u8> {
    let (block, side) = (block(order.len()), side(order.len()));
    let rows: Vec<&[u32]> = confusion.rows().collect();
    let mut cells = vec![0; side * side];
    for (row, &actual) in order.iter().enumerate() {
        let total = f64::from(rows[actual].iter().sum::<u32>());
        for (column, &predicted) in order.iter().enumerate() {
            let count = rows[actual][predicted];
            if count > 0 {
                let shade = shade(f64::from(count) / total).max(MIN_SHADE);
                let shade = if row == column { shade } else { SHADES + shade };
                let cell = &mut cells[row / block * side + column / block];
                *cell = shade.max(*cell);
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(file: &[u8]) -> (u32, Vec<u8>) {
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, pixels)
    }

    #[test]
    fn pixels_are_the_rates_in_the_given_order() {
        let mut confusion = ConfusionMatrix::new(2);
        for (actual, predicted) in [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1)] {
            confusion.add(actual, predicted);
        }
        let (width, pixels) = decode(&encode(&confusion, &[1, 0], &LIGHT, 1));
        let quarter = LIGHT.colour(50, false);
        let expected = [LIGHT.correct, LIGHT.background, quarter, LIGHT.colour(87, true)];
        assert_eq!((width, pixels), (2, expected.concat()));
        let (width, pixels) = decode(&encode(&confusion, &[1, 0], &LIGHT, 3));
        assert_eq!((width, &pixels[3 * 3..4 * 3]), (6, &LIGHT.background[..]));
        assert_eq!(&pixels[3 * 6 * 3..][..3], quarter);
    }

    #[test]
    fn blocks_bound_the_size_of_the_image() {
        let classes = 2 * MAX_SIDE - 1;
        let mut confusion = ConfusionMatrix::new(classes);
        confusion.add(0, 0);
        confusion.add(1, 0);
        confusion.add(classes - 1, 2);
        let order: Vec<_> = (0..classes).collect();
        let cells = shades(&confusion, &order);
        assert_eq!((side(classes), cells.len()), (MAX_SIDE, MAX_SIDE * MAX_SIDE));
        assert_eq!([cells[0], cells[1], cells[(MAX_SIDE - 1) * MAX_SIDE + 1]], [2 * SHADES, 0, 2 * SHADES]);
    }
}
