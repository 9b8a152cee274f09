
// A value as f16. One that is too large, of which layers behind may make anything, fails the run.
fn stored(value: vec4f) -> Output {
    if any(abs(value) > vec4f(65504.0)) {
        atomicStore(&overflow, 1u);
    }
    return Output(value);
}
