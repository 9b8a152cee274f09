//! Transform matrices of Winograd convolution, F(m×m, 3×3), built with the Toom-Cook construction from interpolation
//! points.
//!
//! `output = A^T [(G filter G^T) * (B^T input B)] A` computes an m×m output tile of a 3x3 convolution with α×α
//! elementwise multiplications, α = m + r - 1, instead of m·m·r·r (Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks", 2015, whose notation is used here). Where an image ends within a tile, a smaller tile is computed:
//! its interpolation points are the first ones of the full tile, and every difference in scaling is in `B`, so filters
//! transformed for full tiles serve the smaller ones too.
//!
//! With a stride of 2, each output sums two inputs with even index, which is a 2-tap convolution with stride 1, and one
//! input with odd index. The former takes m + 1 interpolation points. In the latter, every input is a point of its own,
//! and all of them share one filter element. So α is 2m + 1 there.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// Side of the filters, r in F(m×m, r×r).
const R: usize = 3;
/// Largest m of any variant.
pub const MAX_M: usize = 4;
/// Largest α of any variant.
pub const MAX_ALPHA: usize = MAX_M + R - 1;

/// One row per interpolation point; rows and columns that a variant does not use are zero.
pub type TransformMatrix<const COLUMNS: usize> = [[f32; COLUMNS]; MAX_ALPHA];

/// F(m×m, 3×3) with a stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WinogradVariant {
    /// Number of outputs per side of a full tile: 2, 3 or 4 with stride 1, and 2 with stride 2.
    pub m: usize,
    /// Stride of the convolution: 1 or 2.
    pub stride: usize,
}

impl WinogradVariant {
    /// Returns α for a tile side of `m` outputs: the number of its inputs, and of its interpolation points.
    pub const fn alpha(self, m: usize) -> usize {
        match self.stride {
            1 => m + R - 1,
            _ => 2 * m + 1,
        }
    }

    /// Returns the side of the transformed filter: α, or less if the stride is 2, where interpolation points share
    /// filter elements.
    pub const fn filter_side(self) -> usize {
        self.m + R - 1
    }

    /// Returns the number of elements of the transformed filter for one pair of input and output channels.
    pub const fn filter_elements(self) -> usize {
        self.filter_side() * self.filter_side()
    }

    /// Returns the row (or column) of the transformed filter that belongs to an interpolation point.
    pub const fn filter_point(self, point: usize) -> usize {
        match (self.stride, point) {
            (2, 4) => 2,
            _ => point,
        }
    }

    /// Returns the number of multiplications for a row of `outputs` values, in one dimension.
    pub fn multiplications(self, outputs: usize) -> usize {
        self.alpha(self.m) * (outputs / self.m)
            + if outputs.is_multiple_of(self.m) { 0 } else { self.alpha(outputs % self.m) }
    }

