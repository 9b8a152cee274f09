//! Downloads that break off, stall, change and lie.

use crate::server::{Answer, Request, Server};
use crate::torchvision::{FILE, NAME, TAG, resnet18, sound};
use crate::{fail, fetch, files, nobody, succeed};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

const HALF: usize = 2_000_000;

/// A server whose answers are `script`'s, of the number of a request, the request and the file.
fn server(script: impl Fn(usize, &Request, &[u8]) -> Answer + Send + 'static) -> Server {
    let file = resnet18();
    Server::start(move |number, request| script(number, request, &file))
}

fn starts(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(Request::start).collect()
}

fn assert_whole(at: &Path) {
    assert_eq!(files(at, "downloads"), [FILE], "nothing half is left");
    assert!(fs::read(at.join("cache/downloads").join(FILE)).unwrap() == resnet18());
}

/// A part from before: these bytes, and the server's word for their version.
fn leave(at: &Path, bytes: &[u8], tag: Option<&str>) {
    let downloads = at.join("cache/downloads");
    fs::create_dir_all(&downloads).unwrap();
    fs::write(downloads.join(format!("{FILE}.part")), bytes).unwrap();
    if let Some(tag) = tag {
        fs::write(downloads.join(format!("{FILE}.part.etag")), tag).unwrap();
    }
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => Answer::file(request, file, TAG).broken_after(HALF),
        1 => Answer::file(request, file, TAG).broken_after(0),
        2 => Answer::file(request, file, TAG).broken_after(1000),
        _ => Answer::file(request, file, TAG),
    });
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "2"]));
    assert!(words.contains("the connection to 127.0.0.1 broke") && words.contains("(1 of 2)"), "{words}");
    assert_eq!(starts(&server), [None, Some(HALF), Some(HALF), Some(HALF + 1000)]);
    assert_eq!(server.requests()[1].header("if-range"), Some(TAG));
    assert_whole(folder.path());
}

#[test]
fn another_process_goes_on_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => Answer::file(request, file, TAG).broken_after(HALF),
        _ => Answer::file(request, file, TAG),
    });
    let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "0"]));
    assert!(words.contains("2.0 MB of") && words.contains("the same command goes on from there"), "{words}");
    assert_eq!(files(folder.path(), "checkpoints"), [""; 0]);
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(words.contains("downloading the rest of") && words.contains("from 2.0 MB on"), "{words}");
    assert_eq!(starts(&server), [None, Some(HALF)]);
    assert_whole(folder.path());
}

#[test]
fn one_that_was_killed_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = server(|number, request, file| match number {
        0 => Answer::file(request, file, TAG).stalled_after(HALF),
        _ => Answer::file(request, file, TAG),
    });
    let mut child = fetch(at, &server.address(), &[NAME]).stderr(Stdio::null()).spawn().unwrap();
    let part = at.join("cache/downloads").join(format!("{FILE}.part"));
    while fs::metadata(&part).map_or(0, |part| part.len()) < HALF as u64 {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    succeed(&mut fetch(at, &server.address(), &[NAME]));
    assert_eq!(starts(&server), [None, Some(HALF)]);
    assert_whole(at);
}

#[test]
fn a_server_that_stalls_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, request, file| match number {
        0 => Answer::file(request, file, TAG).stalled_after(HALF),
        _ => Answer::file(request, file, TAG),
    });
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME, "--timeout", "0.5"]));
    assert!(words.contains("127.0.0.1 sent nothing for 0.5 s"), "{words}");
    assert_eq!(starts(&server), [None, Some(HALF)]);
    assert_whole(folder.path());
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|number, _, file| match number {
        0 => Answer::whole(file).broken_after(HALF),
        _ => Answer::whole(file),
    });
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(words.contains("the server begins anew"), "{words}");
    assert_eq!(starts(&server), [None, Some(HALF)]);
    assert_whole(folder.path());
}

#[test]
fn a_file_that_changed_in_between_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path(), &vec![7; HALF], Some("\"old\""));
    let honest = server(|_, request, file| Answer::file(request, file, TAG));
    let (_, words) = succeed(&mut fetch(folder.path(), &honest.address(), &[NAME]));
    assert!(words.contains("another file by now"), "{words}");
    assert_eq!(honest.requests()[0].header("if-range"), Some("\"old\""));
    assert_eq!(starts(&honest), [Some(HALF)]);
    assert_whole(folder.path());
}

/// Servers that do not know If-Range, or send the wrong part.
#[test]
fn a_part_of_another_file_is_not_put_together() {
    for (name, value) in [("etag", "\"new\""), ("content-range", "bytes 5-4730596/4730597")] {
        let folder = tempfile::tempdir().unwrap();
        leave(folder.path(), &vec![7; HALF], Some("\"old\""));
        let server = server(move |number, request, file| match number {
            0 => Answer::part(request, file, &[(name, value)]),
            _ => Answer::file(request, file, "\"new\""),
        });
        succeed(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert_eq!(starts(&server), [Some(HALF), None], "{name}");
        assert_whole(folder.path());
    }
}

#[test]
fn a_part_that_nobody_asked_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|_, _, file| Answer::whole(&file[5..]).partial("bytes 5-4730596/4730597"));
    let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(words.contains("answers 206"), "{words}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_part_that_does_not_fit_costs_one_more_download() {
    let folder = tempfile::tempdir().unwrap();
    leave(folder.path(), &vec![7; HALF], None);
    let server = sound();
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(words.contains("does not go with the rest"), "{words}");
    assert_eq!(starts(&server), [Some(HALF), None]);
    assert_whole(folder.path());
}

