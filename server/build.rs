//! Rebuilds the server when the output of `make page` changes, so that it embeds the new page.

use std::path::Path;
use std::{env, fs};

const PAGE: &str = "../web/dist";

fn main() {
    // Cargo runs a build script again each time if a path that it watches does not exist. Without write access to the
    // sources, this is the only effect.
    let _ = fs::create_dir_all(PAGE);
    println!("cargo::rerun-if-changed={PAGE}");
    // `make run` sets the variable, because it serves the page from a folder.
    if !Path::new(PAGE).join("index.html").exists() && env::var_os("SHORTCUT_PAGE").is_none() {
        println!(
            "cargo::warning=the server will not contain the web page, because web/dist is empty; `make page` builds it"
        );
    }
}
