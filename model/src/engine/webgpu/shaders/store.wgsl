// Where a sum goes, with what is added to it on the way. Pieces of a sum go to images of their own.
fn store(image: u32, block: u32, y: u32, x: u32, sum: vec4f) {
    var value = sum;
    //{bias}
    //{residual}
    //{relu}
    output[image * OUTPUT_IMAGE + block * OUTPUT_PLANE + OUTPUT_INSIDE + y * OUTPUT_PITCH + x] = stored(value);
}
