//! Rebuilds the server when the output of `make page` changes, so that it embeds the new page.

const PAGE: &str = "../web/dist";

fn main() {
    // Cargo runs a build script again each time if a path that it watches does not exist. Without write access to the
    // sources, this is the only effect.
    let _ = std::fs::create_dir_all(PAGE);
    println!("cargo::rerun-if-changed={PAGE}");
}
