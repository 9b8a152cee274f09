//! Which algorithm computes which convolution: a table, so that a model answers the same on every run.
//!
//! Winograd's larger tiles multiply less and their weights weigh more: 4, 2.8 and 1.8 times as much for tiles of 4, 3 and
//! 2. Where an image is small, every weight is read from memory for a handful of pixels, and its bytes cost more than
//! multiplications. ResNets have their widest layers on their smallest images, so the channels decide.

use crate::architecture;

/// Packed weights take at most this many times the bytes of the fp32 weights.
const LIMIT: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A matrix product, tap by tap.
    Matrix,
    /// Winograd with tiles of this side.
    Winograd(usize),
}

impl Algorithm {
    fn of(layer: &architecture::Convolution) -> Algorithm {
        let channels = layer.in_channels.max(layer.out_channels);
        match (layer.kernel, layer.stride, layer.groups, layer.in_channels) {
            (3, 1, 1, 16..) if channels <= 128 => Algorithm::Winograd(4),
            (3, 1, 1, 16..) if channels <= 256 => Algorithm::Winograd(3),
            (3, 1, 1, 16..) => Algorithm::Winograd(2),
            _ => Algorithm::Matrix,
        }
    }

    /// The next one with lighter weights.
    fn lighter(self) -> Option<Algorithm> {
        match self {
            Algorithm::Matrix => None,
            Algorithm::Winograd(2) => Some(Algorithm::Matrix),
            Algorithm::Winograd(tile) => Some(Algorithm::Winograd(tile - 1)),
        }
    }

    fn weights(self, layer: &architecture::Convolution) -> usize {
        let [out_channels, in_channels, kernel, _] = layer.weight_shape();
        let points = match self {
            Algorithm::Matrix => kernel * kernel,
            Algorithm::Winograd(tile) => (tile + 2) * (tile + 2),
        };
        out_channels * in_channels * points
    }
}

/// An algorithm for each convolution: the table's, and lighter ones for the heaviest layers while all weights together
/// are too heavy.
pub fn choose(layers: &[&architecture::Convolution]) -> Vec<Algorithm> {
    let mut chosen: Vec<Algorithm> = layers.iter().map(|layer| Algorithm::of(layer)).collect();
    let limit = LIMIT * layers.iter().map(|layer| Algorithm::Matrix.weights(layer)).sum::<usize>();
    loop {
        let weights = || chosen.iter().zip(layers).map(|(algorithm, layer)| algorithm.weights(layer));
        if weights().sum::<usize>() <= limit {
            return chosen;
        }
        let candidates = chosen.iter().zip(weights()).enumerate().filter(|(_, (chosen, _))| chosen.lighter().is_some());
        // The last of the heaviest: its image is the smallest.
        let heaviest = candidates.max_by_key(|(_, (_, weights))| *weights).map(|(index, _)| index);
        let heaviest = heaviest.expect("without Winograd the weights weigh what they weigh");
        chosen[heaviest] = chosen[heaviest].lighter().expect("just filtered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;

    #[test]
    fn packed_weights_take_at_most_twice_the_bytes() {
        for name in Architecture::names() {
            let layers = Architecture::new(&name, 1000).unwrap().convolutions();
            let layers: Vec<_> = layers.iter().collect();
            let chosen = choose(&layers);
            let packed: usize = chosen.iter().zip(&layers).map(|(algorithm, layer)| algorithm.weights(layer)).sum();
            let plain: usize = layers.iter().map(|layer| Algorithm::Matrix.weights(layer)).sum();
            assert!(packed <= 2 * plain, "{name}: {packed} of {plain}");
            let winograd = chosen.iter().filter(|algorithm| matches!(algorithm, Algorithm::Winograd(_))).count();
            assert_eq!(winograd == 0, name.starts_with("resnext"), "{name}: {winograd} layers by Winograd");
        }
    }
}