    /// Returns the finite interpolation points in order; the point at infinity precedes them. Those of m = 4 have the
    /// smallest known error (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for
    /// Deep Neural Networks", 2020).
    const fn finite_points(self) -> [f64; MAX_ALPHA - 1] {
        match self.m {
            2 => [0.0, 1.0, -1.0, f64::NAN, f64::NAN],
            3 => [0.0, 1.0, -1.0, 0.5, f64::NAN],
            4 => [0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
            _ => panic!("m must be 2, 3 or 4"),
        }
    }

    /// Returns the denominator of a Lagrange basis polynomial: the product of the differences between a point and the
    /// other finite points of a tile with `m` outputs.
    const fn lagrange_denominator(self, m: usize, point: usize) -> f64 {
        let (points, mut product, mut other) = (self.finite_points(), 1.0, 0);
        while other < m + 1 {
            if other != point {
                product *= points[point] - points[other];
            }
            other += 1;
        }
        product
    }

    /// Returns `B^T` for a tile side of `m` outputs, `[point][input]`.
    pub const fn input_transform(self, m: usize) -> TransformMatrix<MAX_ALPHA> {
        match (self.stride, m) {
            (1, _) => self.toom_cook_input_transform(m),
            // Points infinity and 0 of the inputs with even index, then the input with odd index.
            (_, 1) => [
                [0., 0., 1., 0., 0., 0.],
                [1., 0., 0., 0., 0., 0.],
                [0., 1., 0., 0., 0., 0.],
                ZERO_ROW,
                ZERO_ROW,
                ZERO_ROW,
            ],
            // Points infinity, 0 and 1 of the inputs with even index, in the rows 0, 1 and 3, and the two inputs with
            // odd index.
            _ => [
                [0., 0., -1., 0., 1., 0.],
                [1., 0., -1., 0., 0., 0.],
                [0., 1., 0., 0., 0., 0.],
                [0., 0., 1., 0., 0., 0.],
                [0., 0., 0., 1., 0., 0.],
                ZERO_ROW,
            ],
        }
    }

    const fn toom_cook_input_transform(self, m: usize) -> TransformMatrix<MAX_ALPHA> {
        let points = self.finite_points();
        let mut matrix = [ZERO_ROW; MAX_ALPHA];
        let mut row = 0;
        while row < m + R - 1 {
            // The product of (x - q) over all finite points q except the row's point, which is infinity for the first
            // row.
            let (mut polynomial, mut degree, mut other) = ([0.0; MAX_ALPHA], 0, 0);
            polynomial[0] = 1.0;
            while other < m + 1 {
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
            // `G` is scaled for full tiles, so `B` makes up for the difference.
            let scale = if row == 0 {
                1.0
            } else {
                self.lagrange_denominator(self.m, row - 1) / self.lagrange_denominator(m, row - 1)
            };
            let mut column = 0;
            while column < MAX_ALPHA {
                matrix[row][column] = (polynomial[column] * scale) as f32;
                column += 1;
            }
            row += 1;
        }
        matrix
    }

    /// Returns `A` for a tile side of `m` outputs, `[point][output]`.
    pub const fn output_transform(self, m: usize) -> TransformMatrix<MAX_M> {
        let mut matrix = [[0.0; MAX_M]; MAX_ALPHA];
        matrix[0][m - 1] = 1.0;
        if self.stride == 2 {
            matrix[1][0] = 1.0;
            matrix[2][0] = 1.0;
            if m == 2 {
                matrix[3] = [1.0, 1.0, 0.0, 0.0];
                matrix[4][1] = 1.0;
            }
            return matrix;
        }
        let points = self.finite_points();
        let mut row = 1;
        while row < m + R - 1 {
            let (mut power, mut column) = (1.0, 0);
            while column < m {
                matrix[row][column] = power as f32;
                power *= points[row - 1];
                column += 1;
            }
            row += 1;
        }
        matrix
    }

    /// Returns `G`, `[row of the transformed filter][row of the filter]`.
    pub const fn filter_transform(self) -> [[f64; R]; MAX_ALPHA] {
        let mut matrix = [[0.0; R]; MAX_ALPHA];
        matrix[0] = [0.0, 0.0, 1.0];
        if self.stride == 2 {
            matrix[1] = [1.0, 0.0, 0.0];
            matrix[2] = [0.0, 1.0, 0.0];
            matrix[3] = [1.0, 0.0, 1.0];
            return matrix;
        }
        let points = self.finite_points();
        let mut row = 1;
        while row < self.filter_side() {
            let (point, scale) = (points[row - 1], 1.0 / self.lagrange_denominator(self.m, row - 1));
            matrix[row] = [scale, scale * point, scale * point * point];
            row += 1;
        }
        matrix
    }

    /// Returns a function that computes `G filter G^T` of the 3x3 filter of one pair of channels.
    #[cfg(feature = "webgpu")]
    pub fn filter_transformer(self) -> impl Fn(&[f32; R * R]) -> [[f32; MAX_ALPHA]; MAX_ALPHA] {
        let (matrix, side) = (self.filter_transform(), self.filter_side());
        move |filter| {
            let mut transformed = [[0.0; MAX_ALPHA]; MAX_ALPHA];
            for (row, row_factors) in transformed.iter_mut().zip(&matrix[..side]) {
                // One sum per column of the filter.
                let sum = |x| (0..R).map(|y| row_factors[y] * f64::from(filter[y * R + x])).sum();
                let sums: [f64; R] = std::array::from_fn(sum);
                for (element, column_factors) in row.iter_mut().zip(&matrix[..side]) {
                    *element = column_factors.iter().zip(sums).map(|(factor, sum)| factor * sum).sum::<f64>() as f32;
                }
            }
            transformed
        }
    }

    /// Returns whether `point` and the following one are opposite, and their rows of `B^T` differ only in the sign of
    /// the odd columns. The sum and the difference of one even and one odd partial sum then yield both.
    pub const fn is_symmetric_pair(self, m: usize, point: usize) -> bool {
        if !self.is_opposite_pair(m, point) {
            return false;
        }
        let (matrix, mut column) = (self.input_transform(m), 0);
        while column < MAX_ALPHA {
            let sign = if column % 2 == 0 { 1.0 } else { -1.0 };
            if matrix[point][column] != sign * matrix[point + 1][column] {
                return false;
            }
            column += 1;
        }
        true
    }

    /// Returns whether `point` and the following one are opposite, p and -p.
    pub const fn is_opposite_pair(self, m: usize, point: usize) -> bool {
        self.stride == 1 && (point == 2 || point == 4 && self.m == 4) && point + 1 < self.alpha(m)
    }

    /// Returns `A` for inputs in which each opposite pair is replaced by its sum and its difference: the sum
    /// contributes only to outputs with even index, the difference only to those with odd index.
    pub const fn folded_output_transform(self, m: usize) -> TransformMatrix<MAX_M> {
        let matrix = self.output_transform(m);
        let (mut folded, mut row) = (matrix, 2);
        while row < MAX_ALPHA {
            if self.is_opposite_pair(m, row) {
                let mut column = 0;
                while column < MAX_M {
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

const ZERO_ROW: [f32; MAX_ALPHA] = [0.0; MAX_ALPHA];

#[cfg(test)]
mod tests {
    use super::*;

    const VARIANTS: [WinogradVariant; 4] = [
        WinogradVariant { m: 2, stride: 1 },
        WinogradVariant { m: 3, stride: 1 },
        WinogradVariant { m: 4, stride: 1 },
        WinogradVariant { m: 2, stride: 2 },
    ];

    #[test]
    fn every_tile_size_of_every_variant_computes_a_convolution() {
        let inputs = [0.3, -1.2, 0.7, 2.5, -0.4, 1.1];
        let weights = [0.8, -0.5, 1.7];
        for variant in VARIANTS {
            for m in 1..=variant.m {
                let (b, a, g) = (variant.input_transform(m), variant.output_transform(m), variant.filter_transform());
                let mut outputs = [0.0; MAX_M];
                for point in 0..variant.alpha(m) {
                    let v: f64 = inputs.iter().zip(b[point]).map(|(input, factor)| f64::from(factor) * input).sum();
                    let u: f64 = g[variant.filter_point(point)]
                        .iter()
                        .zip(weights)
                        .map(|(factor, weight)| factor * weight)
                        .sum();
                    for (output, factor) in outputs.iter_mut().zip(a[point]) {
                        *output += f64::from(factor) * u * v;
                    }
                }
                for (i, output) in outputs[..m].iter().enumerate() {
                    let expected: f64 = (0..3).map(|k| inputs[i * variant.stride + k] * weights[k]).sum();
                    assert!((output - expected).abs() < 1e-6, "{variant:?} of {m}: {output} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn detects_symmetric_and_opposite_pairs() {
        let [two, three, four, strided] = VARIANTS;
        assert!(four.is_symmetric_pair(4, 2) && four.is_symmetric_pair(4, 4) && two.is_symmetric_pair(2, 2));
        assert!(!four.is_symmetric_pair(3, 2), "the second pair has only one point left, which breaks the symmetry");
        assert!(!three.is_symmetric_pair(3, 2) && three.is_opposite_pair(3, 2));
        assert!(!four.is_symmetric_pair(1, 2) && !strided.is_symmetric_pair(2, 2) && !strided.is_opposite_pair(2, 2));
    }
}
