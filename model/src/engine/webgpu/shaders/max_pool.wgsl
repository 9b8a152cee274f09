// Writes the maximum of each window. The input is the output of a ReLU, so the zeros of its border do not change a
// maximum. Each invocation computes a block of channels of a pixel.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= OUTPUT_WIDTH {
        return;
    }
    var row = id.z * INPUT_PLANE_STRIDE + WINDOW_OFFSET + id.y * STRIDE * INPUT_ROW_STRIDE + id.x * STRIDE;
    var maximum = vec4f(0.0);
    for (var y = 0u; y < KERNEL; y++) {
        for (var x = 0u; x < KERNEL; x++) {
            maximum = max(maximum, vec4f(input[row + x]));
        }
        row += INPUT_ROW_STRIDE;
    }
    output[id.z * OUTPUT_PLANE_STRIDE + OUTPUT_INTERIOR + id.y * OUTPUT_ROW_STRIDE + id.x] = to_output(maximum);
}
