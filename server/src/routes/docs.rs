//! `GET /docs` and `GET /openapi.json`: documentation of the API, for people and for programs, generated from the
//! registered routes.
//!
//! `utoipa-swagger-ui` was considered: it is a large JavaScript application and needs a weaker Content-Security-Policy.

use crate::static_asset::StaticAsset;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use utoipa::openapi::OpenApi;

/// Content security policy of the page, which has a style sheet and no scripts.
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

/// Prefix of references to schemas.
const SCHEMA_PREFIX: &str = "#/components/schemas/";

/// The documentation, generated once.
pub struct Docs {
    page: StaticAsset,
    document: StaticAsset,
}

impl Docs {
    pub fn new(api: &OpenApi) -> Self {
        let json = serde_json::to_string_pretty(api).expect("an OpenAPI document serializes to JSON");
        let page = render_page(&serde_json::from_str(&json).expect("the JSON was serialized above"));
        Docs {
            page: StaticAsset::revalidated(page.clone().into(), "text/html; charset=utf-8", &sha256_hex(&page)),
            document: StaticAsset::revalidated(json.clone().into(), "application/json", &sha256_hex(&json)),
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

fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

fn render_page(api: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title}</h1>{description}\
         <p>OpenAPI document: <a href=\"openapi.json\">openapi.json</a></p>",
        title = escaped_text(&api["info"]["title"]),
        description = paragraphs(&api["info"]["description"]),
    );
    let mut tags: Vec<&Value> = Vec::new();
    for_each_operation(api, |_, _, operation| {
        if !tags.contains(&&operation["tags"][0]) {
            tags.push(&operation["tags"][0]);
        }
    });
    for tag in tags {
        let _ = write!(html, "<h2>{}</h2>", escaped_text(tag));
        for_each_operation(api, |path, method, operation| {
            if operation["tags"][0] == *tag {
                html += &render_operation(api, path, method, operation);
            }
        });
    }
    html
}

fn for_each_operation<'a>(api: &'a Value, mut visit: impl FnMut(&'a str, &'a str, &'a Value)) {
    let paths = api["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        methods.as_object().into_iter().flatten().for_each(|(method, operation)| visit(path, method, operation));
    }
}

fn render_operation(api: &Value, path: &str, method: &str, operation: &Value) -> String {
    let id = escaped_text(&operation["operationId"]);
    let method = method.to_uppercase();
    let mut html = format!("<article id=\"{id}\"><h3><b>{method}</b> <a href=\"#{id}\">{}</a></h3>", escaped(path));
    html += &paragraphs(&operation["summary"]);
    html += &paragraphs(&operation["description"]);
    if operation.get("security").is_some() {
        html += "<p>Requires the admin token.</p>";
    }
    let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| {
        let name = format!("{} ({})", escaped_text(&parameter["name"]), escaped_text(&parameter["in"]));
        (name, formatted_text(&parameter["description"]))
    });
    html += &render_table("Parameters", parameters);
    html += &render_schemas(api, "Request body", &operation["requestBody"]["content"]);
    let responses = operation["responses"].as_object().into_iter().flatten();
    let responses = responses.map(|(status, response)| {
        let content_types = response["content"].as_object().into_iter().flatten().map(|(kind, _)| escaped(kind));
        let content_types: Vec<String> = content_types.collect();
        (escaped(status), [formatted_text(&response["description"]), content_types.join(", ")].join(" "))
    });
    html += &render_table("Responses", responses);
    html += &render_schemas(api, "Response body", &operation["responses"]["200"]["content"]);
    html + "</article>"
}

fn render_table(title: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: String = rows.map(|(name, description)| format!("<tr><td>{name}<td>{description}")).collect();
    if rows.is_empty() {
        rows
    } else {
        format!("<details open><summary>{title}</summary><table>{rows}</table></details>")
    }
}

/// Renders the schema of each content type, with all schemas that it refers to.
fn render_schemas(api: &Value, title: &str, content: &Value) -> String {
    let mut html = String::new();
    for (content_type, body) in content.as_object().into_iter().flatten() {
        let mut schemas = vec![body["schema"].clone()];
        let mut names = Vec::new();
        let mut index = 0;
        while index < schemas.len() {
            visit_references(&schemas[index].clone(), &mut |name| {
                if !names.contains(name) {
                    names.push(name.clone());
                    schemas.push(api["components"]["schemas"][name.as_str()].clone());
                }
            });
            index += 1;
        }
        let mut json = serde_json::to_string_pretty(&schemas[0]).expect("a value serializes to JSON");
        for (name, schema) in names.iter().zip(&schemas[1..]) {
            let schema = serde_json::to_string_pretty(schema).expect("a value serializes to JSON");
            let _ = write!(json, "\n\n{name} = {schema}");
        }
        let json = escaped(&json.replace(SCHEMA_PREFIX, ""));
        let _ =
            write!(html, "<details><summary>{title}: {}</summary><pre>{json}</pre></details>", escaped(content_type));
    }
    html
}

/// Calls `visit` with the name of every schema that `schema` refers to.
fn visit_references(schema: &Value, visit: &mut impl FnMut(&String)) {
    match schema {
        Value::Object(members) => members.iter().for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(path)) => visit(&path.replace(SCHEMA_PREFIX, "")),
            _ => visit_references(value, visit),
        }),
        Value::Array(values) => values.iter().for_each(|value| visit_references(value, visit)),
        _ => (),
    }
}

fn paragraphs(value: &Value) -> String {
    let text = formatted_text(value);
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(|paragraph| format!("<p>{paragraph}</p>")).collect()
}

/// Escapes a text and renders what is between backticks as code.
fn formatted_text(value: &Value) -> String {
    let text = escaped_text(value);
    let (mut html, mut rest) = (String::new(), &*text);
    while let Some((before, after)) = rest.split_once('`')
        && let Some((code, after)) = after.split_once('`')
    {
        let _ = write!(html, "{before}<code>{code}</code>");
        rest = after;
    }
    html + rest
}

fn escaped_text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{app, get};
    use serde_json::json;

    /// `SHORTCUT_BLESS=1 cargo test --release --lib openapi` regenerates the file.
    #[tokio::test]
    async fn openapi_json_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let actual = get(&app(), "/openapi.json").await.body;
        if std::env::var_os("SHORTCUT_BLESS").is_some() {
            std::fs::write(path, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            actual == expected,
            "server/openapi.json is out of date; regenerate it with SHORTCUT_BLESS=1 cargo test --release --lib openapi"
        );
    }

    #[tokio::test]
    async fn page_documents_every_operation() {
        let document = get(&app(), "/openapi.json").await.json();
        let page = get(&app(), "/docs").await;
        assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(page.body.contains(&format!(">{path}</a>")), "{path}");
        }
        assert!(page.body.contains("x-timeout-ms") && !page.body.contains("<script"));
        assert!(page.body.contains("as listed by <code>/models</code>"));
    }

    #[test]
    fn text_between_backticks_is_code() {
        assert_eq!(formatted_text(&json!("`a<b>` or `c`.")), "<code>a&lt;b&gt;</code> or <code>c</code>.");
        assert_eq!(formatted_text(&json!("one ` is kept")), "one ` is kept");
    }
}
