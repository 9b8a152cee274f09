//! Where files lie on the network: the two services, or mirrors of them.

use anyhow::{Context, Result, ensure};
use url::Url;

/// The address below which a service's files lie. It has a host, and no slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(Url);

/// The two that are asked.
pub struct Addresses {
    pub torchvision: Base,
    pub hugging_face: Base,
}

/// The services, unless a mirror is named.
pub const TORCHVISION: &str = "https://download.pytorch.org/models";
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// The variables of the environment that name mirrors; the second one is everybody's.
pub const TORCHVISION_VARIABLE: &str = "SHORTCUT_TORCHVISION";
pub const HUGGING_FACE_VARIABLE: &str = "HF_ENDPOINT";

impl Addresses {
    /// What the flags name, or else the environment, or else the services themselves.
    ///
    /// # Errors
    /// If something is no address.
    pub fn new(torchvision: Option<String>, hugging_face: Option<String>) -> Result<Self> {
        let base = |flag: Option<String>, name: &str, variable: &str, default: &str| {
            let (address, from) = match (flag, variable_of(variable)) {
                (Some(address), _) => (address, name),
                (None, Some(address)) => (address, variable),
                (None, None) => (default.to_owned(), name),
            };
            Base::parse(&address).with_context(|| format!("{from}: {address:?} is no address of a server"))
        };
        Ok(Addresses {
            torchvision: base(torchvision, "--torchvision", TORCHVISION_VARIABLE, TORCHVISION)?,
            hugging_face: base(hugging_face, "--hugging-face", HUGGING_FACE_VARIABLE, HUGGING_FACE)?,
        })
    }
}

/// Of the environment; one that is empty counts as absent.
pub fn variable_of(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Base {
    fn parse(address: &str) -> Result<Self> {
        const EXPECTED: &str = "https://HOST or https://HOST/PATH is wanted";
        let url = Url::parse(address.trim_end_matches('/')).context(EXPECTED)?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        ensure!(["http", "https"].contains(&url.scheme()) && url.has_host() && is_plain, EXPECTED);
        Ok(Base(url))
    }

    /// `path` consists of letters, digits, `._-%` and slashes.
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
    fn files_lie_below_their_base() {
        for (base, expected) in [
            ("https://huggingface.co", "https://huggingface.co/me/birds/resolve/refs%2Fpr%2F1/model.safetensors"),
            ("http://127.0.0.1:81/hf/", "http://127.0.0.1:81/hf/me/birds/resolve/refs%2Fpr%2F1/model.safetensors"),
        ] {
            let url = Base::parse(base).unwrap().join("me/birds/resolve/refs%2Fpr%2F1/model.safetensors");
            assert_eq!(url.as_str(), expected);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_by_the_name_of_its_flag() {
        for address in ["huggingface.co", "ftp://host", "https://", "https://host?x", "file:///tmp"] {
            let error = Addresses::new(Some(address.to_owned()), None).err().unwrap();
            let error = format!("{error:#}");
            assert!(
                error.contains("--torchvision") && error.contains(address) && error.contains("https://HOST"),
                "{error}"
            );
        }
    }
}
