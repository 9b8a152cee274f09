//! Downloads that are interrupted, stall, change, or have wrong headers.

use crate::server::{Request, ScriptedResponse, Server};
use crate::torchvision::{ETAG, FILE, NAME, reliable_server, resnet18};
use crate::{cached_files, expect_failure, expect_success, fetch, unreachable_server};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// Number of bytes after which most of the downloads are interrupted. The whole file has 4.7 MB.
const HALF: usize = 2_000_000;

/// Starts a server whose `script` receives the number of the request, the request, and the file.
fn server(script: impl Fn(usize, &Request, &[u8]) -> ScriptedResponse + Send + 'static) -> Server {
    let file = resnet18();
    Server::start(move |number, request| script(number, request, &file))
}

/// Returns the first byte of the range of each request, or `None` for requests without a range.
fn range_starts(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(Request::start).collect()
}

/// Asserts that the cache contains the complete file, and no partial download.
fn assert_complete(root: &Path) {
    assert_eq!(cached_files(root, "downloads"), [FILE], "no partial download is left");
    assert!(fs::read(root.join("cache/downloads").join(FILE)).unwrap() == resnet18());
}

/// Creates the partial download that an earlier process left, with these bytes and their ETag.
fn leave_partial(root: &Path, bytes: &[u8], etag: Option<&str>) {
    let downloads = root.join("cache/downloads");
    fs::create_dir_all(&downloads).unwrap();
    fs::write(downloads.join(format!("{FILE}.part")), bytes).unwrap();
    if let Some(etag) = etag {
        fs::write(downloads.join(format!("{FILE}.part.etag")), etag).unwrap();
    }
}

#[test]
fn resumes_after_a_lost_connection() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => ScriptedResponse::file(request, file, ETAG).broken_after(HALF),
        1 => ScriptedResponse::file(request, file, ETAG).broken_after(0),
        2 => ScriptedResponse::file(request, file, ETAG).broken_after(1000),
        _ => ScriptedResponse::file(request, file, ETAG),
    });
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "2"]));
    assert!(stderr.contains("connection to 127.0.0.1 was lost") && stderr.contains("(1 of 2)"), "{stderr}");
    assert_eq!(range_starts(&server), [None, Some(HALF), Some(HALF), Some(HALF + 1000)]);
    assert_eq!(server.requests()[1].header("if-range"), Some(ETAG));
    assert_complete(folder.path());
}

#[test]
fn another_process_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => ScriptedResponse::file(request, file, ETAG).broken_after(HALF),
        _ => ScriptedResponse::file(request, file, ETAG),
    });
    let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "0"]));
    assert!(
        stderr.contains("downloaded 2.0 MB of") && stderr.contains("run the same command again to resume"),
        "{stderr}"
    );
    assert_eq!(cached_files(folder.path(), "checkpoints"), [""; 0]);
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("resuming http") && stderr.contains("at 2.0 MB (4.7 MB)"), "{stderr}");
    assert_eq!(range_starts(&server), [None, Some(HALF)]);
    assert_complete(folder.path());
}

#[test]
fn resumes_after_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = server(|number, request, file| match number {
        0 => ScriptedResponse::file(request, file, ETAG).stalled_after(HALF),
        _ => ScriptedResponse::file(request, file, ETAG),
    });
    let mut child = fetch(root, &server.address(), &[NAME]).stderr(Stdio::null()).spawn().unwrap();
    let part = root.join("cache/downloads").join(format!("{FILE}.part"));
    while fs::metadata(&part).map_or(0, |part| part.len()) < HALF as u64 {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    expect_success(&mut fetch(root, &server.address(), &[NAME]));
    assert_eq!(range_starts(&server), [None, Some(HALF)]);
    assert_complete(root);
}

#[test]
fn reconnects_to_a_stalled_server_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => ScriptedResponse::file(request, file, ETAG).stalled_after(HALF),
        _ => ScriptedResponse::file(request, file, ETAG),
    });
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME, "--timeout", "0.5"]));
    assert!(stderr.contains("127.0.0.1 sent no data for 0.5 s"), "{stderr}");
    assert_eq!(range_starts(&server), [None, Some(HALF)]);
    assert_complete(folder.path());
}

