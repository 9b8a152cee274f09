//! Geometry of a convolution: which inputs contribute to an output, and where their weights are.

use super::blocked_shape::BLOCK;
use super::simd::InstructionSet;
use crate::architecture::Convolution;
use std::ops::Range;

/// A convolution as a sum over filter elements.
#[derive(Clone, Debug)]
pub struct Filter {
    pub out_channels: usize,
    pub in_channels: usize,
    pub groups: usize,
    /// Distance between the windows of two adjacent outputs, in pixels of the input.
    pub stride: usize,
    /// Distance from the corner of the first window to the corner of the input, in pixels.
    pub padding: usize,
    pub elements: Vec<FilterElement>,
    /// Whether output channels of the filter are input channels of the layer.
    transposed: bool,
    /// Number of elements of the layer's filter, `kernel * kernel`.
    area: usize,
}

/// An element of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterElement {
    /// Position in the layer's filter, row by row.
    pub index: usize,
    /// Offset of its input from the corner of the window, `[y, x]`.
    pub offset: [usize; 2],
}

impl Filter {
    /// Returns the filter that computes the output of a layer.
    pub fn forward(layer: &Convolution) -> Self {
        let Convolution { out_channels, in_channels, kernel, stride, padding, groups, .. } = *layer;
        let elements =
            (0..kernel * kernel).map(|index| FilterElement { index, offset: [index / kernel, index % kernel] });
        Filter {
            out_channels,
            in_channels,
            groups,
            stride,
            padding,
            elements: elements.collect(),
            transposed: false,
            area: kernel * kernel,
        }
    }

    /// Returns the filter that computes the gradient of a layer's input from the gradient of its output, for the pixels
    /// of the input that lie at `[y, x]` plus multiples of the layer's stride.
    ///
    /// The output at `i` reads the input at `i * stride + k - padding` for each element `k`, so the gradient at input
    /// `j * stride + y` is the sum over the outputs at `j + (y + padding - k) / stride`, for each `k` that gives an
    /// integer.
    pub fn input_gradient(layer: &Convolution, [y, x]: [usize; 2]) -> Self {
        let Convolution { out_channels, in_channels, kernel, stride, groups, .. } = *layer;
        let contributions = |position: usize| -> Vec<(usize, isize)> {
            let distances = (0..kernel).map(|k| (k, (position + layer.padding) as isize - k as isize));
            let stride = stride as isize;
            distances
                .filter(|(_, distance)| distance % stride == 0)
                .map(|(k, distance)| (k, distance / stride))
                .collect()
        };
        let (rows, columns) = (contributions(y), contributions(x));
        let padding = rows.iter().chain(&columns).map(|&(_, distance)| -distance).max().unwrap_or(0).max(0);
        let offset = |distance: isize| (distance + padding) as usize;
        let elements = rows.iter().flat_map(|&(ky, dy)| {
            columns
                .iter()
                .map(move |&(kx, dx)| FilterElement { index: ky * kernel + kx, offset: [offset(dy), offset(dx)] })
        });
        Filter {
            out_channels: in_channels,
            in_channels: out_channels,
            groups,
            stride: 1,
            padding: padding as usize,
            elements: elements.collect(),
            transposed: true,
            area: kernel * kernel,
        }
    }

    /// Returns the width of the zero border that an input needs if each output has an input at its own position.
    pub fn border(&self) -> usize {
        let last = self.elements.iter().flat_map(|element| element.offset).max().unwrap_or(0);
        self.padding.max(last.saturating_sub(self.padding))
    }

    /// Returns the distance between the weights of adjacent output channels of a group, in the layer's weight
    /// `[out_channels, in_channels / groups, kernel, kernel]`.
    fn out_stride(&self) -> usize {
        if self.transposed { self.area } else { self.in_channels / self.groups * self.area }
    }

    /// Returns the distance between the weights of adjacent input channels of a group.
    fn channel_stride(&self) -> usize {
        if self.transposed { self.out_channels / self.groups * self.area } else { self.area }
    }

    /// Returns the position of the first weight of a pair of channels of the same group. That of a filter element is
    /// its index further.
    fn weight_position(&self, out: usize, channel: usize) -> usize {
        let (group_out, group_in) = (self.out_channels / self.groups, self.in_channels / self.groups);
        // The layer's weight has no other input channels than those of the group.
        let [out, channel] = if self.transposed { [out % group_out, channel] } else { [out, channel % group_in] };
        out * self.out_stride() + channel * self.channel_stride()
    }

