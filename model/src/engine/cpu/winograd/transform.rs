//! The transforms around the products: tiles of the input into one value a point, products back into tiles of the output.
//! All of a tile's channels lie in the lanes.

use super::super::blocked::BLOCK;
use super::super::buffer::Target;
use super::super::simd::{Kernel, Simd};
use super::super::tile::Epilogue;
use super::super::unroll::each;
use crate::engine::winograd::{LARGEST, Matrix, POINTS, Scheme};

/// The sum of `$x[$term]` times a constant `$coefficient`, those with 0 left out and those with 1 and -1 not multiplied.
macro_rules! dot {
    ($simd:ident, $x:ident, $term:ident in $terms:tt, $coefficient:expr) => {{
        let mut sum = None;
        each!($term in $terms => if const { $coefficient != 0.0 } {
            let x = $x[$term];
            sum = Some(match sum {
                None if const { $coefficient == 1.0 } => x,
                None => $simd.multiply($simd.splat(const { $coefficient }), x),
                Some(sum) if const { $coefficient == 1.0 } => $simd.add(sum, x),
                Some(sum) if const { $coefficient == -1.0 } => $simd.subtract(sum, x),
                Some(sum) => $simd.multiply_add($simd.splat(const { $coefficient }), x, sum),
            });
        });
        match sum {
            Some(sum) => sum,
            None => $simd.splat(0.0),
        }
    }};
}

/// The transforms of a side of `SIZE` in the scheme of `TILE` and `STRIDE`, with matrices as constants.
struct Side<const TILE: usize, const STRIDE: usize, const SIZE: usize>;

impl<const TILE: usize, const STRIDE: usize, const SIZE: usize> Side<TILE, STRIDE, SIZE> {
    const SCHEME: Scheme = Scheme { tile: TILE, stride: STRIDE };
    const POINTS: usize = Self::SCHEME.points(SIZE);
    const INPUT: Matrix<POINTS> = Self::SCHEME.input(SIZE);
    const OUTPUT: Matrix<LARGEST> = Self::SCHEME.folded_output(SIZE);

    /// Whether a point's row of `B^T` is summed up for itself.
    const fn alone(point: usize) -> bool {
        point < Self::POINTS
            && !Self::SCHEME.paired(SIZE, point)
            && (point == 0 || !Self::SCHEME.paired(SIZE, point - 1))
    }

    /// `B^T x`: from a side's inputs to as many points.
    #[inline(always)]
    fn input<S: Simd>(simd: S, x: [S::Vector; POINTS]) -> [S::Vector; POINTS] {
        let mut points = [simd.splat(0.0); POINTS];
        each!(POINT in [2 4] => if const { Self::SCHEME.paired(SIZE, POINT) } {
            let even = dot!(simd, x, J in [0 2 4], Self::INPUT[POINT][J]);
            let odd = dot!(simd, x, J in [1 3 5], Self::INPUT[POINT][J]);
            points[POINT] = simd.add(even, odd);
            points[POINT + 1] = simd.subtract(even, odd);
        });
        each!(POINT in [0 1 2 3 4 5] => if const { Self::alone(POINT) } {
            points[POINT] = dot!(simd, x, J in [0 1 2 3 4 5], Self::INPUT[POINT][J]);
        });
        points
    }

    /// `A^T x`: from points to `SIZE` outputs.
    #[inline(always)]
    fn output<S: Simd>(simd: S, x: [S::Vector; POINTS]) -> [S::Vector; LARGEST] {
        let mut terms = x;
        each!(POINT in [2 4] => if const { Self::SCHEME.opposite(SIZE, POINT) } {
            terms[POINT] = simd.add(x[POINT], x[POINT + 1]);
            terms[POINT + 1] = simd.subtract(x[POINT], x[POINT + 1]);
        });
        let mut outputs = [simd.splat(0.0); LARGEST];
        each!(COLUMN in [0 1 2 3] => if const { COLUMN < SIZE } {
            outputs[COLUMN] = dot!(simd, terms, POINT in [1 2 3 4 5 0], Self::OUTPUT[POINT][COLUMN]);
        });
        outputs
    }
}

/// Calls `$body` with `$size`, at most `$tile`, as the constant `$constant`.
macro_rules! with_size {
    ($tile:ident, $size:expr, $constant:ident => $body:expr) => {
        match $size {
            1 => {
                const $constant: usize = 1;
                $body
            }
            2 => {
                const $constant: usize = 2;
                $body
            }
            3 if $tile >= 3 => {
                const $constant: usize = 3;
                $body
            }
            4 if $tile >= 4 => {
                const $constant: usize = 4;
                $body
            }
            size => unreachable!("a tile of {size} with weights for tiles of {}", $tile),
        }
    };
}

/// Where the points of a tile lie: those of a block of tiles are `[points, .., tiles, ..]`, and only tiles that have a point
/// are counted there.
#[derive(Clone, Copy)]
pub struct Points<'a> {
    /// Where the first tile's first point lies.
    pub start: usize,
    /// From a point to the next.
    pub point: usize,
    /// From a tile to the next.
    pub tile: usize,
    /// By point of a column of tiles, of a row, and of the tiles of a row: how many come before.
    pub lines: &'a Ranks,
    pub columns: &'a Ranks,
    pub totals: &'a Ranks,
}

