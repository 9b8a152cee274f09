//! Transforms of one tile: from inputs to the elements of the transformed tile, `B^T d B`, and from products to
//! outputs, `A^T M A`. The lanes of a vector hold channels, so a tile is transformed for several channels at the same
//! time.

use super::super::blocked_shape::BLOCK;
use super::super::buffer::SharedMutSlice;
use super::super::convolution_output::ConvolutionOutput;
use super::super::microkernel::unroll;
use super::super::simd::{Kernel, Simd};
use super::tiles::PointCounts;
use crate::engine::winograd::{MAX_ALPHA, MAX_M, TransformMatrix, WinogradVariant};

/// Whether transforms of full tiles are unrolled completely, so that most values stay in registers. In WebAssembly, this
/// would add 20 kB to the module.
const UNROLLS_FULL_TILES: bool = cfg!(not(target_arch = "wasm32"));

/// Computes the sum of `$x[$term]` times the constant `$coefficient`. Terms with coefficient 0 are omitted, and those
/// with 1 or -1 are added or subtracted without a multiplication.
macro_rules! dot {
    ($simd:ident, $x:ident, $term:ident in $terms:tt, $coefficient:expr) => {{
        let mut sum = None;
        unroll!($term in $terms => if const { $coefficient != 0.0 } {
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

/// One-dimensional transforms for `OUTPUTS` outputs in the variant of `M` and `STRIDE`, with constant matrices.
struct Transform1d<const M: usize, const STRIDE: usize, const OUTPUTS: usize>;

impl<const M: usize, const STRIDE: usize, const OUTPUTS: usize> Transform1d<M, STRIDE, OUTPUTS> {
    const VARIANT: WinogradVariant = WinogradVariant { m: M, stride: STRIDE };
    const ALPHA: usize = Self::VARIANT.alpha(OUTPUTS);
    const INPUT: TransformMatrix<MAX_ALPHA> = Self::VARIANT.input_transform(OUTPUTS);
    const OUTPUT: TransformMatrix<MAX_M> = Self::VARIANT.folded_output_transform(OUTPUTS);
    const GRADIENT: TransformMatrix<MAX_M> = Self::VARIANT.output_transform(OUTPUTS);

    /// Returns whether the row of `B^T` of a point is computed independently of its neighbours.
    const fn is_unpaired(point: usize) -> bool {
        point < Self::ALPHA
            && !Self::VARIANT.is_symmetric_pair(OUTPUTS, point)
            && (point == 0 || !Self::VARIANT.is_symmetric_pair(OUTPUTS, point - 1))
    }

    /// Transforms α inputs to α interpolation points, `B^T x`.
    #[inline(always)]
    fn input<S: Simd>(simd: S, x: [S::Vector; MAX_ALPHA]) -> [S::Vector; MAX_ALPHA] {
        let mut points = [simd.splat(0.0); MAX_ALPHA];
        unroll!(POINT in [2 4] => if const { Self::VARIANT.is_symmetric_pair(OUTPUTS, POINT) } {
            let even = dot!(simd, x, J in [0 2 4], Self::INPUT[POINT][J]);
            let odd = dot!(simd, x, J in [1 3 5], Self::INPUT[POINT][J]);
            points[POINT] = simd.add(even, odd);
            points[POINT + 1] = simd.subtract(even, odd);
        });
        unroll!(POINT in [0 1 2 3 4 5] => if const { Self::is_unpaired(POINT) } {
            points[POINT] = dot!(simd, x, J in [0 1 2 3 4 5], Self::INPUT[POINT][J]);
        });
        points
    }

    /// Transforms α interpolation points to `OUTPUTS` outputs, `A^T x`.
    #[inline(always)]
    fn output<S: Simd>(simd: S, x: [S::Vector; MAX_ALPHA]) -> [S::Vector; MAX_M] {
        let mut terms = x;
        unroll!(POINT in [2 4] => if const { Self::VARIANT.is_opposite_pair(OUTPUTS, POINT) } {
            terms[POINT] = simd.add(x[POINT], x[POINT + 1]);
            terms[POINT + 1] = simd.subtract(x[POINT], x[POINT + 1]);
        });
        let mut outputs = [simd.splat(0.0); MAX_M];
        unroll!(COLUMN in [0 1 2 3] => if const { COLUMN < OUTPUTS } {
            outputs[COLUMN] = dot!(simd, terms, POINT in [1 2 3 4 5 0], Self::OUTPUT[POINT][COLUMN]);
        });
        outputs
    }
}

impl<const M: usize, const STRIDE: usize, const OUTPUTS: usize> Transform1d<M, STRIDE, OUTPUTS> {
    /// Transforms the gradients of `OUTPUTS` outputs to those of α interpolation points, `A x`.
    #[inline(always)]
    fn gradient<S: Simd>(simd: S, x: [S::Vector; MAX_M]) -> [S::Vector; MAX_ALPHA] {
        let mut points = [simd.splat(0.0); MAX_ALPHA];
        unroll!(POINT in [0 1 2 3 4 5] => if const { POINT < Self::ALPHA } {
            points[POINT] = dot!(simd, x, J in [0 1 2 3], Self::GRADIENT[POINT][J]);
        });
        points
    }
}

/// Evaluates `$body` with `$outputs`, which is at most `$m`, as the constant `$constant`.
macro_rules! with_outputs {
    ($m:ident, $outputs:expr, $constant:ident => $body:expr) => {
        match $outputs {
            1 => {
                const $constant: usize = 1;
                $body
            }
            2 => {
                const $constant: usize = 2;
                $body
            }
            3 if $m >= 3 => {
                const $constant: usize = 3;
                $body
            }
            4 if $m >= 4 => {
                const $constant: usize = 4;
                $body
            }
            outputs => unreachable!("a tile with a side of {outputs} outputs, but m = {}", $m),
        }
    };
}

/// Offsets of a tile's elements in a block of tiles, `[elements, .., tiles, ..]`. A tile at the edge of an image may
/// have fewer elements than α×α; the tiles of each element are only those that have it.
#[derive(Clone, Copy)]
pub struct ElementOffsets<'a> {
    /// Offset of the first element of the first tile.
    pub start: usize,
    /// Distance from an element to the next.
    pub element_stride: usize,
    /// Distance from a tile to the next.
    pub tile_stride: usize,
    /// Number of preceding rows of tiles that have each vertical interpolation point.
    pub preceding_rows: &'a PointCounts,
    /// Number of preceding tiles of the row that have each horizontal interpolation point.
    pub preceding_columns: &'a PointCounts,
    /// Number of tiles in a row that have each horizontal interpolation point.
    pub tiles_per_row: &'a PointCounts,
}

impl ElementOffsets<'_> {
    /// Returns the offset of the element at row `y` and column `x` of the transformed tile.
    #[inline(always)]
    fn at<const M: usize, const STRIDE: usize>(&self, y: usize, x: usize) -> usize {
        let alpha = const { WinogradVariant { m: M, stride: STRIDE }.alpha(M) };
        self.start + (y * alpha + x) * self.element_stride + self.tile(y, x) * self.tile_stride
    }

    /// Returns the index of the tile among those that have the element.
    #[inline(always)]
    fn tile(&self, y: usize, x: usize) -> usize {
        self.preceding_rows[y] * self.tiles_per_row[x] + self.preceding_columns[x]
    }

    /// Returns the offset of the first element of the tile if the index of the tile is the same for all elements, as in
    /// an image without smaller tiles.
    #[inline(always)]
    fn uniform<const M: usize, const STRIDE: usize>(&self) -> Option<usize> {
        let last = const { WinogradVariant { m: M, stride: STRIDE }.alpha(M) - 1 };
        let is_uniform = self.preceding_rows[0] == self.preceding_rows[last]
            && self.tiles_per_row[0] == self.tiles_per_row[last]
            && self.preceding_columns[0] == self.preceding_columns[last];
        is_uniform.then(|| self.start + self.tile(0, 0) * self.tile_stride)
    }
}

/// Computes `B^T d B` for one tile.
pub struct InputTransform<'a, const M: usize, const STRIDE: usize> {
    /// Number of outputs of the tile, `[height, width]`.
    pub outputs: [usize; 2],
    pub input: &'a [f32],
    /// Offset of the tile's first input.
    pub corner: usize,
    /// Distance from a row of inputs to the next.
    pub row_stride: usize,
    pub target: SharedMutSlice<'a>,
    pub offsets: ElementOffsets<'a>,
}

impl<const M: usize, const STRIDE: usize> Kernel for InputTransform<'_, M, STRIDE> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // the second pass reads the columns of the first as rows
    fn run<S: Simd>(self, simd: S) {
        let InputTransform { outputs: [height, width], input, corner, row_stride, target, offsets } = self;
        let (variant, zero) = (WinogradVariant { m: M, stride: STRIDE }, simd.splat(0.0));
        if let (true, Some(first)) = (UNROLLS_FULL_TILES && [height, width] == [M; 2], offsets.uniform::<M, STRIDE>()) {
            let mut columns = [[zero; MAX_ALPHA]; MAX_ALPHA];
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                let mut inputs = [zero; MAX_ALPHA];
                unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                    // SAFETY: as below.
                    inputs[Y] = unsafe { simd.read(input, corner + Y * row_stride + X * BLOCK) };
                });
                columns[X] = Transform1d::<M, STRIDE, M>::input(simd, inputs);
            });
            unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                let inputs = columns.map(|column| column[Y]);
                let transformed = Transform1d::<M, STRIDE, M>::input(simd, inputs);
                let row = first + Y * const { Transform1d::<M, STRIDE, M>::ALPHA } * offsets.element_stride;
                unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                    // SAFETY: as below.
                    unsafe { simd.write(target, row + X * offsets.element_stride, transformed[X]) };
                });
            });
            return;
        }
        let mut columns = [[zero; MAX_ALPHA]; MAX_ALPHA];
        with_outputs!(M, height, HEIGHT => for (x, column) in columns[..variant.alpha(width)].iter_mut().enumerate() {
            let mut inputs = [zero; MAX_ALPHA];
            unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, HEIGHT>::ALPHA } {
                // SAFETY: the inputs of a tile end at the latest with the border of the image, which is part of
                // `input`.
                inputs[Y] = unsafe { simd.read(input, corner + Y * row_stride + x * BLOCK) };
            });
            *column = Transform1d::<M, STRIDE, HEIGHT>::input(simd, inputs);
        });
        with_outputs!(M, width, WIDTH => for y in 0..variant.alpha(height) {
            let mut inputs = [zero; MAX_ALPHA];
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, WIDTH>::ALPHA } {
                inputs[X] = columns[X][y];
            });
            let transformed = Transform1d::<M, STRIDE, WIDTH>::input(simd, inputs);
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, WIDTH>::ALPHA } {
                // SAFETY: the target has room for all elements of the block, and each task writes its own channels.
                unsafe { simd.write(target, offsets.at::<M, STRIDE>(y, X), transformed[X]) };
            });
        });
    }
}