/// As after a power cut between the last byte and the new name.
#[test]
fn a_part_that_is_whole_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = resnet18();
    leave(folder.path(), &file, Some(TAG));
    let server = sound();
    succeed(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert_eq!(starts(&server), [Some(file.len())]);
    assert_whole(folder.path());
}

#[test]
fn a_wrong_hash_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|_, request, file| Answer::file(request, &[file, b"!"].concat(), TAG));
    let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME]));
    let (_, found) = words.split_once("has the SHA-256 ").unwrap();
    assert!(found[..64].chars().all(|digit| digit.is_ascii_hexdigit()), "{words}");
    assert!(found[64..].starts_with(", but f37072fd... is right"), "{words}");
    assert_eq!(server.requests().len(), 1, "it would go the same way again");
    assert_eq!((files(folder.path(), "downloads"), files(folder.path(), "checkpoints")), (vec![], vec![]));
}

#[test]
fn statuses_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let statuses = |statuses: Vec<u16>| {
        server(move |number, request, file| match statuses.get(number) {
            Some(status) => Answer::status(*status),
            None => Answer::file(request, file, TAG),
        })
    };
    for (status, reason) in
        [(404, "there is no such file"), (403, "not give this file to everybody"), (400, "answers 400")]
    {
        let server = statuses(vec![status]);
        let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME]));
        assert!(words.contains(reason) && words.contains(FILE), "{words}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    let server = statuses(vec![503; 3]);
    let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "1"]));
    assert!(words.contains("answers 503"), "{words}");
    let (_, words) = succeed(&mut fetch(folder.path(), &server.address(), &[NAME, "--retries", "1"]));
    assert!(words.contains("answers 503") && words.contains("(1 of 1)"), "{words}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let folder = tempfile::tempdir().unwrap();
    let store = sound();
    let to = format!("{}/somewhere/else?signed=yes", store.address());
    let door = Server::start(move |_, _| Answer::redirect(302, &to));
    succeed(&mut fetch(folder.path(), &door.address(), &[NAME]));
    assert_eq!(store.requests()[0].path, "/somewhere/else?signed=yes");
    assert_whole(folder.path());

    let folder = tempfile::tempdir().unwrap();
    let circle = Server::start(|_, _| Answer::redirect(307, "/again"));
    assert!(fail(&mut fetch(folder.path(), &circle.address(), &[NAME])).contains("more than 10 redirects"));
    let away = Server::start(|_, _| Answer::redirect(301, "file:///etc/passwd"));
    assert!(fail(&mut fetch(folder.path(), &away.address(), &[NAME])).contains("is not followed"));
}

#[test]
fn what_is_too_large_is_not_even_begun() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(|_, _, file| Answer::whole(&file[..HALF]).with("content-length", "2000000001"));
    let words = fail(&mut fetch(folder.path(), &server.address(), &[NAME]));
    assert!(words.contains("2000000001 bytes; at most 2000000000"), "{words}");
    assert_eq!(server.requests().len(), 1);
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_is_said_and_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = sound();
    let limited = format!("trap '' XFSZ; ulimit -f 1000; exec {} fetch {NAME}", env!("CARGO_BIN_EXE_trainer"));
    let mut shell = Command::new("bash");
    let plain = fetch(at, &server.address(), &[]);
    shell
        .args(["-c", &limited])
        .current_dir(at)
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let words = fail(&mut shell);
    assert!(
        words.contains(&format!("{FILE}.part: the disk is full: make room, and the same command goes on")),
        "{words}"
    );
    succeed(&mut fetch(at, &server.address(), &[NAME]));
    assert_eq!(starts(&server), [None, Some(1000 * 1024)]);
    assert_whole(at);
}

#[test]
fn two_at_once_download_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = server(|_, request, file| Answer::file(request, file, TAG).held_after(HALF));
    let start = || fetch(at, &server.address(), &[NAME]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = start();
    let mut words = BufReader::new(first.stderr.take().unwrap()).lines();
    assert!(words.next().unwrap().unwrap().contains("downloading"));
    let mut second = start();
    let mut waits = BufReader::new(second.stderr.take().unwrap()).lines();
    let waiting = waits.next().unwrap().unwrap();
    assert!(waiting.contains("another process fetches resnet18@torchvision-v1; waiting"), "{waiting}");
    server.release();
    let paths = [first, second].map(|mut child| {
        assert!(child.wait().unwrap().success());
        let mut path = String::new();
        child.stdout.take().unwrap().read_to_string(&mut path).unwrap();
        path
    });
    assert_eq!(paths[0], paths[1]);
    assert_eq!(server.requests().len(), 1);
    assert_whole(at);
    succeed(&mut fetch(at, &nobody(), &[NAME]));
}
