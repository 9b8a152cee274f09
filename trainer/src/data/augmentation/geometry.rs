//! Shears and rotations with bilinear interpolation, computed as in Pillow's `Geometry.c`. Pixels outside the image are
//! black.

use super::image::Image;

/// Affine map from output to input coordinates, in pixels: `x' = a x + b y + c`, `y' = d x + e y + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([f64; 6]);

impl Affine {
    /// Horizontal shear around the upper left corner, as in `_apply_op` of torchvision's policies.
    pub fn shear_x(tangent: f64) -> Self {
        Affine([1.0, shear_angle(tangent).tan(), 0.0, 0.0, 1.0, 0.0])
    }

    /// Vertical shear around the upper left corner.
    pub fn shear_y(tangent: f64) -> Self {
        let angle = shear_angle(tangent);
        Affine([1.0, 0.0, 0.0, angle.sin() / angle.cos(), 1.0, 0.0])
    }

    /// Rotation around the centre, as in Pillow's `Image.rotate`.
    pub fn rotate(degrees: f64, image: &Image) -> Self {
        let angle = -degrees.rem_euclid(360.0).to_radians();
        let (sine, cosine) = (round_to_15_digits(angle.sin()), round_to_15_digits(angle.cos()));
        let (x, y) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
        let [a, b, d, e] = [cosine, sine, round_to_15_digits(-angle.sin()), cosine];
        Affine([a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y])
    }

    /// Transforms an image; the result has the same size.
    pub fn apply(self, image: &Image) -> Image {
        let Affine([a, b, c, d, e, f]) = self;
        let Image { width, height, ref pixels } = *image;
        let (pixels, _) = pixels.as_chunks::<3>();
        let mut output = vec![[0; 3]; width * height];
        for (y, row) in output.chunks_exact_mut(width).enumerate() {
            let y = y as f64 + 0.5;
            for (x, out) in row.iter_mut().enumerate() {
                let x = x as f64 + 0.5;
                let (x, y) = (a * x + b * y + c, d * x + e * y + f);
                if x >= 0.0 && x < width as f64 && y >= 0.0 && y < height as f64 {
                    let (left, right, weight_right) = neighbours(x, width);
                    let (above, below, weight_below) = neighbours(y, height);
                    let [above, below] =
                        [above, below].map(|row| [left, right].map(|column| pixels[row * width + column]));
                    *out = std::array::from_fn(|channel| {
                        let [above, below] = [above, below]
                            .map(|[left, right]| lerp(left[channel].into(), right[channel].into(), weight_right));
                        lerp(above, below, weight_below) as u8
                    });
                }
            }
        }
        Image { width, height, pixels: output.into_flattened() }
    }
}

/// Converts a tangent to an angle via degrees, with the rounding errors of torchvision's `_get_inverse_affine_matrix`.
fn shear_angle(tangent: f64) -> f64 {
    tangent.atan().to_degrees().to_radians()
}

/// Rounds to 15 decimal places, as Python's `round(value, 15)`.
fn round_to_15_digits(value: f64) -> f64 {
    format!("{value:.15}").parse().expect("a formatted number can be parsed")
}

/// Returns the two pixels around a coordinate of an axis, clamped to the edges, and the weight of the second.
fn neighbours(coordinate: f64, size: usize) -> (usize, usize, f64) {
    let coordinate = coordinate - 0.5;
    if coordinate < 0.0 {
        return (0, 0, coordinate + 1.0);
    }
    let first = coordinate as usize;
    (first, (first + 1).min(size - 1), coordinate - first as f64)
}

fn lerp(first: f64, second: f64, weight: f64) -> f64 {
    first + (second - first) * weight
}
