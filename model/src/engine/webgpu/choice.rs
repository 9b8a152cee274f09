//! Which kernel computes which convolution: by a table over adapters and a formula over shapes, never by timing.

pub use super::super::AdapterKind;
use super::super::winograd::Scheme;
use super::planes::{BLOCK, Planes};
use super::shaders::{Code, SIDE, Slices, Tiling, input_blocks};
use super::steps::Winograd;
use super::storage::Storage;
use crate::architecture::Convolution;
use std::cmp::Reverse;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub family: Family,
    /// Pixels of an invocation: neighbours in a row, or `SIDE` apart.
    pub pixels: usize,
    /// Blocks of four output channels of an invocation.
    pub columns: usize,
    /// Invocations along output blocks, along tiles of pixels; `Family::Tiled` always has `[SIDE, SIDE]`.
    pub workgroup: [usize; 2],
    /// The input channels are cut into so many pieces, whose sums a second dispatch adds up.
    pub pieces: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Values come out of caches.
    Direct,
    /// Values come out of workgroup memory.
    Tiled,
}

impl AdapterKind {
    /// Multiply-adds of a submission: enough for a GPU to be busy, few enough for the weakest GPU of the kind to be done
    /// well within a second, so that no watchdog minds and the screen is drawn. Nothing watches an emulated one.
    pub fn multiply_adds_of_a_submission(self) -> u64 {
        match self {
            AdapterKind::Software | AdapterKind::Direct => 16 << 30,
            AdapterKind::Tiled => 64 << 30,
        }
    }

    /// Lanes of a middling one of the kind: 128 by core of Apple's and NVIDIA's GPUs, and from 8 to 64 of them; 4 or 8 of a
    /// processor's cores, of which there are a few.
    fn lanes(self) -> f64 {
        match self {
            AdapterKind::Software => 16.0,
            AdapterKind::Direct => 2048.0,
            AdapterKind::Tiled => 8192.0,
        }
    }

    /// How kernels are written for it.
    pub fn code(self) -> Code {
        match self {
            AdapterKind::Software => Code::Shared,
            AdapterKind::Direct | AdapterKind::Tiled => Code::Specialised,
        }
    }

    /// What it costs to have four values written to memory or read from there, which all lanes share; in multiply-adds of a
    /// lane.
    fn memory(self) -> f64 {
        let of_all_lanes = match self {
            AdapterKind::Software => 50.0,
            AdapterKind::Direct | AdapterKind::Tiled => 100.0,
        };
        of_all_lanes / self.lanes()
    }
}

/// Tiles of an invocation in the order of preference, pixels by columns: the more products for each value read, the better.
pub const DIRECT_TILES: [(usize, usize); 6] = [(8, 2), (7, 2), (4, 2), (4, 1), (2, 1), (1, 1)];
pub const TILED_TILES: [(usize, usize); 6] = [(8, 2), (4, 2), (8, 1), (4, 1), (2, 2), (2, 1)];
/// Pieces that input channels are cut into.
pub const PIECES: [usize; 5] = [1, 2, 4, 8, 16];

/// Pixels of a batch from which on tiles of workgroup memory are filled.
const TILED_PIXELS: usize = 16;

/// Blocks of sums of an invocation of `Family::Direct` for which every GPU has registers: with the inputs and weights beside
/// them, those of Intel's and ARM's are full.
const SUMS: usize = 8;

// What things cost, in multiply-adds of a lane: orders of magnitude from what vendors say of clocks and bandwidths.

/// A read of four values through the caches.
const CACHE_READ: f64 = 8.0;
/// A read of four values from workgroup memory.
const TILE_READ: f64 = 4.0;
/// What passes until a value that was asked for is there.
const LATENCY: f64 = 400.0;
/// A further dispatch, which waits for the one before it: some 15 microseconds.
const DISPATCH: f64 = 20_000.0;

impl Choice {
    /// For a layer with outputs `to`.
    pub fn new(kind: AdapterKind, layer: &Convolution, to: &Planes) -> Self {
        let pixels = to.batch * to.height * to.width;
        match kind {
            AdapterKind::Software => largest(layer, to),
            AdapterKind::Tiled if Slices::of(layer).is_some() && pixels >= TILED_PIXELS => {
                cheapest(kind, tiled(layer).into_iter(), layer, to)
            }
            AdapterKind::Tiled | AdapterKind::Direct => cheapest(kind, out_of_caches(layer, to), layer, to),
        }
    }

