//! `GET /docs` and `GET /openapi.json`: the interface described, for people and for programs, from what the routes are
//! registered with.

use crate::content::Content;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use utoipa::openapi::OpenApi;

/// The page has a style and nothing that runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'";

const STYLE: &str = "
  :root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
  body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
  article { border-top: 1px solid color-mix(in srgb, currentColor 25%, transparent); padding: 1rem 0 }
  h3 { margin: 0; font: 600 1rem ui-monospace, monospace; overflow-wrap: anywhere }
  h3 b { display: inline-block; min-width: 3.5rem }
  h3 a { color: inherit; text-decoration: none }
  table { border-collapse: collapse; width: 100% }
  td { padding: .2rem 1rem .2rem 0; vertical-align: top }
  td:first-child { white-space: nowrap; font-family: ui-monospace, monospace }
  pre { overflow: auto; padding: .8rem; background: color-mix(in srgb, currentColor 7%, transparent); border-radius: .4rem }
  summary { cursor: pointer }";

/// Both, made once.
pub struct Docs {
    page: Content,
    document: Content,
}

impl Docs {
    pub fn new(api: &OpenApi) -> Self {
        let json = serde_json::to_string_pretty(api).expect("an OpenAPI document is JSON");
        let page = page(&serde_json::from_str(&json).expect("it was written just now"));
        Docs {
            page: Content::revalidated(page.clone().into(), "text/html; charset=utf-8", &hash(&page)),
            document: Content::revalidated(json.clone().into(), "application/json", &hash(&json)),
        }
    }

    pub fn page(&self, method: &Method, headers: &HeaderMap) -> Response {
        let mut response = self.page.respond(method, headers);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        response
    }

    pub fn document(&self, method: &Method, headers: &HeaderMap) -> Response {
        self.document.respond(method, headers)
    }
}

fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn page(api: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{description}\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a></p>",
        title = text(&api["info"]["title"]),
        description = paragraphs(&api["info"]["description"]),
    );
    let mut tags: Vec<&Value> = Vec::new();
    each_operation(api, |_, _, operation| {
        if !tags.contains(&&operation["tags"][0]) {
            tags.push(&operation["tags"][0]);
        }
    });
    for tag in tags {
        let _ = write!(html, "<h2>{}</h2>", text(tag));
        each_operation(api, |path, method, operation| {
            if operation["tags"][0] == *tag {
                html += &article(api, path, method, operation);
            }
        });
    }
    html
}

fn each_operation<'a>(api: &'a Value, mut visit: impl FnMut(&'a str, &'a str, &'a Value)) {
    let paths = api["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        methods.as_object().into_iter().flatten().for_each(|(method, operation)| visit(path, method, operation));
    }
}

fn article(api: &Value, path: &str, method: &str, operation: &Value) -> String {
    let id = text(&operation["operationId"]);
    let method = method.to_uppercase();
    let mut html = format!("<article id=\"{id}\"><h3><b>{method}</b> <a href=\"#{id}\">{}</a></h3>", escaped(path));
    html += &paragraphs(&operation["summary"]);
    html += &paragraphs(&operation["description"]);
    if operation.get("security").is_some() {
        html += "<p>Takes the admin token.</p>";
    }
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
        let place = format!("{} ({})", text(&parameter["name"]), text(&parameter["in"]));
        (place, text(&parameter["description"]))
    });
    html += &table("Parameters", parameters);
    html += &bodies(api, "Body", &operation["requestBody"]["content"]);
    let responses = operation["responses"].as_object().into_iter().flatten();
    let responses = responses.map(|(status, response)| {
        let kinds = response["content"].as_object().into_iter().flatten().map(|(kind, _)| escaped(kind));
        let kinds: Vec<String> = kinds.collect();
        (escaped(status), [text(&response["description"]), kinds.join(", ")].join(" "))
    });
    html += &table("Answers", responses);
    html += &bodies(api, "Answer", &operation["responses"]["200"]["content"]);
    html + "</article>"
}

fn table(title: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: String = rows.map(|(name, words)| format!("<tr><td>{name}<td>{words}")).collect();
    if rows.is_empty() {
        rows
    } else {
        format!("<details open><summary>{title}</summary><table>{rows}</table></details>")
    }
}

/// The schemas of what may be sent or comes back, with everything that they name.
fn bodies(api: &Value, title: &str, content: &Value) -> String {
    let mut html = String::new();
    for (kind, body) in content.as_object().into_iter().flatten() {
        let mut schemas = vec![body["schema"].clone()];
        let mut named = Vec::new();
        let mut index = 0;
        while index < schemas.len() {
            references(&schemas[index].clone(), &mut |name| {
                if !named.contains(name) {
                    named.push(name.clone());
                    schemas.push(api["components"]["schemas"][name.as_str()].clone());
                }
            });
            index += 1;
        }
        let mut shown = serde_json::to_string_pretty(&schemas[0]).expect("a value is JSON");
        for (name, schema) in named.iter().zip(&schemas[1..]) {
            let _ = write!(shown, "\n\n{name} = {}", serde_json::to_string_pretty(schema).expect("a value is JSON"));
        }
        let shown = escaped(&shown.replace("#/components/schemas/", ""));
        let _ = write!(html, "<details><summary>{title}: {}</summary><pre>{shown}</pre></details>", escaped(kind));
    }
    html
}

fn references(schema: &Value, found: &mut impl FnMut(&String)) {
    match schema {
        Value::Object(members) => members.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(path)) => found(&path.replace("#/components/schemas/", "")),
            _ => references(value, found),
        }),
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => (),
    }
}

fn paragraphs(words: &Value) -> String {
    let words = text(words);
    let each = words.split("\n\n").filter(|words| !words.is_empty()).map(|words| format!("<p>{words}</p>"));
    each.collect()
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use crate::fixture::{app, get};

    /// `SHORTCUT_BLESS=1 cargo test` writes it anew.
    #[tokio::test]
    async fn the_document_is_the_one_that_was_read() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let found = get(&app(), "/openapi.json").await.body;
        if std::env::var_os("SHORTCUT_BLESS").is_some() {
            std::fs::write(path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == expected, "server/openapi.json is out of date; SHORTCUT_BLESS=1 writes it anew");
    }

    #[tokio::test]
    async fn every_operation_is_on_the_page() {
        let document = get(&app(), "/openapi.json").await.json();
        let page = get(&app(), "/docs").await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(page.body.contains(&format!(">{path}</a>")), "{path}");
        }
        assert!(page.body.contains("x-timeout-ms") && !page.body.contains("<script"));
    }
}
