//! Convolutions as matrix products: 1x1 of any stride, larger kernels tap by tap without ever laying their inputs out
//! anew, the stem on its three colours, and the classifier, which is a 1x1 convolution of one pixel.

use super::blocked::{BLOCK, Blocked};
use super::buffer::{Buffer, F32};
use super::choice::Algorithm;
use super::input::{COLOURS, Image};
use super::precision;
use super::simd::{InstructionSet, Kernel, Simd};
use super::threads::Threads;
use super::tile::{Ahead, Epilogue, Operands, Pixels, Tile, piece, with_rows};
use crate::architecture;
use std::ops::Range;

/// What of a core's cache the inputs or the weights of a task may take.
const CACHE: usize = 256 << 10;
/// Tasks for each thread, so that the last one to finish has not much more to do than the others.
const TASKS: usize = 4;

/// A convolution's weights, packed as its tiles read them: `[panels, runs, run, panel]`.
pub struct Weights {
    packed: Buffer,
    access: Access,
    stride: usize,
    kernel: usize,
    padding: usize,
    /// Blocks of input channels that a panel of output channels reads.
    blocks: usize,
    /// The first of them, by panel.
    first_blocks: Vec<usize>,
    /// Output channels of a tile.
    panel: usize,
    /// The same in vectors.
    columns: usize,
}

/// How the inputs of a tile lie.
#[derive(Clone, Copy, PartialEq)]
enum Access {
    /// Runs of 16 channels of a tap; pixels lie 16 times the stride apart.
    Channels,
    /// The same in bf16: runs of 8 pairs of channels, pixels 8 times the stride apart.
    Pairs,
    /// Runs of a row of taps with their three colours, in an [`Image`].
    Colours,
}

impl Weights {
    /// `weight` is `[out_channels, in_channels / groups, kernel, kernel]`; `image` says that the layer reads an [`Image`]
    /// instead of a blocked value.
    pub fn pack(weight: &[f32], layer: &architecture::Convolution, image: bool, set: InstructionSet) -> Self {
        let architecture::Convolution { out_channels, in_channels, kernel, stride, padding, groups, .. } = *layer;
        let (group_in, group_out) = (in_channels / groups, out_channels / groups);
        // Of a grouped convolution, a tile covers whole groups and multiplies by zeros between them: narrow tiles do less
        // of that.
        let panel = if groups > 1 && group_out < set.panel() { set.panel().min(BLOCK) } else { set.panel() };
        let panels = out_channels.div_ceil(panel);
        let columns = panel / set.lanes();
        let channels_of = |panel_index: usize| {
            let first = panel_index * panel;
            let last = (first + panel).min(out_channels) - 1;
            first / group_out * group_in..(last / group_out + 1) * group_in
        };
        let first_blocks: Vec<usize> = (0..panels).map(|panel| channels_of(panel).start / BLOCK).collect();
        let blocks = (0..panels).map(|panel| channels_of(panel).end.div_ceil(BLOCK) - channels_of(panel).start / BLOCK);
        let blocks = blocks.max().expect("a convolution has output channels");

        let access = if image { Access::Colours } else { Access::Channels };
        let depth = if image { COLOURS } else { blocks * BLOCK };
        let mut packed = Buffer::zeroed(panels * kernel * kernel * depth * panel);
        for (index, packed) in packed.chunks_exact_mut(kernel * kernel * depth * panel).enumerate() {
            let channels = channels_of(index);
            let first_channel = if image { 0 } else { first_blocks[index] * BLOCK };
            for tap in 0..kernel * kernel {
                for channel in channels.clone() {
                    let row = tap * depth + channel - first_channel;
                    for column in 0..panel.min(out_channels - index * panel) {
                        let out = index * panel + column;
                        let first_of_group = out / group_out * group_in;
                        if (first_of_group..first_of_group + group_in).contains(&channel) {
                            let at = (out * group_in + channel - first_of_group) * kernel * kernel + tap;
                            packed[row * panel + column] = weight[at];
                        }
                    }
                }
            }
        }
        Weights { packed, access, stride, kernel, padding, blocks, first_blocks, panel, columns }
    }