/// Computes `A d A^T` for the output gradients of one tile.
pub struct GradientTransform<'a, const M: usize, const STRIDE: usize> {
    /// Number of outputs of the tile, `[height, width]`.
    pub outputs: [usize; 2],
    pub gradient: &'a [f32],
    /// Offset of the gradient of the tile's first output.
    pub corner: usize,
    /// Distance from a row of outputs to the next.
    pub row_stride: usize,
    pub target: SharedMutSlice<'a>,
    pub offsets: ElementOffsets<'a>,
}

impl<const M: usize, const STRIDE: usize> Kernel for GradientTransform<'_, M, STRIDE> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // the second pass reads the columns of the first as rows
    fn run<S: Simd>(self, simd: S) {
        let GradientTransform { outputs: [height, width], gradient, corner, row_stride, target, offsets } = self;
        let (variant, zero) = (WinogradVariant { m: M, stride: STRIDE }, simd.splat(0.0));
        if let (true, Some(first)) = (UNROLLS_FULL_TILES && [height, width] == [M; 2], offsets.uniform::<M, STRIDE>()) {
            let mut columns = [[zero; MAX_ALPHA]; MAX_M];
            unroll!(X in [0 1 2 3] => if X < M {
                let mut outputs = [zero; MAX_M];
                unroll!(Y in [0 1 2 3] => if Y < M {
                    // SAFETY: as below.
                    outputs[Y] = unsafe { simd.read(gradient, corner + Y * row_stride + X * BLOCK) };
                });
                columns[X] = Transform1d::<M, STRIDE, M>::gradient(simd, outputs);
            });
            unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                let outputs = columns.map(|column| column[Y]);
                let transformed = Transform1d::<M, STRIDE, M>::gradient(simd, outputs);
                let row = first + Y * const { Transform1d::<M, STRIDE, M>::ALPHA } * offsets.element_stride;
                unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                    // SAFETY: as below.
                    unsafe { simd.write(target, row + X * offsets.element_stride, transformed[X]) };
                });
            });
            return;
        }
        let mut columns = [[zero; MAX_ALPHA]; MAX_M];
        with_outputs!(M, height, HEIGHT => for (x, column) in columns[..width].iter_mut().enumerate() {
            let mut outputs = [zero; MAX_M];
            unroll!(Y in [0 1 2 3] => if Y < HEIGHT {
                // SAFETY: tiles lie inside the gradient.
                outputs[Y] = unsafe { simd.read(gradient, corner + Y * row_stride + x * BLOCK) };
            });
            *column = Transform1d::<M, STRIDE, HEIGHT>::gradient(simd, outputs);
        });
        with_outputs!(M, width, WIDTH => for y in 0..variant.alpha(height) {
            let mut outputs = [zero; MAX_M];
            unroll!(X in [0 1 2 3] => if X < WIDTH {
                outputs[X] = columns[X][y];
            });
            let transformed = Transform1d::<M, STRIDE, WIDTH>::gradient(simd, outputs);
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, WIDTH>::ALPHA } {
                // SAFETY: the target has room for all elements of the tiles, and each task writes its own channels.
                unsafe { simd.write(target, offsets.at::<M, STRIDE>(y, X), transformed[X]) };
            });
        });
    }
}

