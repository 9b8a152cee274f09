//! The matrices of Winograd's minimal filtering, by Toom and Cook from their points of evaluation.
//!
//! `output = A^T [(G weight G^T) * (B^T input B)] A` computes `tile x tile` outputs of a 3x3 convolution from fewer products
//! than there are taps (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The points of a smaller
//! tile are the first ones of the larger, and all scaling that differs is in `B`, so the weights transformed for whole tiles
//! serve all smaller ones: where an image ends within a tile, the tile ends with it.
//!
//! With a stride of 2, an output counts two inputs of the odd columns, a convolution of two taps with stride 1, and one of
//! the even columns: `tile + 1` points for the former, and for the latter every input is a point of its own, all of which
//! share their weight.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// The largest tile.
pub const LARGEST: usize = 4;
/// Points of the largest tile, and no tile has more.
pub const POINTS: usize = LARGEST + 2;

pub type Matrix<const COLUMNS: usize> = [[f32; COLUMNS]; POINTS];

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The side of a whole tile's output: 2, 3 or 4, and 2 where the stride is 2.
    pub tile: usize,
    /// 1 or 2
    pub stride: usize,
}

impl Scheme {
    /// Points of a side of `size` outputs; they are as many as its inputs.
    pub const fn points(self, size: usize) -> usize {
        match self.stride {
            1 => size + 2,
            _ => 2 * size + 1,
        }
    }

    /// Transformed weights of a side.
    pub const fn weights(self) -> usize {
        self.tile + 2
    }

    /// Transformed weights of a pair of channels, of which every product of a tile has one.
    pub const fn matrices(self) -> usize {
        self.weights() * self.weights()
    }

    /// The transformed weight of a point.
    pub const fn weight_of(self, point: usize) -> usize {
        match (self.stride, point) {
            (2, 4) => 2,
            _ => point,
        }
    }

    /// Products for `side` outputs.
    pub fn products(self, side: usize) -> usize {
        self.points(self.tile) * (side / self.tile)
            + if side.is_multiple_of(self.tile) { 0 } else { self.points(side % self.tile) }
    }

