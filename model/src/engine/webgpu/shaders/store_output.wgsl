// Initial value of the sums of a block of output channels: the bias, or 0 if another kernel adds the bias.
fn bias(block: u32) -> vec4f {
    return BIAS;
}

// Stores a sum after adding the residual and applying the ReLU, if there are any. The sums of each split form images
// of their own.
fn store(image: u32, block: u32, y: u32, x: u32, sum: vec4f) {
    var value = sum;
    //{residual}
    //{relu}
    let index = image * OUTPUT_IMAGE_STRIDE + block * OUTPUT_PLANE_STRIDE + OUTPUT_INTERIOR + y * OUTPUT_ROW_STRIDE + x;
    output[index] = to_output(value);
}