    /// The same for products in bf16. The set has to have pairs.
    pub fn pack_pairs(weight: &[f32], layer: &architecture::Convolution, set: InstructionSet) -> Self {
        assert!(set.has_pairs());
        let weights = Weights::pack(weight, layer, false, set);
        let packed = precision::pair_rows(&weights.packed, weights.panel);
        Weights { packed, access: Access::Pairs, ..weights }
    }

    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.access {
            Access::Channels | Access::Colours => Algorithm::Matrix,
            Access::Pairs => Algorithm::MatrixBf16,
        }
    }

    /// Multiply-adds for an output.
    pub fn products(&self, output: &Blocked) -> usize {
        output.pixels() * self.packed.len() * self.values_of_a_word()
    }

    /// Values in a word, 32 bits of weights or inputs.
    fn values_of_a_word(&self) -> usize {
        match self.access {
            Access::Channels | Access::Colours => 1,
            Access::Pairs => 2,
        }
    }

    fn panels(&self) -> usize {
        self.first_blocks.len()
    }
}

/// How a value of one shape is cut into tiles and tasks.
pub struct Schedule {
    runs: Vec<usize>,
    lines: Lines,
    tiles_of_a_line: usize,
    /// Pieces that tiles and panels are cut into; a task is one piece of each.
    tile_pieces: usize,
    panel_pieces: usize,
    /// From a block of input channels to the next.
    plane: usize,
}

/// Rows of pixels that tiles do not cross, since the pixels of a tile lie at one distance from each other.
struct Lines {
    count: usize,
    length: usize,
    /// Lines of an image.
    of_an_image: usize,
    /// Where the first line's inputs begin.
    start: usize,
    image: usize,
    pitch: usize,
}

impl Schedule {
    /// For a value in blocks.
    pub fn new(
        weights: &Weights,
        input: &Blocked,
        output: &Blocked,
        residual: Option<&Blocked>,
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let Weights { kernel, stride, padding, .. } = *weights;
        // Offsets are multiples of a block.
        let words = |values: usize| values / weights.values_of_a_word();
        let inset = input.border - padding;
        let taps = (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x)));
        let runs = taps.flat_map(|(y, x)| (0..weights.blocks).map(move |block| (block, y, x)));
        let runs = runs.map(|(block, y, x)| words(block * input.plane() + y * input.pitch() + x * BLOCK)).collect();
        let mut borders = [Some(input), Some(output), residual].into_iter().flatten().map(|shape| shape.border);
        let lines = if kernel == 1 && stride == 1 && borders.all(|border| border == 0) {
            // All pixels of the batch lie in one row.
            Lines { count: 1, length: output.pixels(), of_an_image: 1, start: 0, image: 0, pitch: 0 }
        } else {
            Lines {
                count: output.batch * output.height,
                length: output.width,
                of_an_image: output.height,
                start: words(input.offset(0, inset, inset)),
                image: words(input.image()),
                pitch: words(stride * input.pitch()),
            }
        };
        let pixel_bytes = words(weights.blocks * BLOCK) * stride * stride * F32;
        Schedule::cut(weights, runs, lines, words(input.plane()), pixel_bytes, set, threads)
    }

    /// For an image.
    pub fn for_image(weights: &Weights, input: &Image, output: &Blocked, set: InstructionSet, threads: usize) -> Self {
        let runs = (0..weights.kernel).map(|y| y * input.pitch()).collect();
        let lines = Lines {
            count: output.batch * output.height,
            length: output.width,
            of_an_image: output.height,
            start: 0,
            image: input.image(),
            pitch: weights.stride * input.pitch(),
        };
        let pixel_bytes = COLOURS * weights.stride * weights.stride * F32;
        Schedule::cut(weights, runs, lines, 0, pixel_bytes, set, threads)
    }

    fn cut(
        weights: &Weights,
        runs: Vec<usize>,
        lines: Lines,
        plane: usize,
        pixel_bytes: usize,
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let tiles_of_a_line = lines.length.div_ceil(set.rows());
        let tiles = lines.count * tiles_of_a_line;
        let wanted = TASKS * threads;
        // Inputs of a task stay in the cache while panel after panel of the weights passes by.
        let mut tile_pieces = (lines.count * lines.length * pixel_bytes).div_ceil(CACHE).min(tiles);
        let mut panel_pieces = 1;
        if weights.packed.len() * F32 > CACHE {
            panel_pieces = wanted.div_ceil(tile_pieces).min(weights.panels());
        }
        tile_pieces = tile_pieces.max(wanted.div_ceil(panel_pieces).min(tiles));
        Schedule { runs, lines, tiles_of_a_line, tile_pieces, panel_pieces, plane }
    }

    /// Values of memory shared by all threads, for a convolution of an input.
    pub fn shared(weights: &Weights, input: &Blocked) -> usize {
        match weights.access {
            Access::Channels | Access::Colours => 0,
            Access::Pairs => input.len() / weights.values_of_a_word(),
        }
    }
}

