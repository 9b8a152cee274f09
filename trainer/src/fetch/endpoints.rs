//! Base URLs of the services that weights are fetched from, or of their mirrors.

use anyhow::{Context, Result, ensure};
use url::Url;

/// Base URLs of the services, unless a mirror is configured.
pub const TORCHVISION_URL: &str = "https://download.pytorch.org/models";
pub const HUGGING_FACE_URL: &str = "https://huggingface.co";

/// Environment variables that configure mirrors; the second one is Hugging Face's own.
pub const TORCHVISION_VARIABLE: &str = "SHORTCUT_TORCHVISION";
pub const HUGGING_FACE_VARIABLE: &str = "HF_ENDPOINT";

/// The URL under which a service keeps its files. It has a host and no trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// The base URLs in use.
pub struct Endpoints {
    pub torchvision: BaseUrl,
    pub hugging_face: BaseUrl,
}

impl Endpoints {
    /// Takes each URL from its flag, otherwise from its environment variable, otherwise that of the service itself.
    ///
    /// # Errors
    /// Returns an error if a URL is invalid.
    pub fn new(torchvision: Option<String>, hugging_face: Option<String>) -> Result<Self> {
        let base = |value: Option<String>, flag: &str, variable: &str, default: &str| {
            let (url, from) = match (value, env_var(variable)) {
                (Some(url), _) => (url, flag),
                (None, Some(url)) => (url, variable),
                (None, None) => (default.to_owned(), flag),
            };
            BaseUrl::parse(&url).with_context(|| format!("{from}: invalid URL {url:?}"))
        };
        Ok(Endpoints {
            torchvision: base(torchvision, "--torchvision", TORCHVISION_VARIABLE, TORCHVISION_URL)?,
            hugging_face: base(hugging_face, "--hugging-face", HUGGING_FACE_VARIABLE, HUGGING_FACE_URL)?,
        })
    }
}

/// Returns an environment variable, unless it is unset or empty.
pub fn env_var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl BaseUrl {
    fn parse(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected https://HOST or https://HOST/PATH";
        let url = Url::parse(text.trim_end_matches('/')).context(EXPECTED)?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        ensure!(["http", "https"].contains(&url.scheme()) && url.has_host() && is_plain, EXPECTED);
        Ok(BaseUrl(url))
    }

    /// Appends a path, which consists of letters, digits, `._-%` and slashes.
    pub fn join(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{path}", self.0.path().trim_end_matches('/')));
        url
    }

    pub fn url(&self) -> &Url {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_paths_to_the_base() {
        for (base, expected) in [
            ("https://huggingface.co", "https://huggingface.co/me/birds/resolve/refs%2Fpr%2F1/model.safetensors"),
            ("http://127.0.0.1:81/hf/", "http://127.0.0.1:81/hf/me/birds/resolve/refs%2Fpr%2F1/model.safetensors"),
        ] {
            let url = BaseUrl::parse(base).unwrap().join("me/birds/resolve/refs%2Fpr%2F1/model.safetensors");
            assert_eq!(url.as_str(), expected);
        }
    }

    #[test]
    fn invalid_urls_are_rejected_with_the_name_of_the_flag() {
        for url in ["huggingface.co", "ftp://host", "https://", "https://host?x", "file:///tmp"] {
            let error = Endpoints::new(Some(url.to_owned()), None).err().unwrap();
            let error = format!("{error:#}");
            assert!(
                error.contains("--torchvision") && error.contains(url) && error.contains("https://HOST"),
                "{error}"
            );
        }
    }
}