#[test]
fn restarts_if_the_server_does_not_support_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, _, file| match number {
        0 => ScriptedResponse::whole(file).broken_after(HALF),
        _ => ScriptedResponse::whole(file),
    });
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("does not support byte ranges"), "{stderr}");
    assert_eq!(range_starts(&server), [None, Some(HALF)]);
    assert_complete(folder.path());
}

#[test]
fn restarts_if_the_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    leave_partial(folder.path(), &vec![7; HALF], Some("\"old\""));
    let current = server(|_, request, file| ScriptedResponse::file(request, file, ETAG));
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &current.address(), &[NAME]));
    assert!(stderr.contains("the file has changed"), "{stderr}");
    assert_eq!(current.requests()[0].header("if-range"), Some("\"old\""));
    assert_eq!(range_starts(&current), [Some(HALF)]);
    assert_complete(folder.path());
}

/// A server may ignore `If-Range`, or send another range than the requested one.
#[test]
fn restarts_if_the_range_belongs_to_another_version() {
    for (name, value) in [("etag", "\"new\""), ("content-range", "bytes 5-4730596/4730597")] {
        let folder = tempfile::tempdir().unwrap();
        leave_partial(folder.path(), &vec![7; HALF], Some("\"old\""));
        let server = server(move |number, request, file| match number {
            0 => ScriptedResponse::part(request, file, &[(name, value)]),
            _ => ScriptedResponse::file(request, file, "\"new\""),
        });
        expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert_eq!(range_starts(&server), [Some(HALF), None], "{name}");
        assert_complete(folder.path());
    }
}

#[test]
fn rejects_a_range_that_was_not_requested() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|_, _, file| ScriptedResponse::whole(&file[5..]).partial("bytes 5-4730596/4730597"));
    let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("responded with 206"), "{stderr}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn downloads_again_if_the_partial_download_was_stale() {
    let folder = tempfile::tempdir().unwrap();
    leave_partial(folder.path(), &vec![7; HALF], None);
    let server = reliable_server();
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("partial download of") && stderr.contains("is stale"), "{stderr}");
    assert_eq!(range_starts(&server), [Some(HALF), None]);
    assert_complete(folder.path());
}

/// The power may fail after the last byte was written and before the file was renamed.
#[test]
fn accepts_a_complete_partial_download() {
    let folder = tempfile::tempdir().unwrap();
    let file = resnet18();
    leave_partial(folder.path(), &file, Some(ETAG));
    let server = reliable_server();
    expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert_eq!(range_starts(&server), [Some(file.len())]);
    assert_complete(folder.path());
}

#[test]
fn rejects_a_wrong_hash() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|_, request, file| ScriptedResponse::file(request, &[file, b"!"].concat(), ETAG));
    let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME]));
    let (_, found) = stderr.split_once("SHA-256 of the download is ").unwrap();
    assert!(found[..64].chars().all(|digit| digit.is_ascii_hexdigit()), "{stderr}");
    assert!(found[64..].starts_with(", expected f37072fd..."), "{stderr}");
    assert_eq!(server.requests().len(), 1, "a permanent failure is not retried");
    assert_eq!(
        (cached_files(folder.path(), "downloads"), cached_files(folder.path(), "checkpoints")),
        (vec![], vec![])
    );
}

