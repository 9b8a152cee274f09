//! Repositories on Hugging Face: a safetensors file, its hash, and `config.json` beside it.
//!
//! The crate `hf-hub` was looked at and does not serve: neither 0.5 nor 1.0 compares what it downloads with its hash
//! (0.5 takes the hash for a file's name only), and 1.0 brings an asynchronous runtime, a second client and a storage
//! protocol. Two requests are all that is needed.

use super::address::{HUGGING_FACE, variable_of};
use super::client::{Client, Failure, Token, redirect};
use super::download::{Expected, Source, header, refused, text};
use super::fetcher::Fetcher;
use super::name::{Name, Repository};
use super::retry::retry;
use super::timm::Config;
use crate::console;
use anyhow::{Context, Result, anyhow};
use model::checkpoint::{Checkpoint, Metadata, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::Path;
use ureq::http::Method;
use url::Url;

/// The variable that everybody's tools take the token from.
const TOKEN_VARIABLE: &str = "HF_TOKEN";

/// What a revision was when somebody asked; kept, so that nobody has to ask again.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The commit that the revision meant.
    commit: String,
    /// Of the file of weights, in hexadecimal digits.
    sha256: String,
    /// `config.json` of that commit, if there is one.
    config: Option<String>,
}

/// The file, downloaded if need be, as a checkpoint that says what its neighbour says of it.
pub fn checkpoint(repository: &Repository, fetcher: &Fetcher) -> Result<Checkpoint> {
    let token = variable_of(TOKEN_VARIABLE).map(|value| Token::new(value.trim(), fetcher.addresses.hugging_face.url()));
    let token = token.transpose().context(TOKEN_VARIABLE)?;
    let path = fetcher.cache.download(&format!("{}.json", Name::HuggingFace(repository.clone()).stem()));
    let record = match kept(&path).filter(|_| !fetcher.update) {
        Some(record) => record,
        None => {
            let record = ask(repository, fetcher, token.as_ref())?;
            // Refused before anything large is downloaded.
            record.config(repository)?.architecture().with_context(|| repository.to_string())?;
            let json = serde_json::to_string_pretty(&record)?;
            write_atomically(&path, json.as_bytes()).with_context(|| path.display().to_string())?;
            record
        }
    };
    let Repository { owner, name, file, .. } = repository;
    let source = Source {
        address: resolve(fetcher, repository, &record.commit, file),
        token,
        expected: Expected::Whole(record.sha256.clone()),
        path: fetcher.cache.download(&format!("{}.safetensors", record.sha256)),
    };
    fetcher.ensure_downloaded(&source)?;

    let checkpoint = Checkpoint::from_path(&source.path)
        .with_context(|| format!("{repository}: ResNets under torchvision's or timm's names are taken"))?;
    let config = record.config(repository)?;
    let checkpoint = match config.architecture()? {
        Some(architecture) => checkpoint.with_architecture(architecture).with_context(|| repository.to_string())?,
        None => checkpoint,
    };
    if let Some(assumption) = checkpoint.assumption() {
        console::note(&assumption);
    }
    let mut metadata = checkpoint.metadata().clone();
    // A checkpoint of ours that somebody put there explains itself.
    if metadata == Metadata::new(metadata.architecture) {
        config.describe(&mut metadata).with_context(|| format!("{repository}: config.json"))?;
        let license = config.license().map(|license| format!(", {license}")).unwrap_or_default();
        metadata.provenance = Some(format!("{HUGGING_FACE}/{owner}/{name}, {file} at {}{license}", record.commit));
    }
    Ok(checkpoint.with_metadata(metadata)?)
}

impl Record {
    fn config(&self, repository: &Repository) -> Result<Config> {
        let config = self.config.as_deref().map(Config::parse).transpose();
        Ok(config.with_context(|| format!("{repository}: config.json"))?.unwrap_or_default())
    }
}