/// Computes `A^T M A` for one tile and writes it to the output of the convolution.
pub struct OutputTransform<'a, const M: usize, const STRIDE: usize> {
    /// Number of outputs of the tile, `[height, width]`.
    pub outputs: [usize; 2],
    pub products: &'a [f32],
    pub offsets: ElementOffsets<'a>,
    pub output: ConvolutionOutput<'a>,
    /// First of the output channels in the vector.
    pub channel: usize,
    /// Offset of the tile's first output in a block of the output.
    pub corner: usize,
    /// Offset of the tile's first output in a block of the residual.
    pub residual_corner: usize,
}

impl<const M: usize, const STRIDE: usize> Kernel for OutputTransform<'_, M, STRIDE> {
    type Output = ();

    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // the second pass reads the columns of the first as rows
    fn run<S: Simd>(self, simd: S) {
        let OutputTransform { outputs: [height, width], products, offsets, output, channel, corner, residual_corner } =
            self;
        let row_stride = output.shape.row_stride();
        let residual_row_stride = output.residual.map_or(0, |(_, shape)| shape.row_stride());
        let (variant, zero) = (WinogradVariant { m: M, stride: STRIDE }, simd.splat(0.0));
        if let (true, Some(first)) = (UNROLLS_FULL_TILES && [height, width] == [M; 2], offsets.uniform::<M, STRIDE>()) {
            let mut columns = [[zero; MAX_M]; MAX_ALPHA];
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                let mut inputs = [zero; MAX_ALPHA];
                unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, M>::ALPHA } {
                    let element = Y * const { Transform1d::<M, STRIDE, M>::ALPHA } + X;
                    // SAFETY: as below.
                    inputs[Y] = unsafe { simd.read(products, first + element * offsets.element_stride) };
                });
                columns[X] = Transform1d::<M, STRIDE, M>::output(simd, inputs);
            });
            unroll!(Y in [0 1 2 3] => if Y < M {
                let inputs = columns.map(|column| column[Y]);
                let outputs = Transform1d::<M, STRIDE, M>::output(simd, inputs);
                unroll!(X in [0 1 2 3] => if X < M {
                    let (at, residual_at) = (corner + Y * row_stride, residual_corner + Y * residual_row_stride);
                    // SAFETY: as below.
                    unsafe { output.write(simd, outputs[X], channel, at + X * BLOCK, residual_at + X * BLOCK) };
                });
            });
            return;
        }
        let mut columns = [[zero; MAX_M]; MAX_ALPHA];
        with_outputs!(M, height, HEIGHT => for (x, column) in columns[..variant.alpha(width)].iter_mut().enumerate() {
            let mut inputs = [zero; MAX_ALPHA];
            unroll!(Y in [0 1 2 3 4 5] => if Y < const { Transform1d::<M, STRIDE, HEIGHT>::ALPHA } {
                // SAFETY: `products` holds the products of all elements of the block.
                inputs[Y] = unsafe { simd.read(products, offsets.at::<M, STRIDE>(Y, x)) };
            });
            *column = Transform1d::<M, STRIDE, HEIGHT>::output(simd, inputs);
        });
        with_outputs!(M, width, WIDTH => for y in 0..height {
            let mut inputs = [zero; MAX_ALPHA];
            unroll!(X in [0 1 2 3 4 5] => if X < const { Transform1d::<M, STRIDE, WIDTH>::ALPHA } {
                inputs[X] = columns[X][y];
            });
            let outputs = Transform1d::<M, STRIDE, WIDTH>::output(simd, inputs);
            unroll!(X in [0 1 2 3] => if X < WIDTH {
                let (at, residual_at) = (corner + y * row_stride, residual_corner + y * residual_row_stride);
                // SAFETY: tiles lie inside the output and cover each pixel once, and panels cover each channel once.
                unsafe { output.write(simd, outputs[X], channel, at + X * BLOCK, residual_at + X * BLOCK) };
            });
        });
    }
}
