// Adds up the sums of all splits of a convolution, always in the same order. Each invocation computes a block of
// output channels of a pixel.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
// [SPLITS, batch, OUTPUT_BLOCKS, IMAGE_PIXELS]
@group(0) @binding(1) var<storage, read> split_sums: array<vec4f>;
// The biases follow the weights, at offset BIASES.
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

//{store}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= SUMS {
        return;
    }
    let pixel = id.x % IMAGE_PIXELS;
    let plane = id.x / IMAGE_PIXELS;
    let block = plane % OUTPUT_BLOCKS;
    var sum = bias(block);
    for (var split = 0u; split < SPLITS; split++) {
        sum += split_sums[split * SUMS + id.x];
    }
    store(plane / OUTPUT_BLOCKS, block, pixel / OUTPUT_WIDTH, pixel % OUTPUT_WIDTH, sum);
}
