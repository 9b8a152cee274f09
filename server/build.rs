//! Rebuilds the server when the output of trunk changes, so that it embeds the new page.

use std::path::Path;

fn main() {
    // A watched path that does not exist would cause a rebuild each time, so its parent is watched instead.
    let page = Path::new("../web/dist");
    let watched = if page.exists() { page } else { Path::new("../web") };
    println!("cargo::rerun-if-changed={}", watched.display());
}
