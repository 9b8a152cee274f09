//! The matrices of Winograd's minimal filtering, by Toom and Cook from their points of evaluation.
//!
//! `output = A^T [(G weight G^T) * (B^T input B)] A` computes `m x m` outputs of a 3x3 convolution from `(m + 2)^2` products
//! (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The points of a smaller tile are the first
//! ones of the larger, and all scaling that differs is in `B`, so the weights transformed for tiles of `m` serve all
//! smaller ones: where an image ends within a tile, the tile ends with it.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// The largest tile.
pub const LARGEST: usize = 4;
/// Points of the largest tile.
pub const POINTS: usize = LARGEST + 2;

pub type Matrix<const COLUMNS: usize> = [[f32; COLUMNS]; POINTS];

/// The finite points for tiles of `m`, in order; infinity stands before them. Those of 4 are the best known for its error
/// (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020).
const fn points(m: usize) -> [f64; POINTS - 1] {
    match m {
        2 => [0.0, 1.0, -1.0, f64::NAN, f64::NAN],
        3 => [0.0, 1.0, -1.0, 0.5, f64::NAN],
        4 => [0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
        _ => panic!("tiles have sides of 2, 3 or 4"),
    }
}

/// The product of a point's distances to the others of a tile of `size`.
const fn distances(m: usize, size: usize, point: usize) -> f64 {
    let (points, mut product, mut other) = (points(m), 1.0, 0);
    while other < size + 1 {
        if other != point {
            product *= points[point] - points[other];
        }
        other += 1;
    }
    product
}

/// `B^T` of a tile of `size`, at most `m`: by point, what each of `size + 2` inputs counts.
pub const fn input(m: usize, size: usize) -> Matrix<POINTS> {
    let points = points(m);
    let mut matrix = [[0.0; POINTS]; POINTS];
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
        // `G` is scaled for tiles of `m`.
        let scale = if row == 0 { 1.0 } else { distances(m, m, row - 1) / distances(m, size, row - 1) };
        let mut column = 0;
        while column < POINTS {
            matrix[row][column] = (polynomial[column] * scale) as f32;
            column += 1;
        }
        row += 1;
    }
    matrix
}

/// `A` of a tile of `size`, at most `m`: by point, what it counts for each of `size` outputs.
pub const fn output(m: usize, size: usize) -> Matrix<LARGEST> {
    let points = points(m);
    let mut matrix = [[0.0; LARGEST]; POINTS];
    matrix[0][size - 1] = 1.0;
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

/// `G` of tiles of `m`: by point, what each of three weights counts.
pub const fn weight(m: usize) -> [[f64; 3]; POINTS] {
    let points = points(m);
    let mut matrix = [[0.0; 3]; POINTS];
    matrix[0] = [0.0, 0.0, 1.0];
    let mut row = 1;
    while row < m + 2 {
        let (point, scale) = (points[row - 1], 1.0 / distances(m, m, row - 1));
        matrix[row] = [scale, scale * point, scale * point * point];
        row += 1;
    }
    matrix
}

/// Whether a point of a tile and the one behind it are opposite, and their rows of `B^T` differ in the sign of the odd
/// columns alone: then both are had from one even and one odd sum.
pub const fn paired(matrix: &Matrix<POINTS>, size: usize, row: usize) -> bool {
    if row < 2 || row % 2 == 1 || row + 1 >= size + 2 {
        return false;
    }
    let mut column = 0;
    while column < POINTS {
        let sign = if column % 2 == 0 { 1.0 } else { -1.0 };
        if matrix[row][column] != sign * matrix[row + 1][column] {
            return false;
        }
        column += 1;
    }
    true
}

/// Whether a tile has a point and it is in no pair.
pub const fn alone(matrix: &Matrix<POINTS>, size: usize, row: usize) -> bool {
    row < size + 2 && !paired(matrix, size, row) && (row == 0 || !paired(matrix, size, row - 1))
}

/// `A` where opposite points were replaced by their sum and their difference: of these, one counts for the even outputs
/// alone and the other for the odd ones.
pub const fn folded(matrix: Matrix<LARGEST>, size: usize) -> Matrix<LARGEST> {
    let mut folded = matrix;
    let mut row = 2;
    while row + 1 < size + 2 {
        let mut column = 0;
        while column < LARGEST {
            let odd = column % 2;
            folded[row + odd][column] = matrix[row][column];
            folded[row + 1 - odd][column] = 0.0;
            column += 1;
        }
        row += 2;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every tile of every scheme convolves one line exactly, but for rounding.
    #[test]
    fn every_tile_is_a_convolution() {
        let inputs = [0.3, -1.2, 0.7, 2.5, -0.4, 1.1];
        let weights = [0.8, -0.5, 1.7];
        for m in 2..=LARGEST {
            for size in 1..=m {
                let (b, a, g) = (input(m, size), output(m, size), weight(m));
                let mut outputs = [0.0; LARGEST];
                for point in 0..size + 2 {
                    let v: f64 = (0..size + 2).map(|i| f64::from(b[point][i]) * inputs[i]).sum();
                    let u: f64 = (0..3).map(|k| g[point][k] * weights[k]).sum();
                    for (output, factor) in outputs.iter_mut().zip(a[point]) {
                        *output += f64::from(factor) * u * v;
                    }
                }
                for (i, output) in outputs[..size].iter().enumerate() {
                    let expected: f64 = (0..3).map(|k| inputs[i + k] * weights[k]).sum();
                    assert!((output - expected).abs() < 1e-6, "F({size}) of {m}: {output} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn symmetric_points_are_paired() {
        assert!(paired(&input(4, 4), 4, 2) && paired(&input(4, 4), 4, 4));
        assert!(paired(&input(2, 2), 2, 2));
        assert!(!paired(&input(4, 3), 3, 2), "the point of the first pair that is left alone breaks the symmetry");
        assert!(!paired(&input(4, 1), 1, 2));
    }
}