/// A count by point of one direction.
pub type Ranks = [usize; POINTS];

impl Points<'_> {
    #[inline(always)]
    fn at<const TILE: usize, const STRIDE: usize>(&self, y: usize, x: usize) -> usize {
        let side = const { Scheme { tile: TILE, stride: STRIDE }.points(TILE) };
        let tile = self.lines[y] * self.totals[x] + self.columns[x];
        self.start + (y * side + x) * self.point + tile * self.tile
    }
}

/// `B^T d B` of a tile of `size` outputs, height first.
pub struct InputTransform<'a, const TILE: usize, const STRIDE: usize> {
    pub size: [usize; 2],
    pub input: &'a [f32],
    /// Where the tile's first input lies; its columns lie a block apart.
    pub corner: usize,
    pub pitch: usize,
    pub target: Target<'a>,
    pub points: Points<'a>,
}

impl<const TILE: usize, const STRIDE: usize> Kernel for InputTransform<'_, TILE, STRIDE> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // the second pass reads columns as rows
    fn run<S: Simd>(self, simd: S) {
        let InputTransform { size: [height, width], input, corner, pitch, target, points } = self;
        let (scheme, zero) = (Scheme { tile: TILE, stride: STRIDE }, simd.splat(0.0));
        let mut columns = [[zero; POINTS]; POINTS];
        with_size!(TILE, height, HEIGHT => for (x, column) in columns[..scheme.points(width)].iter_mut().enumerate() {
            let mut inputs = [zero; POINTS];
            each!(Y in [0 1 2 3 4 5] => if Y < const { Side::<TILE, STRIDE, HEIGHT>::POINTS } {
                // SAFETY: a tile's inputs end with the image's border.
                inputs[Y] = unsafe { simd.read(input, corner + Y * pitch + x * BLOCK) };
            });
            *column = Side::<TILE, STRIDE, HEIGHT>::input(simd, inputs);
        });
        with_size!(TILE, width, WIDTH => for y in 0..scheme.points(height) {
            let mut inputs = [zero; POINTS];
            each!(X in [0 1 2 3 4 5] => if X < const { Side::<TILE, STRIDE, WIDTH>::POINTS } {
                inputs[X] = columns[X][y];
            });
            let transformed = Side::<TILE, STRIDE, WIDTH>::input(simd, inputs);
            each!(X in [0 1 2 3 4 5] => if X < const { Side::<TILE, STRIDE, WIDTH>::POINTS } {
                // SAFETY: the target has room for the block, and each task writes its own channels.
                unsafe { simd.write(target, points.at::<TILE, STRIDE>(y, X), transformed[X]) };
            });
        });
    }
}

/// `A^T m A` of a tile of `size` outputs, height first, to a value.
pub struct OutputTransform<'a, const TILE: usize, const STRIDE: usize> {
    pub size: [usize; 2],
    pub products: &'a [f32],
    pub points: Points<'a>,
    pub epilogue: Epilogue<'a>,
    /// The first of the channels in the lanes.
    pub channel: usize,
    /// Where the tile's first output lies in a plane, and in the residual's.
    pub corner: usize,
    pub residual_corner: usize,
}

impl<const TILE: usize, const STRIDE: usize> Kernel for OutputTransform<'_, TILE, STRIDE> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // the second pass reads columns as rows
    fn run<S: Simd>(self, simd: S) {
        let OutputTransform { size: [height, width], products, points, epilogue, channel, corner, residual_corner } =
            self;
        let (pitch, residual_pitch) = (epilogue.shape.pitch(), epilogue.residual.map_or(0, |(_, shape)| shape.pitch()));
        let (scheme, zero) = (Scheme { tile: TILE, stride: STRIDE }, simd.splat(0.0));
        let mut columns = [[zero; LARGEST]; POINTS];
        with_size!(TILE, height, HEIGHT => for (x, column) in columns[..scheme.points(width)].iter_mut().enumerate() {
            let mut inputs = [zero; POINTS];
            each!(Y in [0 1 2 3 4 5] => if Y < const { Side::<TILE, STRIDE, HEIGHT>::POINTS } {
                // SAFETY: the products of the block's tiles are there.
                inputs[Y] = unsafe { simd.read(products, points.at::<TILE, STRIDE>(Y, x)) };
            });
            *column = Side::<TILE, STRIDE, HEIGHT>::output(simd, inputs);
        });
        with_size!(TILE, width, WIDTH => for y in 0..height {
            let mut inputs = [zero; POINTS];
            each!(X in [0 1 2 3 4 5] => if X < const { Side::<TILE, STRIDE, WIDTH>::POINTS } {
                inputs[X] = columns[X][y];
            });
            let outputs = Side::<TILE, STRIDE, WIDTH>::output(simd, inputs);
            each!(X in [0 1 2 3] => if X < WIDTH {
                let (at, residual_at) = (corner + y * pitch, residual_corner + y * residual_pitch);
                // SAFETY: tiles are cut from the output and cover each pixel once, panels each channel.
                unsafe { epilogue.write(simd, outputs[X], channel, at + X * BLOCK, residual_at + X * BLOCK) };
            });
        });
    }
}