    /// The finite points, in order; infinity stands before them. Those of tiles of 4 are the best known for its error
    /// (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks",
    /// 2020).
    const fn finite(self) -> [f64; POINTS - 1] {
        match self.tile {
            2 => [0.0, 1.0, -1.0, f64::NAN, f64::NAN],
            3 => [0.0, 1.0, -1.0, 0.5, f64::NAN],
            4 => [0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
            _ => panic!("tiles have sides of 2, 3 or 4"),
        }
    }

    /// The product of a point's distances to the other finite ones of a tile of `size`.
    const fn distances(self, size: usize, point: usize) -> f64 {
        let (points, mut product, mut other) = (self.finite(), 1.0, 0);
        while other < size + 1 {
            if other != point {
                product *= points[point] - points[other];
            }
            other += 1;
        }
        product
    }

    /// `B^T` of a tile of `size`: by point, what each of its inputs counts.
    pub const fn input(self, size: usize) -> Matrix<POINTS> {
        match (self.stride, size) {
            (1, _) => self.interpolation(size),
            // Points 0 and infinity of the odd inputs, and the even one.
            (_, 1) => [[0., 0., 1., 0., 0., 0.], [1., 0., 0., 0., 0., 0.], [0., 1., 0., 0., 0., 0.], NONE, NONE, NONE],
            // Points 0, 1 and infinity of the odd inputs, and the two even ones.
            _ => [
                [0., 0., -1., 0., 1., 0.],
                [1., 0., -1., 0., 0., 0.],
                [0., 1., 0., 0., 0., 0.],
                [0., 0., 1., 0., 0., 0.],
                [0., 0., 0., 1., 0., 0.],
                NONE,
            ],
        }
    }

    const fn interpolation(self, size: usize) -> Matrix<POINTS> {
        let points = self.finite();
        let mut matrix = [NONE; POINTS];
        let mut row = 0;
        while row < size + 2 {
            // The product of (x - q) over all points q but the row's own, which is infinity for the first.
            let (mut polynomial, mut degree, mut other) = ([0.0; POINTS], 0, 0);
            polynomial[0] = 1.0;
            while other < size + 1 {
                if other + 1 != row {
                    let mut power = degree + 1;
                    while power > 0 {
                        polynomial[power] = polynomial[power - 1] - points[other] * polynomial[power];
                        power -= 1;
                    }
                    polynomial[0] *= -points[other];
                    degree += 1;
                }
                other += 1;
            }
            // `G` is scaled for whole tiles.
            let scale = if row == 0 { 1.0 } else { self.distances(self.tile, row - 1) / self.distances(size, row - 1) };
            let mut column = 0;
            while column < POINTS {
                matrix[row][column] = (polynomial[column] * scale) as f32;
                column += 1;
            }
            row += 1;
        }
        matrix
    }

    /// `A` of a tile of `size`: by point, what it counts for each of `size` outputs.
    pub const fn output(self, size: usize) -> Matrix<LARGEST> {
        let mut matrix = [[0.0; LARGEST]; POINTS];
        matrix[0][size - 1] = 1.0;
        if self.stride == 2 {
            matrix[1][0] = 1.0;
            matrix[2][0] = 1.0;
            if size == 2 {
                matrix[3] = [1.0, 1.0, 0.0, 0.0];
                matrix[4][1] = 1.0;
            }
            return matrix;
        }
        let points = self.finite();
        let mut row = 1;
        while row < size + 2 {
            let (mut power, mut column) = (1.0, 0);
            while column < size {
                matrix[row][column] = power as f32;
                power *= points[row - 1];
                column += 1;
            }
            row += 1;
        }
        matrix
    }

    /// `G`: by transformed weight, what each of three weights counts.
    pub const fn weight(self) -> [[f64; 3]; POINTS] {
        let mut matrix = [[0.0; 3]; POINTS];
        matrix[0] = [0.0, 0.0, 1.0];
        if self.stride == 2 {
            matrix[1] = [1.0, 0.0, 0.0];
            matrix[2] = [0.0, 1.0, 0.0];
            matrix[3] = [1.0, 0.0, 1.0];
            return matrix;
        }
        let points = self.finite();
        let mut row = 1;
        while row < self.tile + 2 {
            let (point, scale) = (points[row - 1], 1.0 / self.distances(self.tile, row - 1));
            matrix[row] = [scale, scale * point, scale * point * point];
            row += 1;
        }
        matrix
    }

    /// `G weight G^T` of the 3x3 weights of a pair of channels.
    #[cfg(feature = "webgpu")]
    pub fn weight_transform(self) -> impl Fn(&[f32; 9]) -> [[f32; POINTS]; POINTS] {
        let (matrix, points) = (self.weight(), self.weights());
        move |taps| {
            let mut transformed = [[0.0; POINTS]; POINTS];
            for (row, of_row) in transformed.iter_mut().zip(&matrix[..points]) {
                // By column of taps.
                let sum = |x| (0..3).map(|y| of_row[y] * f64::from(taps[y * 3 + x])).sum();
                let sums: [f64; 3] = std::array::from_fn(sum);
                for (point, of_column) in row.iter_mut().zip(&matrix[..points]) {
                    *point = of_column.iter().zip(sums).map(|(factor, sum)| factor * sum).sum::<f64>() as f32;
                }
            }
            transformed
        }
    }

    /// Whether a point of a tile and the one behind it are opposite, and their rows of `B^T` differ in the sign of the odd
    /// columns alone: then both are had from one even and one odd sum.
    pub const fn paired(self, size: usize, point: usize) -> bool {
        if !self.opposite(size, point) {
            return false;
        }
        let (matrix, mut column) = (self.input(size), 0);
        while column < POINTS {
            let sign = if column % 2 == 0 { 1.0 } else { -1.0 };
            if matrix[point][column] != sign * matrix[point + 1][column] {
                return false;
            }
            column += 1;
        }
        true
    }

    /// Whether a point of a tile and the one behind it are opposite.
    pub const fn opposite(self, size: usize, point: usize) -> bool {
        self.stride == 1 && (point == 2 || point == 4 && self.tile == 4) && point + 1 < self.points(size)
    }

    /// `A` where opposite points were replaced by their sum and their difference: of these, one counts for the even outputs
    /// alone and the other for the odd ones.
    pub const fn folded_output(self, size: usize) -> Matrix<LARGEST> {
        let matrix = self.output(size);
        let (mut folded, mut row) = (matrix, 2);
        while row < POINTS {
            if self.opposite(size, row) {
                let mut column = 0;
                while column < LARGEST {
                    let odd = column % 2;
                    folded[row + odd][column] = matrix[row][column];
                    folded[row + 1 - odd][column] = 0.0;
                    column += 1;
                }
            }
            row += 2;
        }
        folded
    }
}

const NONE: [f32; POINTS] = [0.0; POINTS];

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 4] = [
        Scheme { tile: 2, stride: 1 },
        Scheme { tile: 3, stride: 1 },
        Scheme { tile: 4, stride: 1 },
        Scheme { tile: 2, stride: 2 },
    ];

    /// Every tile of every scheme convolves one line exactly, but for rounding.
    #[test]
    fn every_tile_is_a_convolution() {
        let inputs = [0.3, -1.2, 0.7, 2.5, -0.4, 1.1];
        let weights = [0.8, -0.5, 1.7];
        for scheme in SCHEMES {
            for size in 1..=scheme.tile {
                let (b, a, g) = (scheme.input(size), scheme.output(size), scheme.weight());
                let mut outputs = [0.0; LARGEST];
                for point in 0..scheme.points(size) {
                    let v: f64 = inputs.iter().zip(b[point]).map(|(input, factor)| f64::from(factor) * input).sum();
                    let u: f64 =
                        g[scheme.weight_of(point)].iter().zip(weights).map(|(factor, weight)| factor * weight).sum();
                    for (output, factor) in outputs.iter_mut().zip(a[point]) {
                        *output += f64::from(factor) * u * v;
                    }
                }
                for (i, output) in outputs[..size].iter().enumerate() {
                    let expected: f64 = (0..3).map(|k| inputs[i * scheme.stride + k] * weights[k]).sum();
                    assert!((output - expected).abs() < 1e-6, "{scheme:?} of {size}: {output} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn symmetric_points_are_paired() {
        let [two, three, four, strided] = SCHEMES;
        assert!(four.paired(4, 2) && four.paired(4, 4) && two.paired(2, 2));
        assert!(!four.paired(3, 2), "the point of the second pair that is left alone breaks the symmetry");
        assert!(!three.paired(3, 2) && three.opposite(3, 2));
        assert!(!four.paired(1, 2) && !strided.paired(2, 2) && !strided.opposite(2, 2));
    }
}
