//! Fuzzes the parser of multipart forms with photos. The first line of the input is the `Content-Type`, which has the
//! boundary; it is not part of the form.
#![cfg_attr(fuzzing, no_main)]

use bytes::Bytes;
use futures_util::{Stream, stream};
use model::prediction::Failure;
use server::fuzz_api::{self, Photos};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime without drivers can be built");
}

/// Memory in bytes that is allowed for a form of any size: a request, a parser, the headers of a part.
const BASE_MEMORY: usize = 16 << 10;

/// Checks that a form yields photos that it contains, or an error with code and message, in chunks of any size; and
/// that parsing takes memory within a multiple of the form.
pub fn check(bytes: &[u8]) {
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (content_type, body) = (&bytes[..line], bytes.get(line + 1..).unwrap_or_default());
    let at_once = parse(content_type, body, body.len().max(1));
    for size in [1, 7] {
        let in_chunks = parse(content_type, body, size);
        // A single chunk that exceeds the limit is rejected before it is parsed.
        if body.len() <= fuzz_api::MAX_FORM_BYTES {
            assert_eq!(in_chunks, at_once, "in chunks of {size} bytes, and at once");
        }
    }
    match at_once {
        Ok(photos) => check_accepted(&photos, body),
        Err(failure) => assert!(!failure.error.code.is_empty() && !failure.error.message.is_empty(), "{failure:?}"),
    }
}

fn parse(content_type: &[u8], body: &[u8], size: usize) -> Photos {
    let body = Bytes::copy_from_slice(body);
    let length = body.len();
    let parse = async { fuzz_api::parse_multipart(content_type, chunks(body, size)).await };
    let ((photos, reserved), peak) = RUNTIME.with(|runtime| crate::peak::measure(|| runtime.block_on(parse)));
    let allowed = 8 * length + 4 * content_type.len() + BASE_MEMORY;
    assert!(peak <= allowed, "parsing {length} bytes took {peak} bytes of memory; {allowed} are allowed");
    if let Ok(photos) = &photos {
        let photo_bytes: usize = photos.iter().flatten().map(Bytes::len).sum();
        assert_eq!(reserved, photo_bytes, "the reservation is not the size of the photos");
    }
    photos
}

/// Streams chunks like a connection: the next chunk is not available before the parser has parsed the previous one and
/// waits.
fn chunks(body: Bytes, size: usize) -> impl Stream<Item = Bytes> + Send {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for at in (0..body.len()).step_by(size) {
            if sender.send(body.slice(at..body.len().min(at + size))).await.is_err() {
                break;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

fn check_accepted(photos: &[Result<Bytes, Failure>], body: &[u8]) {
    assert!((1..=fuzz_api::MAX_PHOTOS).contains(&photos.len()));
    let mut rest = body;
    for photo in photos {
        match photo {
            Ok(photo) if photo.is_empty() => {}
            Ok(photo) => {
                let at = rest.windows(photo.len()).position(|bytes| bytes == photo);
                rest = &rest[at.expect("the form contains the photo, after the previous one") + photo.len()..];
            }
            Err(failure) => assert_eq!(failure.error.code, "too_large", "{failure:?}"),
        }
    }
}
