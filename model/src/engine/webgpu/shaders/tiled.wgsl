// A convolution or a matrix product, for GPUs whose workgroup memory is fast: a workgroup computes TILE_PIXELS pixels by
// TILE_BLOCKS blocks of output channels, an invocation PIXELS by COLUMNS of them, SIDE apart, its sums in registers. The
// pixels of all images are numbered in a row, so that small images and large batches fill tiles as well as large images do.
//
// What is summed over is cut into slices: a block of 4 input channels at one tap. In a step the workgroup stages DEPTH
// slices of its pixels and of its weights in workgroup memory, every value once, and multiplies them. So a value from the
// buffers takes part in as many products as the tile is wide, and one from workgroup memory in as many as the invocation's
// share is. What the next step needs is read into registers before the products of this one, whose time hides the latency.
// Lanes beside each other hold pixels beside each other: reads and writes of the buffers are of whole cache lines, and those
// of workgroup memory hit different banks.
//
// Where PIECE_BLOCKS < INPUT_BLOCKS, a workgroup adds up the products of one piece of the input channels alone.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;
// [KERNEL rows, INPUT_BLOCKS, KERNEL columns, 4 channels, OUTPUT_BLOCKS], and behind them the biases [OUTPUT_BLOCKS].
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

const TILE_PIXELS = SIDE * PIXELS;
const TILE_BLOCKS = SIDE * COLUMNS;

// [DEPTH, TILE_PIXELS]
var<workgroup> input_tile: array<Factor, DEPTH * TILE_PIXELS>;
// [DEPTH, 4 channels, TILE_BLOCKS]
var<workgroup> weight_tile: array<Factor, DEPTH * 4u * TILE_BLOCKS>;

// Image, row and column of a pixel.
fn place(pixel: u32) -> vec3u {
    return vec3u(pixel / IMAGE_PIXELS, pixel % IMAGE_PIXELS / OUTPUT_WIDTH, pixel % OUTPUT_WIDTH);
}

//{store}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(local_invocation_id) lane: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3u,
) {
    let piece = group.z;
    // In every step an invocation stages slices of one pixel, and channels of one output block, inside the output.
    let staged = place(min(group.x * TILE_PIXELS + index % TILE_PIXELS, ALL_PIXELS - 1u));
    let staged_block = min(group.y * TILE_BLOCKS + index % TILE_BLOCKS, OUTPUT_BLOCKS - 1u);
    let staged_channel = index / TILE_BLOCKS;
    var input_at = staged.x * INPUT_IMAGE + piece * PIECE_BLOCKS * INPUT_PLANE + INSET
        + (staged.y * INPUT_PITCH + staged.z) * STRIDE + index / TILE_PIXELS * INPUT_SLICE;
    var weight_at = piece * PIECE_BLOCKS * KERNEL * 4u * OUTPUT_BLOCKS
        + staged_channel / 4u * WEIGHT_SLICE + staged_channel % 4u * OUTPUT_BLOCKS + staged_block;
    //{registers}
    // Of the next step, within its row of taps and its piece.
    var column = 0u;
    var block = 0u;
    //{read}

    let first_pixel = group.x * TILE_PIXELS + lane.x;
    let first_block = group.y * TILE_BLOCKS + lane.y;
    //{sums}
    for (var step = 0u; step < STEPS; step++) {
        // No invocation multiplies what is overwritten.
        workgroupBarrier();
        //{stage}
        workgroupBarrier();
        if step + 1u < STEPS {
            column++;
            input_at++;
            weight_at += 4u * OUTPUT_BLOCKS;
            if column == STEP_COLUMNS {
                column = 0u;
                block += STEP_BLOCKS;
                input_at += STEP_BLOCKS * INPUT_PLANE - STEP_COLUMNS;
                weight_at += (STEP_BLOCKS * KERNEL - STEP_COLUMNS) * 4u * OUTPUT_BLOCKS;
                if block == PIECE_BLOCKS {
                    block = 0u;
                    // In this order, since a piece may be larger than a row.
                    input_at = input_at + INPUT_PITCH - PIECE_BLOCKS * INPUT_PLANE;
                    weight_at += (INPUT_BLOCKS - PIECE_BLOCKS) * KERNEL * 4u * OUTPUT_BLOCKS;
                }
            }
            //{read}
        }
        for (var slice = 0u; slice < DEPTH; slice++) {
            let pixel = slice * TILE_PIXELS + lane.x;
            let row = slice * 4u * TILE_BLOCKS + lane.y;
            //{inputs}
            //{products}
        }
    }
    //{outputs}
}
