//! The worker's module: a page starts it and talks to it in the terms of [`worker::message`].

fn main() {
    worker::start();
}