    /// For the products of Winograd's points `to`: in one piece, since nothing adds up several, and there are many points.
    /// Where layers share kernels, they share this one: tiles of all images lie in one long row, at whose end little is lost.
    pub fn of_points(kind: AdapterKind, layer: &Convolution, to: &Planes) -> Self {
        match kind {
            AdapterKind::Software => direct(layer, to, [4, 16])[0],
            AdapterKind::Direct | AdapterKind::Tiled => {
                let candidates = out_of_caches(layer, to).filter(|choice| choice.pieces == 1);
                cheapest(kind, candidates, layer, to)
            }
        }
    }

    /// Words for it: the outputs of an invocation in pixels by channels, or those of a workgroup, and how often it is split.
    pub fn describe(&self) -> String {
        let (name, side) = match self.family {
            Family::Direct => ("direct", 1),
            Family::Tiled => ("tiled", SIDE),
        };
        let words = format!("{name} {}x{}", self.pixels * side, self.columns * BLOCK * side);
        match self.pieces {
            1 => words,
            pieces => format!("{words} split {pieces}"),
        }
    }

    /// An estimate of the time: an invocation takes its time even if it is the only one, and invocations for which there are no
    /// lanes wait.
    fn cost(&self, kind: AdapterKind, layer: &Convolution, to: &Planes) -> f64 {
        let [pixels, columns, pieces] = [self.pixels, self.columns, self.pieces].map(|count| count as f64);
        let products = (4 * BLOCK) as f64 * pixels * columns;
        let kernel = layer.kernel as f64;
        let blocks = input_blocks(layer) as f64 / pieces;
        let (iterations, instructions, least, invocations) = match self.family {
            Family::Direct => {
                let inputs = if layer.kernel == 1 { pixels } else { (pixels - 1.0) * layer.stride as f64 + kernel };
                let reads = inputs + 4.0 * columns * kernel;
                let instructions = products * kernel + CACHE_READ * reads;
                let tiles = to.batch * to.height * to.width.div_ceil(self.pixels) * to.blocks() / self.columns;
                (kernel * blocks, instructions, instructions + LATENCY, tiles)
            }
            Family::Tiled => {
                let slices = Slices::of(layer).expect("candidates have them");
                let depth = slices.depth(layer) as f64;
                let side = SIDE as f64;
                let instructions = depth
                    * (products + TILE_READ * (pixels + 4.0 * columns) + CACHE_READ * (pixels + 4.0 * columns) / side);
                let tiles = (to.batch * to.height * to.width).div_ceil(SIDE * self.pixels)
                    * to.blocks().div_ceil(SIDE * self.columns);
                // Reads ahead.
                let least = instructions.max(LATENCY);
                (kernel * kernel * blocks / depth, instructions, least, tiles * SIDE * SIDE)
            }
        };
        let turns = invocations as f64 * pieces / kind.lanes();
        let sums = (to.batch * to.height * to.width * to.blocks()) as f64;
        let adding = match self.pieces {
            1 => 0.0,
            _ => DISPATCH + kind.memory() * sums * (2.0 * pieces + 1.0),
        };
        iterations * least.max(instructions * turns) + adding
    }
}

/// Those out of caches for which a GPU has the registers.
fn out_of_caches(layer: &Convolution, to: &Planes) -> impl Iterator<Item = Choice> {
    direct(layer, to, [16, 64]).into_iter().filter(|choice| choice.pixels * choice.columns <= SUMS)
}

fn cheapest(kind: AdapterKind, candidates: impl Iterator<Item = Choice>, layer: &Convolution, to: &Planes) -> Choice {
    let costs = candidates.map(|choice| (choice.cost(kind, layer, to), choice));
    costs.min_by(|(a, _), (b, _)| a.total_cmp(b)).expect("the smallest tile always fits").1
}