/// One convolution, ready to run.
pub struct Convolution<'a> {
    pub weights: &'a Weights,
    pub schedule: &'a Schedule,
    /// With a border of at least the padding.
    pub input: &'a [f32],
    pub epilogue: Epilogue<'a>,
}

impl Convolution<'_> {
    /// `shared` has room for [`Schedule::shared`] values.
    pub fn run(&self, set: InstructionSet, threads: &Threads, shared: &mut [f32]) {
        let input = match self.weights.access {
            Access::Channels | Access::Colours => self.input,
            Access::Pairs => {
                precision::round(self.input, shared, set, threads);
                shared
            }
        };
        let convolution = &Convolution { input, ..*self };
        let Schedule { ref lines, tiles_of_a_line, tile_pieces, panel_pieces, .. } = *self.schedule;
        let tiles = lines.count * tiles_of_a_line;
        self.epilogue.check(self.weights.panels() * self.weights.panel);
        assert_eq!(lines.count * lines.length, self.epilogue.shape.pixels());
        threads.for_each(tile_pieces * panel_pieces, |task| {
            set.run(Task {
                convolution,
                tiles: piece(tiles, tile_pieces, task % tile_pieces),
                panels: piece(self.weights.panels(), panel_pieces, task / tile_pieces),
            });
        });
    }
}

/// Some panels of some tiles.
struct Task<'a> {
    convolution: &'a Convolution<'a>,
    tiles: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Convolution { weights, schedule, input, epilogue } = *self.convolution;
        let Schedule { ref runs, ref lines, tiles_of_a_line, .. } = *schedule;
        let depth = weights.packed.len() / weights.panels();
        for panel in self.panels {
            let packed = &weights.packed[panel * depth..][..depth];
            let plane = weights.first_blocks[panel] * schedule.plane;
            for tile in self.tiles.clone() {
                let ahead = Ahead::new(depth, weights.panel, tile - self.tiles.start, self.tiles.len());
                let (line, part) = (tile / tiles_of_a_line, tile % tiles_of_a_line);
                let pixels = piece(lines.length, tiles_of_a_line, part);
                let (image, y) = (line / lines.of_an_image, line % lines.of_an_image);
                let origin = plane + lines.start + image * lines.image + y * lines.pitch;
                let offset =
                    |shape: &Blocked| shape.offset(image, y + shape.border, shape.border) + pixels.start * BLOCK;
                let (at, residual_at) =
                    (offset(epilogue.shape), epilogue.residual.map_or(0, |(_, shape)| offset(shape)));
                let finish = Pixels { epilogue, channel: panel * weights.panel, at, residual_at };
                let operands = Operands { input, origin, runs, weights: packed, ahead };
                multiply(simd, weights, pixels, operands, finish);
            }
        }
    }
}

/// A tile of sums of the shape that the weights are packed for: some pixels of a line.
#[inline(always)]
fn multiply<S: Simd>(simd: S, by: &Weights, pixels: Range<usize>, line: Operands, finish: Pixels) {
    macro_rules! tile {
        ($columns:literal, $step:expr, $run:expr, $pairs:literal) => {{
            let operands = Operands { origin: line.origin + pixels.start * $step, ..line };
            with_rows!(pixels.len(), ROWS => {
                simd.vectorize(Tile::<_, ROWS, $columns, { $step }, { $run }, $pairs> { operands, finish })
            })
        }};
    }
    macro_rules! columns {
        ($step:expr, $run:expr, $pairs:literal) => {
            match by.columns {
                1 => tile!(1, $step, $run, $pairs),
                2 => tile!(2, $step, $run, $pairs),
                4 => tile!(4, $step, $run, $pairs),
                columns => unreachable!("tiles of {columns} vectors"),
            }
        };
    }
    match (by.access, by.kernel, by.stride) {
        (Access::Channels, _, 1) => columns!(BLOCK, BLOCK, false),
        (Access::Channels, _, 2) => columns!(2 * BLOCK, BLOCK, false),
        (Access::Pairs, _, 1) if S::PAIRS => columns!(BLOCK / 2, BLOCK / 2, true),
        (Access::Pairs, _, 2) if S::PAIRS => columns!(BLOCK, BLOCK / 2, true),
        (Access::Colours, 7, 2) => columns!(2 * COLOURS, 7 * COLOURS, false),
        (Access::Colours, 7, 1) => columns!(COLOURS, 7 * COLOURS, false),
        (Access::Colours, 3, 1) => columns!(COLOURS, 3 * COLOURS, false),
        (Access::Pairs, ..) => unreachable!("weights are packed as pairs where the set has them"),
        (_, kernel, stride) => unreachable!("no architecture has a convolution of {kernel}x{kernel} / {stride} here"),
    }
}
