//! The worker's wasm module. A page starts it and exchanges the messages of [`worker::message`] with it.

fn main() {
    worker::start();
}
