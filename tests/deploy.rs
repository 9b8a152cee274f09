//! What `server/deploy` names is there: metrics, settings and routes of the built server. No container engine, cluster
//! or Grafana is asked; what was tried with other people's programs, the files say themselves.

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

/// Flags and variables of other programs. Whatever is neither among these nor the server's is misspelt.
const FLAGS_OF_OTHERS: [&str; 11] = [
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
const VARIABLES_OF_OTHERS: [&str; 2] = ["CUDA_PATH", "CUDARC_CUDA_VERSION"];

/// What PromQL and Grafana bring along, and labels that Prometheus adds.
const WORDS_OF_QUERIES: [&str; 11] =
    ["and", "by", "histogram_quantile", "instance", "job", "label_values", "on", "or", "rate", "sum", "vector"];

/// The page's, beside those of the OpenAPI document.
const PAGES: [&str; 3] = ["/", "/docs", "/openapi.json"];

#[test]
fn every_file_is_looked_at() -> Result<()> {
    let folder = workspace::root().join("server/deploy");
    let names: Result<BTreeSet<String>, _> =
        folder.read_dir()?.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect();
    assert_eq!(names?, FILES.iter().map(ToString::to_string).collect());
    Ok(())
}

#[test]
fn settings_that_are_named_exist() -> Result<()> {
    let settings = Settings::of_the_server()?;
    for name in FILES {
        let text = read(name)?;
        for flag in flags(&text) {
            let known = settings.flags.contains(flag) || FLAGS_OF_OTHERS.contains(&flag);
            ensure!(known, "{name} names {flag}, which `server --help` does not");
        }
        for variable in variables(&text) {
            let known = settings.variables.contains(variable) || VARIABLES_OF_OTHERS.contains(&variable);
            ensure!(known, "{name} names {variable}, which `server --help` does not");
        }
    }
    Ok(())
}

/// It would refuse values that are none, and it ends as soon as it is ready.
#[test]
fn the_server_starts_with_the_settings_of_the_manifests() -> Result<()> {
    for name in MANIFESTS {
        let arguments = arguments(name)?;
        ensure!(arguments.len() > 3, "{name}: {arguments:?}");
        let models = workspace::root().join("checkpoints").display().to_string();
        // Address and models are those of the cluster.
        let arguments = arguments.into_iter().filter(|(flag, _)| !["--listen", "--models"].contains(&flag.as_str()));
        let arguments = arguments.flat_map(|(flag, value)| [flag, value]).chain(["--models".to_owned(), models]);
        Server::start_with(arguments).with_context(|| format!("with the settings of {name}"))?;
    }
    Ok(())
}

#[test]
fn a_pod_is_given_the_time_that_the_server_takes_to_stop() -> Result<()> {
    for name in MANIFESTS {
        let arguments = arguments(name)?;
        let seconds = |flag: &str| -> Result<u64> {
            let found = arguments.iter().find(|(name, _)| name == flag);
            let (_, value) = found.with_context(|| format!("{name}: no {flag}"))?;
            value.strip_suffix('s').and_then(|number| number.parse().ok()).with_context(|| format!("{flag} {value}"))
        };
        let text = read(name)?;
        let given = text.split("terminationGracePeriodSeconds:").nth(1).and_then(|rest| rest.lines().next());
        let given: u64 = given.with_context(|| format!("{name}: how long?"))?.trim().parse()?;
        let taken = seconds("--shutdown-delay")? + seconds("--shutdown-grace")?;
        ensure!(given > taken, "{name}: the pod is ended after {given} s, the server takes up to {taken} s");
    }
    Ok(())
}

#[test]
fn routes_that_are_named_exist() -> Result<()> {
    let document = fs::read_to_string(workspace::root().join("server/openapi.json"))?;
    let document: Value = serde_json::from_str(&document)?;
    let routes: Vec<&str> = document["paths"].as_object().context("no paths")?.keys().map(String::as_str).collect();
    let server = Server::start()?;
    for name in MANIFESTS {
        let text = read(name)?;
        let probed: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(|line| line.split("path: ").skip(1))
            .filter_map(|rest| rest.split([',', ' ', '"', '}']).next())
            .collect();
        ensure!(probed.len() >= 3, "{name} probes nothing but {probed:?}");
        for path in probed {
            ensure!(routes.contains(&path), "{name} probes {path}, which openapi.json does not know");
            let status = get(&server, path)?.status();
            ensure!(status == 200, "{name} probes {path}, which answers {status}");
        }
    }

    let nginx = read("nginx.conf")?;
    let directives = || nginx.lines().map(str::trim);
    let locations = directives().filter_map(|line| line.strip_prefix("location ")?.strip_suffix(" {"));
    let locations: Vec<&str> = locations.filter(|location| !location.starts_with('@')).collect();
    ensure!(locations.len() >= 4, "nginx.conf has no locations but {locations:?}");
    let passed = directives().filter_map(|line| line.strip_prefix("proxy_pass http://shortcut")?.strip_suffix(';'));
    for location in locations.into_iter().chain(passed) {
        let known = match location.strip_prefix("= ") {
            Some(path) => routes.contains(&path) || PAGES.contains(&path),
            // Whole, or up to a slash.
            None => routes.iter().chain(&PAGES).any(|route| {
                route
                    .strip_prefix(location)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || location.ends_with('/'))
            }),
        };
        ensure!(known, "nginx.conf names {location}, which openapi.json does not know");
    }
    Ok(())
}

