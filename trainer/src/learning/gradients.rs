//! Gradient buckets: the gradients of all parameters, flattened into a few long tensors that are accumulated, scaled
//! and reduced as a whole.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Tensor};
use model::network::ResNet;
use std::ops::Range;

/// Maximum number of f32 values in a bucket (4 MiB), unless a single parameter has more.
const BUCKET_VALUES: usize = 1 << 20;

/// Position of the gradient of each trained parameter in the buckets.
#[derive(Clone, Debug)]
pub struct BucketLayout {
    /// One slice per parameter, in the order of the module.
    slices: Vec<GradientSlice>,
    /// Number of values in each bucket.
    bucket_sizes: Vec<usize>,
}

/// Range of a bucket that holds the gradient of a parameter.
#[derive(Clone, Debug)]
struct GradientSlice {
    id: ParamId,
    bucket: usize,
    range: Range<usize>,
}

impl BucketLayout {
    /// Assigns buckets to the parameters of `network` whose names satisfy `is_trained`.
    pub fn new(network: &ResNet, is_trained: impl Fn(&str) -> bool) -> Self {
        let mut parameters = TrainedParameters { path: Vec::new(), is_trained, sizes: Vec::new() };
        network.visit(&mut parameters);
        let (mut slices, mut bucket_sizes) = (Vec::new(), vec![0]);
        for (id, size) in parameters.sizes {
            let last = *bucket_sizes.last().expect("there is a bucket");
            if last > 0 && last + size > BUCKET_VALUES {
                bucket_sizes.push(0);
            }
            let bucket = bucket_sizes.len() - 1;
            slices.push(GradientSlice { id, bucket, range: bucket_sizes[bucket]..bucket_sizes[bucket] + size });
            bucket_sizes[bucket] += size;
        }
        BucketLayout { slices, bucket_sizes }
    }

    /// Copies the gradients of a backward pass through `network` into buckets.
    ///
    /// # Panics
    /// Panics if a parameter has no gradient.
    pub fn flatten(&self, gradients: Gradients, network: &ResNet) -> Vec<Tensor<1>> {
        let ids: Vec<ParamId> = self.slices.iter().map(|slice| slice.id).collect();
        let mut gradients = gradients;
        let mut visitor = FlattenGradients {
            gradients: GradientsParams::from_params(&mut gradients, network, &ids),
            flat: Vec::new(),
        };
        network.visit(&mut visitor);
        assert_eq!(visitor.flat.len(), self.slices.len(), "every parameter has a gradient");
        let mut flat = visitor.flat.into_iter();
        let bucket = |index: usize| {
            let count = self.slices.iter().filter(|slice| slice.bucket == index).count();
            Tensor::cat(flat.by_ref().take(count).collect(), 0)
        };
        (0..self.bucket_sizes.len()).map(bucket).collect()
    }

    /// Returns, for each gradient in the buckets, 0 if it is that of a weight of a convolution that is zero, otherwise 1.
    pub fn nonzero_masks(&self, network: &ResNet) -> Vec<Tensor<1>> {
        let mut visitor = NonzeroMasks { layout: self, next: 0, buckets: vec![Vec::new(); self.bucket_sizes.len()] };
        network.visit(&mut visitor);
        visitor.buckets.into_iter().map(|masks| Tensor::cat(masks, 0)).collect()
    }

    /// Returns buckets of zeros, for a step without any images.
    pub fn zeros(&self, device: &Device) -> Vec<Tensor<1>> {
        self.bucket_sizes.iter().map(|&size| Tensor::zeros([size], device)).collect()
    }

    /// Converts buckets to the gradients that an optimiser takes.
    pub fn unflatten(&self, buckets: &[Tensor<1>], network: &ResNet) -> GradientsParams {
        let mut visitor = UnflattenGradients { layout: self, buckets, next: 0, gradients: GradientsParams::new() };
        network.visit(&mut visitor);
        visitor.gradients
    }
}

/// Collects the identifiers and sizes of the parameters that are trained.
struct TrainedParameters<F> {
    path: Vec<String>,
    is_trained: F,
    sizes: Vec<(ParamId, usize)>,
}

impl<F: Fn(&str) -> bool> ModuleVisitor for TrainedParameters<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() && (self.is_trained)(&self.path.join(".")) {
            self.sizes.push((param.id, param.val().shape().num_elements()));
        }
    }
}

/// Collects the gradients of all visited parameters as 1-dimensional tensors.
struct FlattenGradients {
    gradients: GradientsParams,
    flat: Vec<Tensor<1>>,
}

impl ModuleVisitor for FlattenGradients {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.flat.push(gradient.reshape([-1]));
        }
    }
}

/// Computes the masks of the visited parameters.
struct NonzeroMasks<'a> {
    layout: &'a BucketLayout,
    next: usize,
    buckets: Vec<Vec<Tensor<1>>>,
}

impl ModuleVisitor for NonzeroMasks<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(slice) = self.layout.slices.get(self.next).filter(|slice| slice.id == param.id) else { return };
        self.next += 1;
        let values = param.val().without_autodiff().reshape([-1]);
        // Only the weights of convolutions have four dimensions.
        let mask = if D == 4 { values.not_equal_elem(0.0).float() } else { values.ones_like() };
        self.buckets[slice.bucket].push(mask);
    }
}

/// Cuts the gradient of each visited parameter out of the buckets and restores its shape.
struct UnflattenGradients<'a> {
    layout: &'a BucketLayout,
    buckets: &'a [Tensor<1>],
    next: usize,
    gradients: GradientsParams,
}

impl ModuleVisitor for UnflattenGradients<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(slice) = self.layout.slices.get(self.next).filter(|slice| slice.id == param.id) else { return };
        self.next += 1;
        let gradient = self.buckets[slice.bucket].clone().slice(slice.range.clone());
        self.gradients.register(param.id, gradient.reshape(param.val().dims()));
    }
}
