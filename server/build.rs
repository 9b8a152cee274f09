//! Has the page embedded anew whenever what trunk built of it changes.

use std::path::Path;

fn main() {
    // A watched path that does not exist would rebuild the server each time, so then its parent is watched.
    let page = Path::new("../web/dist");
    let watched = if page.exists() { page } else { Path::new("../web") };
    println!("cargo::rerun-if-changed={}", watched.display());
}
