//! Fills `index.html`: replaces the `<link data-trunk>` tags, as trunk does, and copies the files that they name.
//!
//! `lol_html` was considered: the only document is our own page, so that no complete HTML parser is needed. Unknown tags are
//! errors.

use crate::output::{copy_folder, copy_hashed};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

/// Returns the document with references to the files that it writes into `folder`. Paths in the tags are relative to `web`;
/// `bindings` contains `page.js` and `page_bg.wasm`.
pub fn fill(html: &str, web: &Path, bindings: &Path, folder: &Path) -> Result<String> {
    let mut filled = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find("<link") {
        let end = start + rest[start..].find('>').context("a <link> tag is not closed")? + 1;
        let tag = &rest[start..end];
        filled.push_str(&rest[..start]);
        if tag.contains("data-trunk") {
            filled.push_str(&replace(tag, web, bindings, folder).with_context(|| tag.to_owned())?);
        } else {
            filled.push_str(tag);
        }
        rest = &rest[end..];
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Returns the tags that replace a tag of trunk, and writes the files to which it refers.
fn replace(tag: &str, web: &Path, bindings: &Path, folder: &Path) -> Result<String> {
    let href = web.join(attribute(tag, "href").context("no href")?);
    let tags = match attribute(tag, "rel").context("no rel")? {
        "icon" => {
            let mime = attribute(tag, "type").context("no type")?;
            format!("<link rel=\"icon\" href=\"./{}\" type=\"{mime}\" />", copy_hashed(&href, folder)?)
        }
        "css" => format!("<link rel=\"stylesheet\" href=\"./{}\" />", copy_hashed(&href, folder)?),
        "copy-file" => {
            fs::copy(&href, folder.join(href.file_name().context("href names no file")?))?;
            String::new()
        }
        "copy-dir" => {
            copy_folder(&href, &folder.join(href.file_name().context("href names no folder")?))?;
            String::new()
        }
        // The page starts the worker by its fixed name.
        "rust" if attribute(tag, "data-type") == Some("worker") => String::new(),
        "rust" => page_module(bindings, folder)?,
        rel => bail!("unknown rel={rel:?}"),
    };
    Ok(tags)
}

/// Writes the page's module under names that contain the hash of both files, and returns the tags that load it. The
/// server's Content-Security-Policy allows the inline script by its hash.
fn page_module(bindings: &Path, folder: &Path) -> Result<String> {
    let (script, module) = (fs::read(bindings.join("page.js"))?, fs::read(bindings.join("page_bg.wasm"))?);
    let hash = Sha256::new().chain_update(&script).chain_update(&module).finalize();
    let name = format!("page-{}", hex::encode(&hash[..8]));
    fs::write(folder.join(format!("{name}.js")), script)?;
    fs::write(folder.join(format!("{name}_bg.wasm")), module)?;
    Ok(format!(
        "<link rel=\"modulepreload\" href=\"./{name}.js\" />
    <link rel=\"preload\" href=\"./{name}_bg.wasm\" as=\"fetch\" type=\"application/wasm\" crossorigin />
    <script type=\"module\">
      import init from \"./{name}.js\";
      await init({{ module_or_path: \"./{name}_bg.wasm\" }});
    </script>"
    ))
}

/// Returns the value of an attribute of a tag, which is in double quotes.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once("=\"") {
        let (value, remaining) = after.split_once('"')?;
        if before.rsplit(char::is_whitespace).next() == Some(name) {
            return Some(value);
        }
        rest = remaining;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_by_their_complete_names() {
        let tag = "<link\n  data-trunk rel=\"rust\"\n  href=\"worker\" data-type=\"worker\" />";
        assert_eq!(attribute(tag, "data-type"), Some("worker"));
        assert_eq!(attribute(tag, "rel"), Some("rust"));
        assert_eq!(attribute(tag, "type"), None);
    }

    #[test]
    fn tags_are_replaced_and_their_files_written() -> Result<()> {
        let root = tempfile::tempdir()?;
        let [web, bindings, folder] = ["web", "bindings", "folder"].map(|name| root.path().join(name));
        for path in [&web, &bindings, &folder, &root.path().join("samples")] {
            fs::create_dir(path)?;
        }
        fs::write(web.join("style.css"), "p {}")?;
        fs::write(root.path().join("samples/cat.jpg"), "a cat")?;
        fs::write(bindings.join("page.js"), "export default init;")?;
        fs::write(bindings.join("page_bg.wasm"), "a module")?;
        let html = "<head><link rel=\"help\" href=\"kept\">\
            <link data-trunk rel=\"css\" href=\"style.css\" /><link data-trunk rel=\"copy-dir\" href=\"../samples\" />\
            <link data-trunk rel=\"rust\" href=\".\" />\
            <link data-trunk rel=\"rust\" href=\"worker\" data-type=\"worker\" /></head>";
        let filled = fill(html, &web, &bindings, &folder)?;
        let mut files: Vec<_> =
            fs::read_dir(&folder)?.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let [script, module, samples, style] = files.as_slice() else { panic!("{files:?}") };
        assert_eq!(samples, "samples");
        assert!(folder.join("samples/cat.jpg").is_file());
        let expected = format!("<link rel=\"help\" href=\"kept\"><link rel=\"stylesheet\" href=\"./{style}\" />");
        assert!(filled.contains(&expected), "{filled}");
        for file in [script, module] {
            assert!(filled.contains(&format!("\"./{file}\"")), "{file}: {filled}");
        }
        assert!(!filled.contains("data-trunk"), "{filled}");
        Ok(())
    }

    #[test]
    fn unknown_tags_are_rejected() {
        let nowhere = Path::new("nowhere");
        let error = fill("<link data-trunk rel=\"sass\" href=\"a.scss\" />", nowhere, nowhere, nowhere).unwrap_err();
        assert!(format!("{error:#}").contains("unknown rel=\"sass\""), "{error:#}");
    }
}
