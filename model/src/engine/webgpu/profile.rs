//! A dispatch in numbers, for whoever wants to know where the time goes.

use super::super::{OperationProfile, Precision};
use super::listing::Planned;
use super::planes::Planes;
use super::shaders::{Code, Shader, factor};
use super::storage::Element;
use std::time::Duration;

impl Planned<'_> {
    /// It in a run where it took so long. Its algorithm is called `direct 8x8`, `tiled 64x64 split 4`, `add 4`, `winograd 4x4`,
    /// `normalise` or `pool`: a tile is of pixels by output channels, an invocation's or a workgroup's; Winograd's is of pixels.
    pub fn profile(&self, code: Code, time: Duration) -> OperationProfile {
        let bytes = |values: &[Option<Planes>]| values.iter().flatten().map(Planes::bytes).sum();
        let (algorithm, values, bytes): (_, u64, u64) = match &self.shader {
            Shader::Normalise(to) => {
                ("normalise".to_owned(), bytes(&[Some(*to)]), 3 * (to.batch * to.height * to.width) as u64)
            }
            Shader::Convolution(problem) => {
                let values = [Some(problem.from), Some(problem.written()), problem.residual_read()];
                (problem.choice.describe(), bytes(&values), problem.weight_bytes())
            }
            Shader::AddPieces(problem) => {
                let values = [Some(problem.written()), Some(problem.to), problem.residual];
                (format!("add {}", problem.choice.pieces), bytes(&values), 0)
            }
            Shader::InputTransform { tiling, from } => {
                (tiling.describe(), bytes(&[Some(*from), Some(tiling.planes(from.channels))]), 0)
            }
            Shader::OutputTransform { tiling, problem } => {
                let values = [Some(tiling.planes(problem.to.channels)), Some(problem.to), problem.residual];
                (tiling.describe(), bytes(&values), 0)
            }
            Shader::MaxPool { from, to, .. } => ("pool".to_owned(), bytes(&[Some(*from), Some(*to)]), 0),
            Shader::AveragePool { from, .. } => ("pool".to_owned(), bytes(&[Some(*from)]), 0),
        };
        // Of a layer by Winograd, as it is defined, once.
        let multiply_adds = match &self.shader {
            Shader::Convolution(problem) if problem.points.is_some() => 0,
            Shader::OutputTransform { problem, .. } => problem.multiply_adds(),
            _ => self.products(),
        };
        let weight_bytes = match &self.shader {
            Shader::Convolution(problem) => problem.weight_bytes(),
            _ => 0,
        };
        let precision = match &self.shader {
            Shader::Convolution(problem) if factor(problem, code) == Element::F16 => Precision::F16,
            _ => Precision::F32,
        };
        OperationProfile {
            name: self.layer.to_owned(),
            algorithm,
            precision,
            time,
            multiply_adds,
            products: self.products(),
            weight_bytes,
            moved_bytes: Some(values + bytes),
        }
    }
}
