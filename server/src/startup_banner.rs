//! The messages on stdout, for people and for programs that start the server: the address, then that the models are
//! ready.

use crate::page_files::PageFiles;
use crate::registry::Registry;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folder of the bundled photos, relative to the root of the workspace.
const SAMPLES: &str = "samples";

/// Prints the address. From now on requests are accepted, but wait until their model is ready.
pub fn print_listening(address: SocketAddr) {
    print(&format!("listening on {}", local_url(address)));
}

/// Prints the models and how to use them. From now on every model responds without delay.
pub fn print_ready(address: SocketAddr, registry: &Registry, page: &PageFiles, startup: Duration) {
    let url = local_url(address);
    // An absolute path, because the command may be pasted into a terminal with another working directory.
    let photo = first_photo(Path::new(SAMPLES)).and_then(|photo| photo.canonicalize().ok());
    let photo = photo.unwrap_or_else(|| "PHOTO.jpg".into());
    let mut text = format!("ready after {:.1} s\n", startup.as_secs_f64());
    let models = registry.current();
    for model in models.iter() {
        let metadata = &model.metadata;
        let default = if models.is_default(model) { ", default" } else { "" };
        text += &format!(
            "  {}: {}, {} classes{default}\n",
            model.name(),
            metadata.architecture.name(),
            metadata.labels.len()
        );
    }
    for (name, error) in registry.failures() {
        text += &format!("  {name}: not served: {error}\n");
    }
    let browser = match page {
        PageFiles::Folder(folder) if !page.is_available() => {
            format!("{url}, once the page is built in {}", folder.display())
        }
        PageFiles::Embedded if !page.is_available() => {
            "not available, because the server was built without the page".into()
        }
        _ => url.clone(),
    };
    text +=
        &format!("\nIn a browser:  {browser}\nIn a terminal: curl -F 'file=@\"{}\"' {url}/predict\n", photo.display());
    print(&text);
}

/// Prints to stdout, and ignores errors, because stdout may be closed.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Returns a URL that can be opened on this machine: an unspecified address becomes the loopback address.
fn local_url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => (),
    }
    format!("http://{address}")
}

/// Returns the JPEG file of a folder that comes first by name.
fn first_photo(folder: &Path) -> Option<PathBuf> {
    let files = folder.read_dir().ok()?.flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jpg")).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_become_loopback_urls() {
        for (bound, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
        ] {
            assert_eq!(local_url(bound.parse().unwrap()), expected);
        }
    }

    #[test]
    fn finds_the_first_photo_of_a_folder_if_any() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(first_photo(folder.path()), None);
        for name in ["README.md", "cat.jpg", "coffee.jpg"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(first_photo(folder.path()), Some(folder.path().join("cat.jpg")));
        assert_eq!(first_photo(&folder.path().join("absent")), None);
    }
}
