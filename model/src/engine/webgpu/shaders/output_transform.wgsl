// Winograd's output transform, Y = A^T M A: transforms the products M of a tile to TILE pixels on a side. Each
// invocation computes a block of output channels of a tile.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
// M, [ALPHA * ALPHA positions, blocks of channels, TILES], where ALPHA = TILE + 2
@group(0) @binding(1) var<storage, read> products: array<vec4f>;
// The biases follow the weights, at offset BIASES.
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

//{store}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= TILES {
        return;
    }
    let image = id.x / (TILES_PER_ROW * TILE_ROWS);
    let x = id.x % TILES_PER_ROW * TILE;
    let y = id.x / TILES_PER_ROW % TILE_ROWS * TILE;
    let first = id.y * TILES + id.x;
    //{transform columns}
    let biases = bias(id.y);
    //{transform rows}
    //{outputs}
}
