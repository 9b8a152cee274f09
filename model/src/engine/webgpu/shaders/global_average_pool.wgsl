// Writes the mean over all pixels. Each invocation computes a block of channels of an image.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= PLANES {
        return;
    }
    var row = id.x * INPUT_PLANE_STRIDE + INPUT_INTERIOR;
    var sum = vec4f(0.0);
    for (var y = 0u; y < HEIGHT; y++) {
        for (var x = 0u; x < WIDTH; x++) {
            sum += vec4f(input[row + x]);
        }
        row += INPUT_ROW_STRIDE;
    }
    output[id.x] = to_output(sum / f32(HEIGHT * WIDTH));
}