/// By which tiles of Winograd's a layer with outputs `to` is computed, if that pays and no buffer of weights would be larger
/// than the largest.
pub fn scheme(
    kind: AdapterKind,
    storage: Storage,
    largest_buffer: u64,
    layer: &Convolution,
    to: &Planes,
) -> Option<Scheme> {
    let filters = [layer.kernel, layer.stride, layer.padding, layer.groups] == [3, 1, 1, 1];
    let tiles: &[usize] = match kind {
        AdapterKind::Software => &[4, 2],
        // The transforms of larger ones take more registers than such GPUs have.
        AdapterKind::Direct => &[2],
        // In workgroup memory, a tile of pixels would reach over points.
        AdapterKind::Tiled => &[],
    };
    // Halves are too short for transformed weights.
    if !filters || storage != Storage::F32 {
        return None;
    }
    let matrix = (input_blocks(layer) * BLOCK * to.blocks() * BLOCK * storage.weights().bytes()) as u64;
    let schemes = tiles.iter().map(|&tile| Scheme { tile, stride: 1 });
    let schemes = schemes.filter(|scheme| (scheme.matrices() as u64 + 1) * matrix <= largest_buffer);
    let costs = schemes.map(|scheme| (filtering(kind, scheme, layer, to), Some(scheme)));
    let whole = Choice::new(kind, layer, to).cost(kind, layer, to) + weights(kind, layer, layer.kernel * layer.kernel);
    costs.fold((whole, None), |best, next| if next.0 < best.0 { next } else { best }).1
}

/// An estimate of the time by Winograd's filtering.
fn filtering(kind: AdapterKind, scheme: Scheme, layer: &Convolution, to: &Planes) -> f64 {
    let Winograd { products, .. } = Winograd::new(scheme, layer);
    let [values, sums] = Tiling::new(scheme, to).points(layer);
    let [values, sums_of_points] = [values, sums].map(|planes| (planes.batch * planes.image()) as f64);
    Choice::of_points(kind, &products, &sums).cost(kind, &products, &sums)
        + weights(kind, layer, scheme.matrices())
        + 2.0 * DISPATCH
        // That the products read the values is among their cost.
        + kind.memory() * (values + 2.0 * sums_of_points)
}

/// An estimate of the time in which weights are read, so many for each pair of channels.
fn weights(kind: AdapterKind, layer: &Convolution, matrices: usize) -> f64 {
    kind.memory() * (matrices * input_blocks(layer) * layer.out_channels) as f64
}

/// All ways to compute a layer out of caches, `[x, all]` being the largest workgroup's invocations along output blocks and
/// in all.
pub fn direct(layer: &Convolution, to: &Planes, [x, all]: [usize; 2]) -> Vec<Choice> {
    let blocks = to.blocks();
    // Columns of a tile share their inputs, and lie apart by an equal share of the blocks.
    let fits = |&(pixels, columns): &(usize, usize)| {
        pixels <= to.width && (columns == 1 || (layer.groups == 1 && blocks.is_multiple_of(columns)))
    };
    let with = |(pixels, columns): (usize, usize)| {
        let x = x.min((blocks / columns).next_power_of_two());
        Choice { family: Family::Direct, pixels, columns, workgroup: [x, all / x], pieces: 1 }
    };
    in_pieces(DIRECT_TILES.into_iter().filter(fits).map(with), input_blocks(layer))
}

/// All ways to compute a layer out of workgroup memory.
pub fn tiled(layer: &Convolution) -> Vec<Choice> {
    let Some(slices) = Slices::of(layer) else { return Vec::new() };
    let with =
        |(pixels, columns)| Choice { family: Family::Tiled, pixels, columns, workgroup: [SIDE, SIDE], pieces: 1 };
    in_pieces(TILED_TILES.into_iter().map(with), input_blocks(layer) / slices.blocks())
}

/// Each cut into as many pieces as `blocks` can be.
fn in_pieces(choices: impl Iterator<Item = Choice>, blocks: usize) -> Vec<Choice> {
    let pieces = PIECES.into_iter().filter(move |&pieces| blocks.is_multiple_of(pieces));
    choices.flat_map(|choice| pieces.clone().map(move |pieces| Choice { pieces, ..choice })).collect()
}

/// Of the largest tiles, 7 and 8 pixels being as good, the one that computes least beyond the rows' ends.
fn largest(layer: &Convolution, to: &Planes) -> Choice {
    let candidates = direct(layer, to, [4, 16]).into_iter().filter(|choice| choice.pieces == 1);
    let size = |choice: &Choice| choice.pixels.min(7) * choice.columns;
    let waste = |choice: &Choice| to.width.next_multiple_of(choice.pixels) - to.width;
    let best = candidates.min_by_key(|choice| (Reverse(size(choice)), waste(choice)));
    best.expect("the smallest tile always fits")
}

