// A convolution, a matrix product or the classifier, for caches: an invocation computes a tile of PIXELS neighbours in a
// row by COLUMNS blocks of output channels, its sums in registers. No barrier and no workgroup memory: neighbours in a
// workgroup read neighbouring weights and the same inputs, which caches hand to all of them.
//
// Where PIECE_BLOCKS < INPUT_BLOCKS, an invocation adds up the products of one piece of the input channels alone. Of
// Winograd's filtering, an image is what a point of all tiles is, and has weights of its own, IMAGE_WEIGHTS apart.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;
// [KERNEL rows, INPUT_BLOCKS, KERNEL columns, 4 channels, OUTPUT_BLOCKS], and behind them the biases [OUTPUT_BLOCKS].
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

//{store}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= OUTPUT_BLOCKS / COLUMNS || id.y >= TILES {
        return;
    }
    let x = id.y % TILES_OF_A_ROW * PIXELS;
    let y = id.y / TILES_OF_A_ROW;
    let image = id.z % BATCH;
    let piece = id.z / BATCH;
    let first_block = id.x / OUTPUT_COLUMNS_OF_A_GROUP * INPUT_BLOCKS + piece * PIECE_BLOCKS;
    var row = image * INPUT_IMAGE + first_block * INPUT_PLANE + INSET + y * STRIDE * INPUT_PITCH + x * STRIDE;
    var at = id.x + image * IMAGE_WEIGHTS + piece * PIECE_BLOCKS * KERNEL * 4u * OUTPUT_BLOCKS;
    //{sums}
    for (var tap_row = 0u; tap_row < KERNEL; tap_row++) {
        var pixel = row;
        for (var block = 0u; block < PIECE_BLOCKS; block++) {
            //{taps}
            pixel += INPUT_PLANE;
        }
        at += (INPUT_BLOCKS - PIECE_BLOCKS) * KERNEL * 4u * OUTPUT_BLOCKS;
        row += INPUT_PITCH;
    }
    //{outputs}
}