#[test]
fn retries_depend_on_the_status() {
    let folder = tempfile::tempdir().unwrap();
    let statuses = |statuses: Vec<u16>| {
        server(move |number, request, file| match statuses.get(number) {
            Some(status) => ScriptedResponse::status(*status),
            None => ScriptedResponse::file(request, file, ETAG),
        })
    };
    for (status, reason) in [(404, "file not found"), (403, "access denied"), (400, "responded with 400")] {
        let server = statuses(vec![status]);
        let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert!(stderr.contains(reason) && stderr.contains(FILE), "{stderr}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    let server = statuses(vec![503; 3]);
    let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "1"]));
    assert!(stderr.contains("responded with 503"), "{stderr}");
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "1"]));
    assert!(stderr.contains("responded with 503") && stderr.contains("(1 of 1)"), "{stderr}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn honours_retry_after() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => ScriptedResponse::status(429).with_header("retry-after", "0"),
        _ => ScriptedResponse::file(request, file, ETAG),
    });
    let (_, stderr) = expect_success(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("responded with 429") && stderr.contains("trying again in 0.0 s (1 of 5)"), "{stderr}");
    assert_complete(folder.path());

    let folder = tempfile::tempdir().unwrap();
    let busy = Server::start(|_, _| ScriptedResponse::status(503).with_header("retry-after", "86400"));
    let stderr = expect_failure(&mut fetch(folder.path(), &busy.address(), &[NAME]));
    assert!(stderr.contains("responded with 503") && stderr.contains("asks to retry in 86400 s"), "{stderr}");
    assert_eq!(busy.requests().len(), 1, "a delay of a day is too long to wait");
}

#[test]
fn follows_redirects_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let storage = reliable_server();
    let to = format!("{}/somewhere/else?signed=yes", storage.address());
    let service = Server::start(move |_, _| ScriptedResponse::redirect(302, &to));
    expect_success(&mut fetch(folder.path(), &service.address(), &[NAME]));
    assert_eq!(storage.requests()[0].path, "/somewhere/else?signed=yes");
    assert_complete(folder.path());

    let folder = tempfile::tempdir().unwrap();
    let cycle = Server::start(|_, _| ScriptedResponse::redirect(307, "/again"));
    assert!(expect_failure(&mut fetch(folder.path(), &cycle.address(), &[NAME])).contains("more than 10 redirects"));
    let away = Server::start(|_, _| ScriptedResponse::redirect(301, "file:///etc/passwd"));
    assert!(expect_failure(&mut fetch(folder.path(), &away.address(), &[NAME])).contains("is not followed"));
}

#[test]
fn rejects_too_large_files_before_downloading_them() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        server(|_, _, file| ScriptedResponse::whole(&file[..HALF]).with_header("content-length", "2000000001"));
    let stderr = expect_failure(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(stderr.contains("2000000001 bytes, more than the limit of 2000000000"), "{stderr}");
    assert_eq!(server.requests().len(), 1);
}

/// Simulates a full disk by a limit on the size of files.
#[cfg(unix)]
#[test]
fn resumes_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = reliable_server();
    let limited = format!("trap '' XFSZ; ulimit -f 1000; exec {} fetch {NAME}", env!("CARGO_BIN_EXE_trainer"));
    let mut shell = Command::new("bash");
    let plain = fetch(root, &server.address(), &[]);
    shell
        .args(["-c", &limited])
        .current_dir(root)
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let stderr = expect_failure(&mut shell);
    assert!(
        stderr.contains(&format!("{FILE}.part: disk is full; free some space and run the same command again")),
        "{stderr}"
    );
    expect_success(&mut fetch(root, &server.address(), &[NAME]));
    assert_eq!(range_starts(&server), [None, Some(1000 * 1024)]);
    assert_complete(root);
}

#[test]
fn concurrent_processes_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let server = server(|_, request, file| ScriptedResponse::file(request, file, ETAG).held_after(HALF));
    let start =
        || fetch(root, &server.address(), &[NAME]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = start();
    let mut stderr = BufReader::new(first.stderr.take().unwrap()).lines();
    assert!(stderr.next().unwrap().unwrap().contains("downloading"));
    let mut second = start();
    let mut second_stderr = BufReader::new(second.stderr.take().unwrap()).lines();
    let waiting = second_stderr.next().unwrap().unwrap();
    assert!(waiting.contains("another process is fetching resnet18@torchvision-v1; waiting"), "{waiting}");
    server.release();
    let paths = [first, second].map(|mut child| {
        assert!(child.wait().unwrap().success());
        let mut path = String::new();
        child.stdout.take().unwrap().read_to_string(&mut path).unwrap();
        path
    });
    assert_eq!(paths[0], paths[1]);
    assert_eq!(server.requests().len(), 1);
    assert_complete(root);
    expect_success(&mut fetch(root, &unreachable_server(), &[NAME]));
}
