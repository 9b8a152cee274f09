//! Outputs of single modules, as forward hooks on torchvision's network see them if they copy the output before an
//! in-place ReLU overwrites it.

use super::{ConvNorm, ResNet, Residual};
use crate::architecture::{Architecture, Convolution, ResidualBlock, StemLayers};
use crate::plan::Stage;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

impl ResNet {
    /// Computes stem and stages for normalised images `[batch, 3, height, width]` in f32, and calls `visit` with the name
    /// and the output `[batch, channels, height, width]` of each of [`Architecture::module_names`], in their order.
    ///
    /// `architecture` must be the one that the network was created with. As in [`forward`](Self::forward), batch norms
    /// use the running statistics unless the network is on an autodiff device.
    pub fn visit_modules(
        &self,
        architecture: &Architecture,
        images: Tensor<4>,
        mut visit: impl FnMut(&str, &Tensor<4>),
    ) {
        let StemLayers { convolution, .. } = architecture.stem();
        let mut value = relu(self.stem.visit_modules(&convolution, images, &mut visit));
        visit("relu", &value);
        if let Some(pool) = &self.max_pool {
            value = pool.forward(value);
            visit("maxpool", &value);
        }
        for ((stage, layers), blocks) in Stage::ALL.into_iter().zip(architecture.stages()).zip(&self.stages) {
            for (layers, block) in layers.iter().zip(blocks) {
                value = block.visit_modules(layers, value, &mut visit);
            }
            visit(&stage.to_string(), &value);
        }
    }
}

impl ConvNorm {
    fn visit_modules(
        &self,
        layer: &Convolution,
        input: Tensor<4>,
        visit: &mut impl FnMut(&str, &Tensor<4>),
    ) -> Tensor<4> {
        let output = self.conv.forward(input);
        visit(&layer.name, &output);
        let output = self.norm.forward(output);
        visit(&layer.norm, &output);
        output
    }
}

impl Residual {
    fn visit_modules(
        &self,
        layers: &ResidualBlock,
        input: Tensor<4>,
        visit: &mut impl FnMut(&str, &Tensor<4>),
    ) -> Tensor<4> {
        let mut inner = input.clone();
        for (index, (layer, module)) in layers.convolutions.iter().zip(&self.convolutions).enumerate() {
            // A ReLU follows all but the last one, whose output is first added to the shortcut.
            inner = if index > 0 { relu(inner) } else { inner };
            inner = module.visit_modules(layer, inner, visit);
        }
        let shortcut = match (&layers.downsample, &self.downsample) {
            (Some(layer), Some(module)) => {
                let shortcut = module.visit_modules(layer, input, visit);
                visit(&format!("{}.downsample", layers.name), &shortcut);
                shortcut
            }
            _ => input,
        };
        let output = relu(inner + shortcut);
        visit(&layers.name, &output);
        output
    }
}
