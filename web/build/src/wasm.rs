//! WebAssembly modules: compiles them with cargo, generates the JavaScript that loads them, and optimises them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};
use wasm_bindgen_cli_support::Bindgen;

/// Paths of the modules that cargo built.
pub struct Modules {
    pub page: PathBuf,
    pub worker: PathBuf,
}

/// Compiles page and worker with one call of cargo, so that they share the compiled dependencies.
pub fn compile(folder: &Path, worker_features: Option<&str>) -> Result<Modules> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--locked", "--profile", "web", "--target", "wasm32-unknown-unknown"]);
    command.args(["--package", "page", "--package", "worker", "--message-format", "json-render-diagnostics"]);
    for feature in worker_features.unwrap_or_default().split([',', ' ']).filter(|feature| !feature.is_empty()) {
        command.arg("--features").arg(format!("worker/{feature}"));
    }
    let output = command.current_dir(folder).stderr(Stdio::inherit()).output().context("failed to run cargo")?;
    ensure!(output.status.success(), "cargo failed to build page and worker ({})", output.status);
    let messages = String::from_utf8(output.stdout).context("the messages of cargo are not UTF-8")?;
    let path = |name| find_module(&messages, name).with_context(|| format!("cargo built no module {name}.wasm"));
    Ok(Modules { page: path("page")?, worker: path("worker")? })
}

/// Finds the module of a binary in cargo's JSON messages, one per line.
fn find_module(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut binaries = messages.filter(|message| {
        let target = &message["target"];
        message["reason"] == "compiler-artifact" && target["name"] == name && target["kind"][0] == "bin"
    });
    let files = binaries.next()?["filenames"].as_array()?.clone();
    files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

/// Writes `NAME.js` and `NAME_bg.wasm`: the module with the JavaScript that loads it.
pub fn generate_bindings(module: &Path, name: &str, folder: &Path) -> Result<()> {
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name(name).web(true)?.typescript(false);
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(folder).with_context(|| format!("wasm-bindgen failed on {}", module.display()))
}

/// Optimises a module for size, in place. Results are kept in the folder `cache` under the hash of their input, because
/// this takes up to a minute.
pub fn optimise(program: &Path, module: &Path, cache: &Path) -> Result<()> {
    const ARGUMENTS: [&str; 3] = ["-Os", "--strip-debug", "--strip-producers"];
    let bytes = fs::read(module)?;
    let version = Command::new(program).arg("--version").output();
    let version = version.with_context(|| format!("failed to run {}", program.display()))?.stdout;
    let hash = Sha256::new().chain_update(version).chain_update(ARGUMENTS.concat()).chain_update(&bytes).finalize();
    let cached = cache.join(hex::encode(hash)).with_extension("wasm");
    if !cached.exists() {
        fs::create_dir_all(cache)?;
        let unfinished = cached.with_extension("part");
        let mut command = Command::new(program);
        command.args(ARGUMENTS).arg(module).arg("-o").arg(&unfinished);
        let status = command.status().with_context(|| format!("failed to run {}", program.display()))?;
        ensure!(status.success(), "{} failed on {} ({status})", program.display(), module.display());
        fs::rename(&unfinished, &cached)?;
    }
    fs::copy(&cached, module)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_the_messages_of_cargo() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"page"},"filenames":["libpage.rlib"]}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"page"},"filenames":["a/page.d","a/page.wasm"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(find_module(messages, "page"), Some("a/page.wasm".into()));
        assert_eq!(find_module(messages, "worker"), None);
    }

    /// A stand-in for wasm-opt that appends a byte to its input and counts its calls.
    #[cfg(unix)]
    #[test]
    fn optimised_modules_are_cached_by_content() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let (program, module) = (path("wasm-opt"), path("page_bg.wasm"));
        fs::write(
            &program,
            "#!/bin/sh\n[ $# = 6 ] || exit 0\necho call >> \"$0.calls\"\n{ cat \"$4\"; printf +; } > \"$6\"\n",
        )?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        for (input, calls) in [("one", 1), ("one", 1), ("two", 2)] {
            fs::write(&module, input)?;
            optimise(&program, &module, &path("cache"))?;
            assert_eq!(fs::read_to_string(&module)?, format!("{input}+"));
            assert_eq!(fs::read_to_string(path("wasm-opt.calls"))?.lines().count(), calls);
        }
        fs::write(&program, "#!/bin/sh\nexit 3\n")?;
        fs::write(&module, "three")?;
        assert!(optimise(&program, &module, &path("cache")).is_err());
        assert_eq!(fs::read_to_string(&module)?, "three");
        Ok(())
    }
}
