// Adds up the pieces of a convolution's sums, always in the same order. An invocation is a block of output channels of a
// pixel.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
// [PIECES, batch, OUTPUT_BLOCKS, IMAGE_PIXELS]
@group(0) @binding(1) var<storage, read> pieces: array<vec4f>;
// The biases lie behind the weights, BIASES from their start.
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
    for (var piece = 0u; piece < PIECES; piece++) {
        sum += pieces[piece * SUMS + id.x];
    }
    store(plane / OUTPUT_BLOCKS, block, pixel / OUTPUT_WIDTH, pixel % OUTPUT_WIDTH, sum);
}