/// One that cannot be read is as good as none.
fn kept(path: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn resolve(fetcher: &Fetcher, Repository { owner, name, .. }: &Repository, revision: &str, file: &str) -> Url {
    fetcher.addresses.hugging_face.join(&format!("{owner}/{name}/resolve/{revision}/{file}"))
}

/// Asks what the revision means now.
fn ask(repository: &Repository, fetcher: &Fetcher, token: Option<&Token>) -> Result<Record> {
    let Repository { revision, file, .. } = repository;
    let address = resolve(fetcher, repository, revision, file);
    let client = &fetcher.client;
    let (commit, sha256) = retry(fetcher.retries, || identity(client, repository, &address, token))?;
    let address = resolve(fetcher, repository, &commit, "config.json");
    let config = retry(fetcher.retries, || text(client, &address, token))?;
    if config.is_none() {
        console::note("there is no config.json: preprocessing is taken to be torchvision's");
    }
    Ok(Record { commit, sha256, config })
}

/// The commit and the SHA-256, which stand in the answer before the redirect that leads away to where large files lie.
fn identity(
    client: &Client,
    repository: &Repository,
    address: &Url,
    token: Option<&Token>,
) -> Result<(String, String), Failure> {
    let mut address = address.clone();
    // A repository that was renamed redirects to its new name first.
    for _ in 0..4 {
        let response = client.once(Method::HEAD, &address, &[], token)?;
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            return Err(denied(
                repository,
                token.is_some(),
                header(&response, "x-error-code"),
                refused(&address, &response),
            ));
        }
        let hash = header(&response, "x-linked-etag").map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        if let Some(hash) = hash {
            let sha256 = hash.to_ascii_lowercase();
            let commit = header(&response, "x-repo-commit").unwrap_or(&repository.revision).to_owned();
            let is_hexadecimal = |text: &str| text.chars().all(|digit| digit.is_ascii_hexdigit());
            if sha256.len() != 64 || !is_hexadecimal(&sha256) {
                return Err(Failure::Permanent(anyhow!(
                    "{address}: x-linked-etag is {hash:?}, but a SHA-256 is wanted"
                )));
            }
            if commit != repository.revision && !is_hexadecimal(&commit) {
                return Err(Failure::Permanent(anyhow!(
                    "{address}: x-repo-commit is {commit:?}, but a commit is wanted"
                )));
            }
            return Ok((commit, sha256));
        }
        match redirect(&address, &response)?.filter(|next| next.origin() == address.origin()) {
            Some(next) => address = next,
            None => break,
        }
    }
    Err(Failure::Permanent(anyhow!(
        "{address}: the server does not tell the file's SHA-256 (x-linked-etag), and without it nothing is imported"
    )))
}

/// What Hugging Face means by its refusals.
fn denied(repository: &Repository, has_token: bool, code: Option<&str>, failure: Failure) -> Failure {
    let Repository { owner, name, revision, file } = repository;
    let advice = match (code, has_token) {
        (Some("EntryNotFound"), _) => {
            format!(
                "{owner}/{name} has no {file} at {revision}; another file is named by \
                 hf://{owner}/{name}/FILE.safetensors"
            )
        }
        (Some("RevisionNotFound"), _) => format!("{owner}/{name} has no revision {revision}"),
        (Some("GatedRepo"), true) => {
            format!("{owner}/{name} is gated, and {TOKEN_VARIABLE} has no access: ask for it on its page")
        }
        (Some("RepoNotFound"), true) => format!("there is no {owner}/{name}, or {TOKEN_VARIABLE} has no access to it"),
        (Some("GatedRepo" | "RepoNotFound"), false) => {
            format!(
                "there is no {owner}/{name} for everybody; if it is private or gated, {TOKEN_VARIABLE} must hold a \
                 token"
            )
        }
        _ => return failure,
    };
    Failure::Permanent(failure.into_error().context(advice))
}
