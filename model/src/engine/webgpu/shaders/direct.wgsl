// A convolution, a matrix product or the classifier. Each invocation computes a tile of PIXELS adjacent pixels of a
// row by BLOCKS blocks of output channels, and holds its sums in registers. There are no barriers and no workgroup
// memory: the invocations of a workgroup read adjacent weights and the same inputs, which the caches serve to all of
// them.
//
// If SPLIT_BLOCKS < INPUT_BLOCKS, an invocation adds up the products of one split of the input channels only. In
// Winograd's algorithm, an "image" is one position of all tiles and has its own weights, IMAGE_WEIGHT_STRIDE apart.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;
// [KERNEL rows, INPUT_BLOCKS, KERNEL columns, 4 channels, OUTPUT_BLOCKS], followed by the biases [OUTPUT_BLOCKS].
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

//{store}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= OUTPUT_BLOCKS / BLOCKS || id.y >= TILES {
        return;
    }
    let x = id.y % TILES_PER_ROW * PIXELS;
    let y = id.y / TILES_PER_ROW;
    let image = id.z % BATCH;
    let split = id.z / BATCH;
    let first_block = id.x / OUTPUT_BLOCKS_PER_GROUP * INPUT_BLOCKS + split * SPLIT_BLOCKS;
    var row = image * INPUT_IMAGE_STRIDE + first_block * INPUT_PLANE_STRIDE + WINDOW_OFFSET
        + y * STRIDE * INPUT_ROW_STRIDE + x * STRIDE;
    var weight_index = id.x + image * IMAGE_WEIGHT_STRIDE + split * SPLIT_BLOCKS * KERNEL * 4u * OUTPUT_BLOCKS;
    //{sums}
    for (var tap_row = 0u; tap_row < KERNEL; tap_row++) {
        var pixel = row;
        for (var block = 0u; block < SPLIT_BLOCKS; block++) {
            //{taps}
            pixel += INPUT_PLANE_STRIDE;
        }
        weight_index += (INPUT_BLOCKS - SPLIT_BLOCKS) * KERNEL * 4u * OUTPUT_BLOCKS;
        row += INPUT_ROW_STRIDE;
    }
    //{outputs}
}
