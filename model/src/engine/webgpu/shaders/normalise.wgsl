// Converts pixels to the network's input: (pixel / 255 - mean) / std, with torchvision's arithmetic. Each invocation
// computes a pixel.

@group(0) @binding(0) var<storage, read_write> output: array<Output>;
// Mean and standard deviation per colour channel as f32, then the pixels, u8 RGB [batch, HEIGHT, WIDTH, 3].
@group(0) @binding(1) var<storage, read> upload: array<u32>;

fn byte(index: u32) -> f32 {
    return f32((upload[6u + index / 4u] >> (index % 4u * 8u)) & 255u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= WIDTH {
        return;
    }
    let first = ((id.z * HEIGHT + id.y) * WIDTH + id.x) * 3u;
    let pixel = vec3f(byte(first), byte(first + 1u), byte(first + 2u));
    let mean = bitcast<vec3f>(vec3u(upload[0], upload[1], upload[2]));
    let std_dev = bitcast<vec3f>(vec3u(upload[3], upload[4], upload[5]));
    let index = id.z * OUTPUT_IMAGE_STRIDE + OUTPUT_INTERIOR + id.y * OUTPUT_ROW_STRIDE + id.x;
    output[index] = to_output(vec4f((pixel / 255.0 - mean) / std_dev, 0.0));
}
