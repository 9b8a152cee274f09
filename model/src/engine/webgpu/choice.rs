//! Which tile computes which convolution: by a table over adapters and a formula over shapes.

use super::planes::Planes;
use crate::architecture::Convolution;

/// What an invocation computes, and how many invocations a workgroup has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Neighbours in a row.
    pub pixels: usize,
    /// Blocks of four output channels.
    pub columns: usize,
    /// Columns of output blocks, tiles.
    pub workgroup: [usize; 2],
}

/// What kind of adapter executes the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapter {
    /// A processor that emulates one: what counts is that every value which is read takes part in many products.
    Software,
    /// What counts as well is that there are enough invocations.
    Gpu,
}

/// Invocations that fill a GPU.
const ENOUGH: usize = 16 << 10;

/// Tiles in the order of preference: the more products for each value read, the better.
const TILES: [(usize, usize); 6] = [(8, 2), (7, 2), (4, 2), (4, 1), (2, 1), (1, 1)];

impl Tile {
    /// For a layer with outputs `to`.
    pub fn choose(adapter: Adapter, layer: &Convolution, to: &Planes) -> Tile {
        let blocks = to.blocks();
        // Columns of a tile share their inputs, and lie apart by an equal share of the blocks.
        let fits = |&(pixels, columns): &(usize, usize)| {
            pixels <= to.width && (columns == 1 || (layer.groups == 1 && blocks.is_multiple_of(columns)))
        };
        let candidates: Vec<_> = TILES.into_iter().filter(fits).collect();
        let (pixels, columns) = match adapter {
            Adapter::Software => largest(&candidates, to),
            Adapter::Gpu => enough(&candidates, to),
        };
        let [x, all] = match adapter {
            Adapter::Software => [4, 16],
            Adapter::Gpu => [16, 64],
        };
        let x = x.min((blocks / columns).next_power_of_two());
        Tile { pixels, columns, workgroup: [x, all / x] }
    }
}

/// Of the largest tiles, 7 and 8 pixels being as good, the one that computes least beyond the rows' ends.
fn largest(candidates: &[(usize, usize)], to: &Planes) -> (usize, usize) {
    let size = |&(pixels, columns): &(usize, usize)| pixels.min(7) * columns;
    let waste = |&(pixels, _): &(usize, usize)| to.width.next_multiple_of(pixels) - to.width;
    let best = candidates.iter().min_by_key(|tile| (std::cmp::Reverse(size(tile)), waste(tile)));
    *best.expect("the smallest tile always fits")
}

/// The first that leaves enough invocations, or the smallest.
fn enough(candidates: &[(usize, usize)], to: &Planes) -> (usize, usize) {
    let invocations =
        |&(pixels, columns): &(usize, usize)| to.batch * to.height * to.width.div_ceil(pixels) * to.blocks() / columns;
    let best = candidates.iter().find(|tile| invocations(tile) >= ENOUGH).or(candidates.last());
    *best.expect("the smallest tile always fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    fn chosen(adapter: Adapter, network: &str, name: &str, [batch, side]: [usize; 2]) -> (usize, usize) {
        let layers = Architecture::new(network, 1000).unwrap().convolutions();
        let layer = layers.iter().find(|layer| layer.name == name).unwrap();
        let to = Planes { channels: layer.out_channels, batch, height: side, width: side, border: 0 };
        let Tile { pixels, columns, workgroup: [x, y] } = Tile::choose(adapter, layer, &to);
        assert!(x * y <= 64 && x <= (to.blocks() / columns).next_power_of_two(), "{x}x{y}");
        (pixels, columns)
    }

    #[test]
    fn emulated_adapters_get_the_largest_tile_that_fits_the_rows() {
        let of = |name, side| chosen(Adapter::Software, "resnet18", name, [1, side]);
        assert_eq!(of("layer1.0.conv1", 56), (8, 2));
        assert_eq!(of("layer2.0.conv2", 28), (7, 2));
        assert_eq!(of("layer4.0.conv2", 7), (7, 2));
        assert_eq!(of("layer4.0.conv2", 2), (2, 1));
        assert_eq!(chosen(Adapter::Software, "resnext50_32x4d", "layer1.0.conv2", [1, 56]), (4, 1));
    }

    #[test]
    fn gpus_get_smaller_tiles_where_there_is_little_to_compute() {
        let of = |name, batch, side| chosen(Adapter::Gpu, "resnet18", name, [batch, side]);
        assert_eq!(of("conv1", 8, 112), (8, 2));
        assert_eq!(of("layer1.0.conv1", 1, 56), (2, 1));
        assert_eq!(of("layer4.0.conv2", 1, 7), (1, 1));
    }
}
