//! Gradients of all parameters in a few long tensors, which are summed, scaled and sent around at once.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Tensor};
use model::network::ResNet;
use std::ops::Range;

/// f32 values of a bucket, unless a single parameter has more: 4 MiB.
const BUCKET: usize = 1 << 20;

/// Which parameter's gradient lies where.
#[derive(Clone, Debug)]
pub struct Layout {
    /// In the module's order.
    places: Vec<Place>,
    /// Values of each bucket.
    sizes: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Place {
    id: ParamId,
    bucket: usize,
    range: Range<usize>,
}

impl Layout {
    /// For the parameters of `network` whose name `learns`.
    pub fn new(network: &ResNet, learns: impl Fn(&str) -> bool) -> Self {
        let mut survey = Survey { path: Vec::new(), learns, found: Vec::new() };
        network.visit(&mut survey);
        let (mut places, mut sizes) = (Vec::new(), vec![0]);
        for (id, size) in survey.found {
            let last = *sizes.last().expect("there is a bucket");
            if last > 0 && last + size > BUCKET {
                sizes.push(0);
            }
            let bucket = sizes.len() - 1;
            places.push(Place { id, bucket, range: sizes[bucket]..sizes[bucket] + size });
            sizes[bucket] += size;
        }
        Layout { places, sizes }
    }

    /// The buckets of what went backwards through `network`.
    pub fn collect(&self, gradients: Gradients, network: &ResNet) -> Vec<Tensor<1>> {
        let wanted: Vec<ParamId> = self.places.iter().map(|place| place.id).collect();
        let mut gradients = gradients;
        let mut flatten =
            Flatten { gradients: GradientsParams::from_params(&mut gradients, network, &wanted), flat: Vec::new() };
        network.visit(&mut flatten);
        assert_eq!(flatten.flat.len(), self.places.len(), "every parameter has a gradient");
        let mut flat = flatten.flat.into_iter();
        let bucket = |index: usize| {
            let count = self.places.iter().filter(|place| place.bucket == index).count();
            Tensor::cat(flat.by_ref().take(count).collect(), 0)
        };
        (0..self.sizes.len()).map(bucket).collect()
    }

    /// What nothing went backwards through gives.
    pub fn zeros(&self, device: &Device) -> Vec<Tensor<1>> {
        self.sizes.iter().map(|&size| Tensor::zeros([size], device)).collect()
    }

    /// As an optimiser takes them.
    pub fn gradients(&self, buckets: &[Tensor<1>], network: &ResNet) -> GradientsParams {
        let mut shape = Shape { layout: self, buckets, next: 0, gradients: GradientsParams::new() };
        network.visit(&mut shape);
        shape.gradients
    }
}

struct Survey<F> {
    path: Vec<String>,
    learns: F,
    found: Vec<(ParamId, usize)>,
}

impl<F: Fn(&str) -> bool> ModuleVisitor for Survey<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() && (self.learns)(&self.path.join(".")) {
            self.found.push((param.id, param.val().shape().num_elements()));
        }
    }
}

struct Flatten {
    gradients: GradientsParams,
    flat: Vec<Tensor<1>>,
}

impl ModuleVisitor for Flatten {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.flat.push(gradient.reshape([-1]));
        }
    }
}

struct Shape<'a> {
    layout: &'a Layout,
    buckets: &'a [Tensor<1>],
    next: usize,
    gradients: GradientsParams,
}

impl ModuleVisitor for Shape<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(place) = self.layout.places.get(self.next).filter(|place| place.id == param.id) else { return };
        self.next += 1;
        let gradient = self.buckets[place.bucket].clone().slice(place.range.clone());
        self.gradients.register(param.id, gradient.reshape(param.val().dims()));
    }
}
