// Winograd's output transform, A^T m A: the products of a tile's points into TILE pixels on a side. An invocation is a block
// of output channels of a tile.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
// [points, blocks of channels, TILES]
@group(0) @binding(1) var<storage, read> products: array<vec4f>;
// The biases lie behind the weights, BIASES from their start.
@group(0) @binding(2) var<storage, read> weights: array<Weight>;
//{residual binding}

//{store}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= TILES {
        return;
    }
    let image = id.x / (TILES_OF_A_ROW * ROWS_OF_TILES);
    let x = id.x % TILES_OF_A_ROW * TILE;
    let y = id.x / TILES_OF_A_ROW % ROWS_OF_TILES * TILE;
    let at = id.y * TILES + id.x;
    //{down}
    let biases = bias(id.y);
    //{across}
    //{outputs}
}
