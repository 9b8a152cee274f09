// Winograd's input transform, B^T d B: a tile of TILE + 2 pixels on a side into a value for each point. An invocation is one
// channel of a tile: all of the tile is in its registers at once, and four channels of it would not find room there.

// [points, blocks of channels, TILES, 4 channels]
@group(0) @binding(0) var<storage, read_write> output: array<f32>;
@group(0) @binding(1) var<storage, read> input: array<Lane>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= TILES * 4u {
        return;
    }
    let lane = id.x % 4u;
    let tile = id.x / 4u;
    let x = tile % TILES_OF_A_ROW * TILE;
    let y = tile / TILES_OF_A_ROW % ROWS_OF_TILES * TILE;
    let plane = tile / (TILES_OF_A_ROW * ROWS_OF_TILES) * INPUT_IMAGE + id.y * INPUT_PLANE + INSET;
    //{rows}
    //{columns}
    //{inputs}
    //{down}
    //{across}
    let to = id.y * TILES * 4u + id.x;
    //{outputs}
}
