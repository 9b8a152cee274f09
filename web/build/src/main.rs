//! Builds the web page and its worker into a folder, for the server to embed or to serve.
//!
//! `trunk` builds the same page for development (`trunk serve`), from the same `index.html`. It is not used here, because
//! compiling trunk takes longer than compiling everything else that the page needs.

mod output;
mod scripts;
mod template;
mod wasm;

use anyhow::{Context, Result};
use lexopt::{Arg, Parser, ValueExt};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Builds the web page and its worker.

Usage: build-page [OPTIONS]

Options:
      --output FOLDER             Folder to write, which is replaced if its content changes [default: web/dist]
      --wasm-opt PROGRAM          Binaryen's wasm-opt, to make the modules smaller
      --worker-features FEATURES  Cargo features of the worker
  -h, --help                      Print help
";

struct Options {
    output: PathBuf,
    wasm_opt: Option<PathBuf>,
    worker_features: Option<String>,
}

fn main() -> ExitCode {
    let result = parse(Parser::from_env()).and_then(|options| match options {
        Some(options) => build(&options),
        None => {
            print!("{HELP}");
            Ok(())
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns `None` if help is requested.
fn parse(mut arguments: Parser) -> Result<Option<Options>> {
    let mut options = Options { output: web_folder().join("dist"), wasm_opt: None, worker_features: None };
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("output") => options.output = arguments.value()?.into(),
            Arg::Long("wasm-opt") => options.wasm_opt = Some(arguments.value()?.into()),
            Arg::Long("worker-features") => options.worker_features = Some(arguments.value()?.string()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            argument => return Err(argument.unexpected().into()),
        }
    }
    Ok(Some(options))
}

fn web_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is in the folder `web`")
}

fn build(options: &Options) -> Result<()> {
    let web = web_folder();
    let modules = wasm::compile(web, options.worker_features.as_deref())?;
    let folder = output::new_folder_next_to(&options.output)?;
    let bindings = tempfile::tempdir()?;
    wasm::generate_bindings(&modules.page, "page", bindings.path())?;
    wasm::generate_bindings(&modules.worker, "worker", folder.path())?;
    if let Some(program) = &options.wasm_opt {
        let cache = modules.page.with_file_name("optimised");
        wasm::optimise(program, &bindings.path().join("page_bg.wasm"), &cache)?;
        wasm::optimise(program, &folder.path().join("worker_bg.wasm"), &cache)?;
    }
    scripts::compact(&bindings.path().join("page.js"))?;
    scripts::compact(&folder.path().join("worker.js"))?;
    fs::write(folder.path().join("worker_loader.js"), scripts::WORKER_LOADER)?;

    let index = web.join("index.html");
    let html = fs::read_to_string(&index).with_context(|| format!("cannot read {}", index.display()))?;
    let html = template::fill(&html, web, bindings.path(), folder.path())
        .with_context(|| format!("cannot fill {}", index.display()))?;
    fs::write(folder.path().join("index.html"), html)?;
    output::replace(&options.output, folder)
}
