//! Sources of settings, their precedence, and how they are logged.

use crate::http::{form, photo, send};
use crate::test_server::terminate;
use anyhow::{Context, Result, ensure};
use reqwest::blocking::Client;
use std::io::Read;
use std::process::Stdio;
use tests::server::{self, Server};

const FILE: &str = r#"
api-keys = ["of-file"]
cors-origins = "https://of-file.example"
max-photos = 1
"#;

/// Flags override environment variables, which override the file.
pub fn precedence() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("server.toml");
    std::fs::write(&file, FILE)?;
    let mut command = server::command()?;
    command.env("SHORTCUT_CONFIG", &file).env("SHORTCUT_MAX_PHOTOS", "2").env("SHORTCUT_API_KEYS", "of-variable");
    command.args(["--api-keys", "of-flag", "--log", "info"]).args(server::small_model()).stderr(Stdio::piped());
    let mut server = Server::run(command)?;
    let mut log = server.process().stderr.take().context("no stderr")?;

    let client = Client::new();
    let predict = |photos: usize, key: &str| -> Result<_> {
        let photos = (0..photos).map(|_| photo("cat.jpg")).collect::<Result<Vec<_>>>()?;
        let request = client.post(format!("{}/predict", server.url())).multipart(form(photos));
        send(request.header("x-api-key", key).header("origin", "https://of-file.example"))
    };
    for key in ["of-file", "of-variable"] {
        predict(1, key)?.expect_error(403, "forbidden").context(key)?;
    }
    predict(3, "of-flag")?.expect_error(413, "too_large")?;
    let response = predict(2, "of-flag")?;
    response.json(200)?;
    let origin = response.header("access-control-allow-origin");
    ensure!(origin == "https://of-file.example", "{:?}", response.headers);

    terminate(server.process())?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    for line in [
        &format!("# config = {file:?}  # environment"),
        "cors-origins = \"https://of-file.example\"  # file",
        "max-photos = \"2\"  # environment",
        "# api-keys = \"***\"  # flag",
        "queue-size = \"512\"  # default",
        "# models is not set",
    ] {
        ensure!(text.lines().any(|other| other == line), "no {line} in {text}");
    }
    ensure!(!text.contains("of-flag"), "{text}");
    Ok(())
}
