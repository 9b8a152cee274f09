// Where the sums of a block begin: pieces of them, where something else adds the bias, at zero.
fn bias(block: u32) -> vec4f {
    return BIAS;
}

// Where a sum goes, with what is added to it on the way. Pieces of a sum go to images of their own.
fn store(image: u32, block: u32, y: u32, x: u32, sum: vec4f) {
    var value = sum;
    //{residual}
    //{relu}
    output[image * OUTPUT_IMAGE + block * OUTPUT_PLANE + OUTPUT_INSIDE + y * OUTPUT_PITCH + x] = stored(value);
}