#[test]
fn metrics_that_are_drawn_exist() -> Result<()> {
    let server = Server::start()?;
    // Metrics with labels show with the first value: a prediction, and a refusal.
    let client = reqwest::blocking::Client::new();
    for (body, status) in [(fs::read(workspace::sample("cat.jpg"))?, 200), (b"no photo".to_vec(), 415)] {
        let answer = client.post(format!("{}/predict", server.url())).body(body).send()?;
        ensure!(answer.status() == status, "{}", answer.status());
    }
    let metrics = get(&server, "/metrics")?.text()?;
    let (metrics, labels) = samples(&metrics);

    let dashboard: Value = serde_json::from_str(&read("grafana.json")?)?;
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().context("no panels")? {
        let title = panel["title"].as_str().context("a panel without a title")?;
        let targets = panel["targets"].as_array();
        ensure!(targets.is_some() != (panel["type"] == "row"), "{title} shows nothing");
        for target in targets.into_iter().flatten() {
            queries.push((title, target["expr"].as_str().with_context(|| format!("{title} has no query"))?));
            for label in target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap_or(label);
                ensure!(label == "instance" || labels.contains(label), "{title} names the label {label}");
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().context("no variables")? {
        if variable["type"] == "query" {
            queries.push(("a variable", variable["query"].as_str().context("a variable without a query")?));
        }
    }
    ensure!(queries.len() > 20, "there are {} queries", queries.len());
    for (title, query) in queries {
        ensure!(words(query).any(|word| metrics.contains(word)), "{title} asks for nothing: {query}");
        for word in words(query) {
            let known = metrics.contains(word) || labels.contains(word) || WORDS_OF_QUERIES.contains(&word);
            ensure!(known, "{title} names {word}, which /metrics does not: {query}");
        }
    }
    Ok(())
}

/// No parser of YAML is worth a dependency for two files: what people get wrong in it is looked for.
#[test]
fn the_manifests_are_indented_and_closed() -> Result<()> {
    for name in MANIFESTS {
        for (number, line) in (1..).zip(read(name)?.lines()) {
            let content = line.trim_start_matches(' ');
            if content.is_empty() || content.starts_with('#') || content == "---" {
                continue;
            }
            let wrong = |what: &str| format!("{name}, line {number}, {what}: {line}");
            ensure!((line.len() - content.len()) % 2 == 0, wrong("is indented by an odd number of spaces"));
            ensure!(!line.contains('\t') && line.trim_end() == line, wrong("has a tab, or ends in space"));
            let count = |one: char| line.matches(one).count();
            let closed = count('{') == count('}') && count('[') == count(']') && count('"') % 2 == 0;
            ensure!(closed, wrong("does not close what it opens"));
            let is_pair = content.ends_with(':') || content.contains(": ") || content.contains('=');
            ensure!(is_pair, wrong("is neither a key nor a flag"));
        }
    }
    Ok(())
}

/// What `server --help` lists.
struct Settings {
    flags: BTreeSet<String>,
    variables: BTreeSet<String>,
}

impl Settings {
    fn of_the_server() -> Result<Self> {
        let help = server::command()?.arg("--help").output()?;
        let help = String::from_utf8(help.stdout)?;
        // Its examples name flags of curl.
        let definitions = || help.lines().map(str::trim).filter(|line| line.starts_with('-'));
        let flags: BTreeSet<_> = definitions().flat_map(flags).map(str::to_owned).collect();
        let variables = help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next());
        let variables: BTreeSet<_> = variables.map(str::to_owned).collect();
        ensure!(flags.contains("--listen") && variables.contains("SHORTCUT_LISTEN"), "{flags:?} {variables:?}");
        Ok(Settings { flags, variables })
    }
}

/// The settings that a manifest gives values to, in its environment or its arguments, as flags.
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

/// `--like-this`
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let tokens = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    tokens.filter(|token| {
        token.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
    })
}

/// `LIKE_THIS`
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let tokens = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_variable = |token: &&str| {
        token.contains('_')
            && token.starts_with(|c: char| c.is_ascii_uppercase())
            && !token.contains(|c: char| c.is_ascii_lowercase())
    };
    tokens.filter(is_variable)
}

/// Names of metrics and labels, functions and operators in a query: no text, no number, no variable of Grafana's.
fn words(query: &str) -> impl Iterator<Item = &str> {
    let unquoted = query.split('"').step_by(2);
    let tokens = unquoted.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || "_$.".contains(c))));
    tokens.filter(|token| token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// Names of metrics and of labels in Prometheus' text format.
fn samples(text: &str) -> (BTreeSet<&str>, BTreeSet<&str>) {
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
    let path = workspace::root().join("server/deploy").join(name);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}
