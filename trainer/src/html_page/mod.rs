//! The frame of self-contained HTML pages. A content security policy forbids every request, and allows only the page's own
//! style and script, by their hashes; inline `style` attributes are therefore not possible.

pub mod numbers;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

/// A page.
pub struct HtmlPage<'a> {
    pub title: &'a str,
    /// Style sheet of the page, in addition to that of all pages.
    pub style: &'a str,
    /// JavaScript that runs after the page is parsed; may be empty.
    pub script: &'a str,
    /// Content of the page's header, below the title.
    pub header: Markup,
    /// Content of the page.
    pub main: Markup,
}

impl HtmlPage<'_> {
    /// Returns the document.
    pub fn render(self) -> String {
        let HtmlPage { title, style, script, header, main } = self;
        let style = &[include_str!("base.css"), style].concat();
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(content_security_policy(style, script));
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(style)) }
                }
                body {
                    header {
                        h1 { (title) }
                        (header)
                    }
                    main { (main) }
                    @if !script.is_empty() { script { (PreEscaped(script)) } }
                }
            }
        };
        page.into_string()
    }
}

/// Allows the page's own script and style by their hashes, images within the page, and nothing else.
fn content_security_policy(style: &str, script: &str) -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text)));
    let (script, style) = (hash(script), hash(style));
    format!(
        "default-src 'none'; img-src data:; script-src {script}; style-src {style}; base-uri 'none'; form-action 'none'"
    )
}

/// Returns the data URI of a file.
pub fn data_uri(media_type: &str, file: &[u8]) -> String {
    let mut uri = format!("data:{media_type};base64,");
    BASE64_STANDARD.encode_string(file, &mut uri);
    uri
}
