//! What the server says on stdout to those who started it, people and programs: where it listens, then that it is ready.

use crate::registry::Registry;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the bundled photos lie, seen from the workspace's root.
const SAMPLES: &str = "samples";

/// Requests are accepted, and wait for the models.
pub fn listening(address: SocketAddr) {
    say(&format!("listening on {}", url(address)));
}

/// Every model answers at once.
pub fn ready(address: SocketAddr, registry: &Registry, after: Duration) {
    let url = url(address);
    // Whole, since it is pasted into another terminal, which may be anywhere.
    let photo = sample(Path::new(SAMPLES)).and_then(|photo| photo.canonicalize().ok());
    let photo = photo.unwrap_or_else(|| "PHOTO.jpg".into());
    let mut text = format!("ready after {:.1} s\n", after.as_secs_f64());
    let models = registry.current();
    for model in models.iter() {
        let metadata = &model.metadata;
        let default = if models.is_default(model) { ", the default" } else { "" };
        text += &format!(
            "  {}: {}, {} classes{default}\n",
            model.name(),
            metadata.architecture.name(),
            metadata.labels.len()
        );
    }
    text += &format!("\nIn a browser:  {url}\nIn a terminal: curl -F 'file=@\"{}\"' {url}/predict\n", photo.display());
    say(&text);
}

/// Nobody needs to listen.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// An address that opens here: a server on all addresses is on this machine's own too.
fn url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => (),
    }
    format!("http://{address}")
}

/// The first photo of a folder, by name.
fn sample(folder: &Path) -> Option<PathBuf> {
    let files = folder.read_dir().ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jpg")).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_opens() {
        for (bound, opens) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
        ] {
            assert_eq!(url(bound.parse().unwrap()), opens);
        }
    }

    #[test]
    fn only_a_photo_that_exists_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(sample(folder.path()), None);
        for name in ["README.md", "cat.jpg", "coffee.jpg"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(sample(folder.path()), Some(folder.path().join("cat.jpg")));
        assert_eq!(sample(&folder.path().join("absent")), None);
    }
}
