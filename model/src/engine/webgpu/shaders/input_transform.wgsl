// Winograd's input transform, V = B^T d B: transforms tiles d of ALPHA = TILE + 2 pixels on a side. Each invocation
// transforms one channel of a tile, because a whole tile fits into registers for one channel, but not for four.

// V, [ALPHA * ALPHA positions, blocks of channels, TILES, 4 channels]
@group(0) @binding(0) var<storage, read_write> output: array<f32>;
@group(0) @binding(1) var<storage, read> input: array<Lane>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= TILES * 4u {
        return;
    }
    let lane = id.x % 4u;
    let tile = id.x / 4u;
    let x = tile % TILES_PER_ROW * TILE;
    let y = tile / TILES_PER_ROW % TILE_ROWS * TILE;
    let plane = tile / (TILES_PER_ROW * TILE_ROWS) * INPUT_IMAGE_STRIDE + id.y * INPUT_PLANE_STRIDE + WINDOW_OFFSET;
    //{row offsets}
    //{column offsets}
    //{read tile}
    //{transform columns}
    //{transform rows}
    let first = id.y * TILES * 4u + id.x;
    //{outputs}
}
