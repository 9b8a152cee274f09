// A convolution or a matrix product, for GPUs with fast workgroup memory. A workgroup computes TILE_PIXELS pixels by
// TILE_BLOCKS blocks of output channels; each invocation computes PIXELS by BLOCKS of them, SIDE apart, and holds its
// sums in registers. The pixels of all images are numbered consecutively, so that small images and large batches fill
// tiles as well as large images.
//
// The sums are split along the reduction dimension into slices, each a block of 4 input channels at one tap. The
// workgroup stages a K tile of DEPTH slices of its pixels and weights in workgroup memory, every element once, and
// multiplies them. So an element read from a buffer takes part in as many products as the workgroup's tile is wide,
// and one read from workgroup memory in as many as the invocation's tile is wide. The next K tile is read into
// registers before the products of the current one, which hide the latency. Adjacent lanes hold adjacent pixels:
// accesses to buffers cover whole cache lines, and accesses to workgroup memory hit different banks.
//
// If SPLIT_BLOCKS < INPUT_BLOCKS, a workgroup adds up the products of one split of the input channels only.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;
// [KERNEL rows, INPUT_BLOCKS, KERNEL columns, 4 channels, OUTPUT_BLOCKS], followed by the biases [OUTPUT_BLOCKS].
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

const TILE_PIXELS = SIDE * PIXELS;
const TILE_BLOCKS = SIDE * BLOCKS;

// [DEPTH, TILE_PIXELS]
var<workgroup> input_tile: array<Operand, DEPTH * TILE_PIXELS>;
// [DEPTH, 4 channels, TILE_BLOCKS]
var<workgroup> weight_tile: array<Operand, DEPTH * 4u * TILE_BLOCKS>;

// Returns the image, the row and the column of a pixel.
fn pixel_position(pixel: u32) -> vec3u {
    return vec3u(pixel / IMAGE_PIXELS, pixel % IMAGE_PIXELS / OUTPUT_WIDTH, pixel % OUTPUT_WIDTH);
}

//{store}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(local_invocation_id) lane: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(workgroup_id) group: vec3u,
) {
    let split = group.z;
    // An invocation stages slices of one pixel, and channels of one output block, in every K tile; indices are
    // clamped to the output.
    let staged = pixel_position(min(group.x * TILE_PIXELS + index % TILE_PIXELS, ALL_PIXELS - 1u));
    let staged_block = min(group.y * TILE_BLOCKS + index % TILE_BLOCKS, OUTPUT_BLOCKS - 1u);
    let staged_channel = index / TILE_BLOCKS;
    var input_index = staged.x * INPUT_IMAGE_STRIDE + split * SPLIT_BLOCKS * INPUT_PLANE_STRIDE + WINDOW_OFFSET
        + (staged.y * INPUT_ROW_STRIDE + staged.z) * STRIDE + index / TILE_PIXELS * INPUT_SLICE_STRIDE;
    var weight_index = split * SPLIT_BLOCKS * KERNEL * 4u * OUTPUT_BLOCKS
        + staged_channel / 4u * WEIGHT_SLICE_STRIDE + staged_channel % 4u * OUTPUT_BLOCKS + staged_block;
    //{registers}
    // Position of the next K tile: its column in the row of taps, and its first block in the split.
    var tap_column = 0u;
    var block = 0u;
    //{read}

    let first_pixel = group.x * TILE_PIXELS + lane.x;
    let first_block = group.y * TILE_BLOCKS + lane.y;
    //{sums}
    for (var k_tile = 0u; k_tile < K_TILES; k_tile++) {
        // Wait until all invocations have multiplied the previous K tile before overwriting it.
        workgroupBarrier();
        //{stage}
        workgroupBarrier();
        if k_tile + 1u < K_TILES {
            tap_column++;
            input_index++;
            weight_index += 4u * OUTPUT_BLOCKS;
            if tap_column == K_TILES_PER_TAP_ROW {
                tap_column = 0u;
                block += K_TILE_BLOCKS;
                input_index += K_TILE_BLOCKS * INPUT_PLANE_STRIDE - K_TILES_PER_TAP_ROW;
                weight_index += (K_TILE_BLOCKS * KERNEL - K_TILES_PER_TAP_ROW) * 4u * OUTPUT_BLOCKS;
                if block == SPLIT_BLOCKS {
                    block = 0u;
                    // Add before subtracting: a split may be larger than a row, and the difference would be negative.
                    input_index = input_index + INPUT_ROW_STRIDE - SPLIT_BLOCKS * INPUT_PLANE_STRIDE;
                    weight_index += (INPUT_BLOCKS - SPLIT_BLOCKS) * KERNEL * 4u * OUTPUT_BLOCKS;
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
