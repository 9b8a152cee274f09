//! Checks the files in `server/deploy` against the built server: the metrics, settings and routes that they name exist.
//! Does not need a container engine, a cluster or Grafana; the files state what was verified with those.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;
use tests::server::{self, Server};
use tests::workspace;

const MANIFESTS: [&str; 2] = ["kubernetes.yaml", "kserve.yaml"];
const FILES: [&str; 7] = [
    "README.md",
    "Containerfile",
    "Containerfile.cuda",
    "kubernetes.yaml",
    "kserve.yaml",
    "nginx.conf",
    "grafana.json",
];

/// Flags of other programs. Flags that are neither here nor in the server's help are spelling mistakes.
const OTHER_FLAGS: [&str; 11] = [
    "--device",
    "--features",
    "--from",
    "--from-literal",
    "--gpus",
    "--help",
    "--locked",
    "--no-install-recommends",
    "--read-only",
    "--release",
    "--rm",
];
/// Environment variables of other programs.
const OTHER_VARIABLES: [&str; 2] = ["CUDA_PATH", "CUDARC_CUDA_VERSION"];

/// Keywords and functions of PromQL and Grafana, and labels that Prometheus adds.
const QUERY_KEYWORDS: [&str; 11] =
    ["and", "by", "histogram_quantile", "instance", "job", "label_values", "on", "or", "rate", "sum", "vector"];

/// Routes that are not in the OpenAPI document.
const PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

#[test]
fn all_files_are_checked() -> Result<()> {
    assert_eq!(workspace::file_names("server/deploy")?, FILES.iter().map(ToString::to_string).collect());
    Ok(())
}

#[test]
fn settings_exist() -> Result<()> {
    let settings = Settings::from_help()?;
    for name in FILES {
        let text = read(name)?;
        for flag in flags(&text) {
            let exists = settings.flags.contains(flag) || OTHER_FLAGS.contains(&flag);
            ensure!(exists, "{name} names {flag}, which is not in `server --help`");
        }
        for variable in variables(&text) {
            let exists = settings.variables.contains(variable) || OTHER_VARIABLES.contains(&variable);
            ensure!(exists, "{name} names {variable}, which is not in `server --help`");
        }
    }
    Ok(())
}

/// The server rejects invalid values at startup.
#[test]
fn server_starts_with_the_settings_of_the_manifests() -> Result<()> {
    for name in MANIFESTS {
        let arguments = arguments(name)?;
        ensure!(arguments.len() > 3, "{name}: {arguments:?}");
        // The address and the model folder exist only in the cluster.
        let arguments = arguments.into_iter().filter(|(flag, _)| !["--listen", "--models"].contains(&flag.as_str()));
        let arguments = arguments.flat_map(|(flag, value)| [flag, value]).chain(server::small_model());
        Server::start_with(arguments).with_context(|| format!("with the settings of {name}"))?;
    }
    Ok(())
}

#[test]
fn termination_grace_period_exceeds_shutdown_time() -> Result<()> {
    for name in MANIFESTS {
        let arguments = arguments(name)?;
        let seconds = |flag: &str| -> Result<u64> {
            let argument = arguments.iter().find(|(name, _)| name == flag);
            let (_, value) = argument.with_context(|| format!("{name} does not set {flag}"))?;
            value.strip_suffix('s').and_then(|number| number.parse().ok()).with_context(|| format!("{flag} {value}"))
        };
        let text = read(name)?;
        let period = text.split("terminationGracePeriodSeconds:").nth(1).and_then(|rest| rest.lines().next());
        let period = period.with_context(|| format!("{name} does not set terminationGracePeriodSeconds"))?;
        let period: u64 = period.trim().parse()?;
        let shutdown = seconds("--shutdown-delay")? + seconds("--shutdown-grace")?;
        ensure!(period > shutdown, "{name}: terminates after {period} s, but shutdown takes up to {shutdown} s");
    }
    Ok(())
}

#[test]
fn routes_exist() -> Result<()> {
    let document = workspace::read("server/openapi.json")?;
    let document: Value = serde_json::from_str(&document)?;
    let routes: Vec<&str> = document["paths"].as_object().context("no paths")?.keys().map(String::as_str).collect();
    let server = Server::start_small()?;
    for name in MANIFESTS {
        let text = read(name)?;
        let probed: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split("path: ").skip(1))
            .filter_map(|rest| rest.split([',', ' ', '"', '}']).next())
            .collect();
        ensure!(probed.len() >= 3, "{name} probes only {probed:?}");
        for path in probed {
            ensure!(routes.contains(&path), "{name} probes {path}, which is not in openapi.json");
            let status = get(&server, path)?.status();
            ensure!(status == 200, "{name} probes {path}, which returns {status}");
        }
    }

    let nginx = read("nginx.conf")?;
    let directives = || nginx.lines().map(str::trim);
    let locations = directives().filter_map(|line| line.strip_prefix("location ")?.strip_suffix(" {"));
    let locations: Vec<&str> = locations.filter(|location| !location.starts_with('@')).collect();
    ensure!(locations.len() >= 4, "nginx.conf has only the locations {locations:?}");
    let proxied = directives().filter_map(|line| line.strip_prefix("proxy_pass http://shortcut")?.strip_suffix(';'));
    for location in locations.into_iter().chain(proxied) {
        let exists = match location.strip_prefix("= ") {
            Some(path) => routes.contains(&path) || PAGES.contains(&path),
            // A route, or a prefix of one that ends at a slash.
            None => routes.iter().chain(&PAGES).any(|route| {
                route
                    .strip_prefix(location)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || location.ends_with('/'))
            }),
        };
        ensure!(exists, "nginx.conf names {location}, which is not in openapi.json");
    }
    Ok(())
}