    /// Returns the width of a register tile in output channels.
    pub fn panel(&self, set: InstructionSet) -> usize {
        // In a grouped convolution, a panel covers whole groups and multiplies by zeros between them. Narrow panels
        // have fewer of these zeros.
        let is_narrow = self.groups > 1 && self.out_channels / self.groups < set.panel();
        if is_narrow { set.panel().min(BLOCK) } else { set.panel() }
    }

    /// Returns the input channels of the groups to which some output channels belong.
    pub fn input_channels(&self, outputs: Range<usize>) -> Range<usize> {
        let (group_in, group_out) = (self.in_channels / self.groups, self.out_channels / self.groups);
        let last = outputs.end.min(self.out_channels) - 1;
        outputs.start / group_out * group_in..(last / group_out + 1) * group_in
    }

    /// Copies the weights of some output channels, and of the input channels from `first_channel` on, to `target`,
    /// `[input channels, elements of the layer's filter, columns]`, with one column per output channel. All channels must
    /// belong to one group.
    pub fn copy_weights(
        &self,
        weight: &[f32],
        outputs: Range<usize>,
        first_channel: usize,
        target: &mut [f32],
        columns: usize,
    ) {
        let source = &weight[self.weight_position(outputs.start, first_channel)..];
        if self.transposed {
            // The weights of a channel are adjacent.
            let sources = source.chunks(self.channel_stride());
            for (target, source) in target.chunks_exact_mut(self.area * columns).zip(sources) {
                for (index, target) in target.chunks_exact_mut(columns).enumerate() {
                    for (target, source) in target[..outputs.len()].iter_mut().zip(source.chunks_exact(self.area)) {
                        *target = source[index];
                    }
                }
            }
        } else {
            // The weights of an output are adjacent.
            for (column, source) in source.chunks(self.out_stride()).take(outputs.len()).enumerate() {
                for (target, weight) in target.chunks_exact_mut(columns).zip(source) {
                    target[column] = *weight;
                }
            }
        }
    }

    /// Returns the number of elements of the layer's filter.
    pub fn area(&self) -> usize {
        self.area
    }

    /// Returns the number of values of the layer's weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.in_channels / self.groups * self.area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kernel: usize, stride: usize) -> Convolution {
        let [name, norm] = [String::new(), String::new()];
        let (in_channels, out_channels, padding, groups) = (16, 32, kernel / 2, 1);
        Convolution { name, norm, in_channels, out_channels, kernel, stride, padding, groups }
    }

    /// Returns the pairs of input and output that a row of the filter connects, for 8 inputs.
    fn connections(filter: &Filter, stride: usize, phase: usize) -> Vec<(usize, usize, usize)> {
        let row = filter.elements.iter().filter(|element| element.offset[0] == filter.elements[0].offset[0]);
        let mut pairs = Vec::new();
        for element in row {
            for position in 0..8 {
                let other = (position * filter.stride + element.offset[1]) as isize - filter.padding as isize;
                if other >= 0 {
                    pairs.push((position * stride + phase, other as usize, element.index % 3));
                }
            }
        }
        pairs
    }

    /// The gradient connects the same inputs and outputs, by the same weights, as the layer.
    #[test]
    fn input_gradient_reverses_the_connections_of_the_layer() {
        for stride in [1, 2] {
            let layer = layer(3, stride);
            let forward = connections(&Filter::forward(&layer), 1, 0);
            let mut forward: Vec<_> =
                forward.into_iter().filter(|&(output, input, _)| output < 4 && input < 8).collect();
            let mut backward = Vec::new();
            for phase in 0..stride {
                let filter = Filter::input_gradient(&layer, [phase; 2]);
                let reversed =
                    connections(&filter, stride, phase).into_iter().map(|(input, output, k)| (output, input, k));
                backward.extend(reversed.filter(|&(output, input, _)| output < 4 && input < 8));
            }
            forward.sort_unstable();
            backward.sort_unstable();
            assert_eq!(backward, forward, "stride {stride}");
        }
    }

    #[test]
    fn strided_pointwise_layers_have_gradients_at_every_second_pixel() {
        let counts = [[0, 0], [0, 1], [1, 0], [1, 1]].map(|at| Filter::input_gradient(&layer(1, 2), at).elements.len());
        assert_eq!(counts, [1, 0, 0, 0]);
        assert_eq!(Filter::input_gradient(&layer(1, 2), [0, 0]).border(), 0);
        assert_eq!(Filter::input_gradient(&layer(3, 2), [1, 1]).border(), 1);
    }
}
