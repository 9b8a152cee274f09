// The largest value of each window. What is pooled has passed a ReLU, so the zeros of its border change nothing. An
// invocation is a block of channels of a pixel.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
@group(0) @binding(1) var<storage, read> input: array<Value>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= OUTPUT_WIDTH {
        return;
    }
    var row = id.z * INPUT_PLANE + INSET + id.y * STRIDE * INPUT_PITCH + id.x * STRIDE;
    var largest = vec4f(0.0);
    for (var y = 0u; y < KERNEL; y++) {
        for (var x = 0u; x < KERNEL; x++) {
            largest = max(largest, vec4f(input[row + x]));
        }
        row += INPUT_PITCH;
    }
    output[id.z * OUTPUT_PLANE + OUTPUT_INSIDE + id.y * OUTPUT_PITCH + id.x] = stored(largest);
}
