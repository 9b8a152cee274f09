//! A form with photos. The first line is its `Content-Type`, which tells the boundary, and no part of it.
#![cfg_attr(fuzzing, no_main)]

use bytes::Bytes;
use futures_util::{Stream, stream};
use model::prediction::Failure;
use server::parsers::{self, Photos};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("it needs nothing");
}

/// What takes memory whatever the form's size: a request, a parser, the headers of a part.
const BESIDE: usize = 16 << 10;

/// Photos that stand in the form, or an error that says something, in whatever pieces the form comes; memory within a
/// multiple of it.
pub fn check(bytes: &[u8]) {
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (content_type, body) = (&bytes[..line], bytes.get(line + 1..).unwrap_or_default());
    let at_once = parsed(content_type, body, body.len().max(1));
    for size in [1, 7] {
        let in_pieces = parsed(content_type, body, size);
        // Of more bytes than may be, what comes at once is refused before it is looked at.
        if body.len() <= parsers::FORM_BYTES {
            assert_eq!(in_pieces, at_once, "in pieces of {size} bytes, and at once");
        }
    }
    match at_once {
        Ok(photos) => check_accepted(&photos, body),
        Err(failure) => assert!(!failure.error.code.is_empty() && !failure.error.message.is_empty(), "{failure:?}"),
    }
}

fn parsed(content_type: &[u8], body: &[u8], size: usize) -> Photos {
    let body = Bytes::copy_from_slice(body);
    let length = body.len();
    let parse = async { parsers::multipart(content_type, pieces(body, size)).await };
    let ((photos, held), taken) = RUNTIME.with(|runtime| crate::peak::of(|| runtime.block_on(parse)));
    let allowed = 8 * length + 4 * content_type.len() + BESIDE;
    assert!(taken <= allowed, "{length} bytes took {taken} bytes of memory; {allowed} are allowed");
    if let Ok(photos) = &photos {
        let kept: usize = photos.iter().flatten().map(Bytes::len).sum();
        assert_eq!(held, kept, "what is counted as held is not what is kept");
    }
    photos
}

/// As a connection hands them over: the next one is not there before the parser has looked at this one and waits.
fn pieces(body: Bytes, size: usize) -> impl Stream<Item = Bytes> + Send {
    let (pieces, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for at in (0..body.len()).step_by(size) {
            if pieces.send(body.slice(at..body.len().min(at + size))).await.is_err() {
                break;
            }
        }
    });
    stream::unfold(receiver, |mut pieces| async { Some((pieces.recv().await?, pieces)) })
}

fn check_accepted(photos: &[Result<Bytes, Failure>], body: &[u8]) {
    assert!((1..=parsers::PHOTOS).contains(&photos.len()));
    let mut rest = body;
    for photo in photos {
        match photo {
            Ok(photo) if photo.is_empty() => {}
            Ok(photo) => {
                let at = rest.windows(photo.len()).position(|bytes| bytes == photo);
                rest = &rest[at.expect("a photo stands in the form, behind the one before") + photo.len()..];
            }
            Err(failure) => assert_eq!(failure.error.code, "too_large", "{failure:?}"),
        }
    }
}
