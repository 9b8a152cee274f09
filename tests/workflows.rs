//! Checks that the packages, `make` targets and files that the workflows in `.github/workflows` name exist. Otherwise, a
//! mistake in the workflow for releases would be noticed only at the next release.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use tests::workspace;

const WORKFLOWS: [&str; 2] = ["ci.yml", "release.yml"];

#[test]
fn all_workflows_are_checked() -> Result<()> {
    assert_eq!(workspace::file_names(".github/workflows")?, WORKFLOWS.iter().map(ToString::to_string).collect());
    Ok(())
}

#[test]
fn packages_exist() -> Result<()> {
    let manifest = workspace::read("Cargo.toml")?;
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).context("no workspace members")?;
    let mut packages = BTreeSet::new();
    for member in members.split('"').skip(1).step_by(2) {
        let manifest = workspace::read(&format!("{member}/Cargo.toml"))?;
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).context("package without a name")?;
        packages.insert(name.trim_matches('"').to_owned());
    }
    for name in WORKFLOWS {
        let text = workflow(name)?;
        let named = words_after(&text, "-p");
        ensure!(!named.is_empty(), "{name} builds no package");
        for package in named {
            ensure!(packages.contains(package), "{name} names the package {package}, which is not in the workspace");
        }
    }
    Ok(())
}

#[test]
fn make_targets_exist() -> Result<()> {
    let makefile = workspace::read("Makefile")?;
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    for name in WORKFLOWS {
        for target in words_after(&workflow(name)?, "make") {
            ensure!(targets.contains(target), "{name} runs `make {target}`, which is not in the Makefile");
        }
    }
    Ok(())
}

#[test]
fn files_exist() -> Result<()> {
    let ci = workflow("ci.yml")?;
    let release = workflow("release.yml")?;
    let scripts = words_after(&ci, "run:").into_iter().filter(|command| command.contains('/')).map(str::to_owned);
    let containers = words_after(&release, "file:").into_iter().filter(|file| file.starts_with("Containerfile"));
    let containers = containers.map(|file| format!("server/deploy/{file}"));
    let packed = release.lines().filter_map(|line| line.trim().strip_prefix("cp "));
    let packed = packed.flat_map(str::split_whitespace).filter(|word| !word.starts_with('"'));
    let files: Vec<String> = scripts.chain(containers).chain(packed.map(str::to_owned)).collect();
    ensure!(files.len() >= 7, "found only {files:?}");
    for file in files {
        ensure!(workspace::root().join(&file).exists(), "a workflow names {file}, which does not exist");
    }
    Ok(())
}

/// Returns the words that follow `word` in a text.
fn words_after<'a>(text: &'a str, word: &str) -> BTreeSet<&'a str> {
    let words = || text.split_whitespace();
    words().zip(words().skip(1)).filter(|(first, _)| *first == word).map(|(_, second)| second).collect()
}

/// Reads a workflow without its comments.
fn workflow(name: &str) -> Result<String> {
    let text = workspace::read(&format!(".github/workflows/{name}"))?;
    Ok(text.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect())
}
