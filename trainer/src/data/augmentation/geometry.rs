//! Shears and rotations: bilinear, as Pillow's `Geometry.c` computes them, and black from beyond the edges.

use super::image::Image;

/// From a coordinate in what comes out to its coordinate in what goes in: `x' = a x + b y + c`, `y' = d x + e y + f`, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine([f64; 6]);

impl Affine {
    /// About the upper left corner, as `_apply_op` of torchvision's policies has it.
    pub fn shear_x(tangent: f64) -> Self {
        Affine([1.0, shear_angle(tangent).tan(), 0.0, 0.0, 1.0, 0.0])
    }

    /// About the upper left corner.
    pub fn shear_y(tangent: f64) -> Self {
        let angle = shear_angle(tangent);
        Affine([1.0, 0.0, 0.0, angle.sin() / angle.cos(), 1.0, 0.0])
    }

    /// Pillow's `Image.rotate`.
    pub fn rotate(degrees: f64, image: &Image) -> Self {
        let angle = -degrees.rem_euclid(360.0).to_radians();
        let (sine, cosine) = (round_to_15_digits(angle.sin()), round_to_15_digits(angle.cos()));
        let (x, y) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
        let [a, b, d, e] = [cosine, sine, round_to_15_digits(-angle.sin()), cosine];
        Affine([a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y])
    }

    /// An image of the same size.
    pub fn apply(self, image: &Image) -> Image {
        let Affine([a, b, c, d, e, f]) = self;
        let Image { width, height, ref pixels } = *image;
        let (pixels, _) = pixels.as_chunks::<3>();
        let mut moved = vec![[0; 3]; width * height];
        for (y, row) in moved.chunks_exact_mut(width).enumerate() {
            let y = y as f64 + 0.5;
            for (x, out) in row.iter_mut().enumerate() {
                let x = x as f64 + 0.5;
                let (x, y) = (a * x + b * y + c, d * x + e * y + f);
                if x >= 0.0 && x < width as f64 && y >= 0.0 && y < height as f64 {
                    let (left, right, to_right) = neighbours(x, width);
                    let (above, below, down) = neighbours(y, height);
                    let [above, below] =
                        [above, below].map(|row| [left, right].map(|column| pixels[row * width + column]));
                    *out = std::array::from_fn(|channel| {
                        let [above, below] = [above, below]
                            .map(|[left, right]| lerp(left[channel].into(), right[channel].into(), to_right));
                        lerp(above, below, down) as u8
                    });
                }
            }
        }
        Image { width, height, pixels: moved.into_flattened() }
    }
}

/// The angle of a tangent as it comes to torchvision's `_get_inverse_affine_matrix`, by way of degrees.
fn shear_angle(tangent: f64) -> f64 {
    tangent.atan().to_degrees().to_radians()
}

/// Python's `round(value, 15)`.
fn round_to_15_digits(value: f64) -> f64 {
    format!("{value:.15}").parse().expect("a number that was just written")
}

/// The two pixels around a coordinate within an axis, the outermost ones repeated, and how far it is from the first to the second.
fn neighbours(coordinate: f64, size: usize) -> (usize, usize, f64) {
    let coordinate = coordinate - 0.5;
    if coordinate < 0.0 {
        return (0, 0, coordinate + 1.0);
    }
    let first = coordinate as usize;
    (first, (first + 1).min(size - 1), coordinate - first as f64)
}

fn lerp(first: f64, second: f64, share: f64) -> f64 {
    first + (second - first) * share
}