#[cfg(test)]
mod tests {
    use super::super::storage::Element;
    use super::*;
    use crate::architecture::Architecture;

    fn chosen(kind: AdapterKind, network: &str, name: &str, [batch, side]: [usize; 2]) -> String {
        let layers = Architecture::new(network, 1000).unwrap().convolutions();
        let layer = layers.iter().find(|layer| layer.name == name).unwrap();
        let to =
            Planes { channels: layer.out_channels, batch, height: side, width: side, border: 0, element: Element::F32 };
        let choice = Choice::new(kind, layer, &to);
        let [x, y] = choice.workgroup;
        assert!(x * y <= 64 && x <= to.blocks().next_power_of_two(), "{x}x{y}");
        choice.describe()
    }

    #[test]
    fn emulated_adapters_get_the_largest_tile_that_fits_the_rows() {
        let of = |name, side| chosen(AdapterKind::Software, "resnet18", name, [1, side]);
        assert_eq!(of("layer1.0.conv1", 56), "direct 8x8");
        assert_eq!(of("layer2.0.conv2", 28), "direct 7x8");
        assert_eq!(of("layer4.0.conv2", 7), "direct 7x8");
        assert_eq!(of("layer4.0.conv2", 2), "direct 2x4");
        assert_eq!(chosen(AdapterKind::Software, "resnext50_32x4d", "layer1.0.conv2", [1, 56]), "direct 4x4");
    }

    #[test]
    fn gpus_get_smaller_tiles_and_pieces_where_there_is_little_to_compute() {
        let of = |name, batch, side| chosen(AdapterKind::Direct, "resnet18", name, [batch, side]);
        assert_eq!(of("layer1.0.conv1", 8, 56), "direct 4x8");
        assert_eq!(of("layer1.0.conv1", 1, 56), "direct 4x8");
        assert!(of("layer4.0.conv2", 1, 7).contains(" split "));

        let of = |name, batch, side| chosen(AdapterKind::Tiled, "resnet18", name, [batch, side]);
        assert_eq!(of("layer1.0.conv1", 8, 56), "tiled 64x64");
        assert_eq!(of("layer1.0.conv1", 1, 56), "tiled 32x32");
        assert!(of("layer4.0.conv2", 1, 7).contains(" split "));
        assert_eq!(of("layer4.0.conv2", 32, 7), "tiled 64x64");
    }

    #[test]
    fn winograds_tiles_are_as_large_as_weights_allow_where_products_are_dear() {
        let of = |kind, storage, name, side: usize| {
            let layers = Architecture::new("resnet18", 1000).unwrap().convolutions();
            let layer = layers.iter().find(|layer| layer.name == name).unwrap();
            let (channels, element) = (layer.out_channels, Element::F32);
            let to = Planes { channels, batch: 1, height: side, width: side, border: 0, element };
            scheme(kind, storage, 128 << 20, layer, &to).map(|scheme| scheme.tile)
        };
        let layers = [("layer1.0.conv1", 56), ("layer2.0.conv2", 28), ("layer3.0.conv2", 14), ("layer4.0.conv2", 7)];
        let all = |kind, storage| layers.map(|(name, side)| of(kind, storage, name, side));
        assert_eq!(all(AdapterKind::Software, Storage::F32), [Some(4), Some(4), Some(4), Some(2)]);
        assert_eq!(all(AdapterKind::Software, Storage::F16), [None; 4]);
        assert_eq!(all(AdapterKind::Tiled, Storage::F32), [None; 4]);
        assert_eq!(all(AdapterKind::Direct, Storage::F32), [None, None, Some(2), None]);
        assert_eq!(of(AdapterKind::Software, Storage::F32, "layer2.0.conv1", 28), None);
        assert_eq!(of(AdapterKind::Software, Storage::F32, "conv1", 112), None);
    }

    #[test]
    fn groups_and_single_pixels_come_out_of_caches() {
        let groups = chosen(AdapterKind::Tiled, "resnext50_32x4d", "layer1.0.conv2", [1, 56]);
        assert!(groups.starts_with("direct"), "{groups}");
        let pixel = chosen(AdapterKind::Tiled, "resnet18", "layer4.0.conv2", [1, 1]);
        assert!(pixel.starts_with("direct"), "{pixel}");
    }
}