#[test]
fn metrics_of_the_dashboard_exist() -> Result<()> {
    let server = Server::start_small()?;
    // Metrics with labels appear with their first value: send a photo and an invalid request.
    let client = reqwest::blocking::Client::new();
    for (body, status) in [(fs::read(workspace::sample("cat.jpg"))?, 200), (b"no photo".to_vec(), 415)] {
        let response = client.post(format!("{}/predict", server.url())).body(body).send()?;
        ensure!(response.status() == status, "{} instead of {status}", response.status());
    }
    let metrics = get(&server, "/metrics")?.text()?;
    let (metrics, labels) = metrics_and_labels(&metrics);

    let dashboard: Value = serde_json::from_str(&read("grafana.json")?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("panel without a title")?;
        let targets = panel["targets"].as_array();
        ensure!(targets.is_some() != (panel["type"] == "row"), "panel {title:?} has no targets");
        for target in targets.into_iter().flatten() {
            let query = target["expr"].as_str().with_context(|| format!("panel {title:?} has no query"))?;
            queries.push((title, query));
            for label in target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap_or(label);
                ensure!(
                    label == "instance" || labels.contains(label),
                    "panel {title:?} names the unknown label {label}"
                );
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
        if variable["type"] == "query" {
            queries.push(("variable", variable["query"].as_str().context("variable without a query")?));
        }
    }
    ensure!(queries.len() > 20, "the dashboard has only {} queries", queries.len());
    for (title, query) in queries {
        ensure!(words(query).any(|word| metrics.contains(word)), "{title}: no metric in the query {query}");
        for word in words(query) {
            let exists = metrics.contains(word) || labels.contains(word) || QUERY_KEYWORDS.contains(&word);
            ensure!(exists, "{title} names {word}, which is not in /metrics: {query}");
        }
    }
    Ok(())
}

/// Checks for common mistakes, because a YAML parser is not worth a dependency for two files.
#[test]
fn manifests_are_well_formed() -> Result<()> {
    for name in MANIFESTS {
        for (number, line) in (1..).zip(read(name)?.lines()) {
            let content = line.trim_start_matches(' ');
            if content.is_empty() || content.starts_with('#') || content == "---" {
                continue;
            }
            let error = |mistake: &str| format!("{name}:{number}: {mistake}: {line}");
            ensure!((line.len() - content.len()) % 2 == 0, error("odd number of spaces in the indentation"));
            ensure!(!line.contains('\t') && line.trim_end() == line, error("tab or trailing space"));
            let count = |character: char| line.matches(character).count();
            let is_balanced = count('{') == count('}') && count('[') == count(']') && count('"') % 2 == 0;
            ensure!(is_balanced, error("unbalanced brackets or quotes"));
            let is_pair = content.ends_with(':') || content.contains(": ") || content.contains('=');
            ensure!(is_pair, error("neither a key nor a flag"));
        }
    }
    Ok(())
}

/// The settings that `server --help` lists.
struct Settings {
    flags: BTreeSet<String>,
    variables: BTreeSet<String>,
}

impl Settings {
    fn from_help() -> Result<Self> {
        let help = server::command()?.arg("--help").output()?;
        let help = String::from_utf8(help.stdout)?;
        // Only lines that define flags, because the examples contain flags of curl.
        let definitions = || help.lines().map(str::trim).filter(|line| line.starts_with('-'));
        let flags: BTreeSet<_> = definitions().flat_map(flags).map(str::to_owned).collect();
        let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        let variables: BTreeSet<_> = variables.map(str::to_owned).collect();
        ensure!(flags.contains("--listen") && variables.contains("SHORTCUT_LISTEN"), "{flags:?} {variables:?}");
        Ok(Settings { flags, variables })
    }
}

/// Returns the settings of a manifest as flags with values, whether they are environment variables or arguments there.
fn arguments(name: &str) -> Result<Vec<(String, String)>> {
    let text = read(name)?;
    let settings = text.lines().map(str::trim).filter_map(|line| {
        if let Some(rest) = line.strip_prefix("- { name: SHORTCUT_") {
            let (name, value) = rest.split_once(", value: \"")?;
            let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
            Some((flag, value.strip_suffix("\" }")?.to_owned()))
        } else {
            let (flag, value) = line.strip_prefix("- ")?.split_once('=')?;
            flag.starts_with("--").then(|| (flag.to_owned(), value.to_owned()))
        }
    });
    Ok(settings.collect())
}

/// Finds words of the form `--like-this`.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let tokens = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    tokens.filter(|token| {
        token.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
    })
}

/// Finds words of the form `LIKE_THIS`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let tokens = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_variable = |token: &&str| {
        token.contains('_')
            && token.starts_with(|c: char| c.is_ascii_uppercase())
            && !token.contains(|c: char| c.is_ascii_lowercase())
    };
    tokens.filter(is_variable)
}

/// Finds the names of metrics, labels, functions and operators in a query, without strings, numbers and Grafana
/// variables.
fn words(query: &str) -> impl Iterator<Item = &str> {
    let unquoted = query.split('"').step_by(2);
    let tokens = unquoted.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || "_$.".contains(c))));
    tokens.filter(|token| token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// Returns the names of metrics and labels in Prometheus' text format.
fn metrics_and_labels(text: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let metrics = lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let labels = lines().flat_map(|line| line.split("=\"")).filter_map(|part| part.rsplit(['{', ',']).next());
    (metrics, labels.collect())
}

fn get(server: &Server, path: &str) -> Result<reqwest::blocking::Response> {
    let client = reqwest::blocking::Client::builder().timeout(Duration::from_secs(30)).build()?;
    Ok(client.get(format!("{}{path}", server.url())).send()?)
}

fn read(name: &str) -> Result<String> {
    workspace::read(&format!("server/deploy/{name}"))
}
