//! Keeps the memory reserved for a request until its response has been sent: a client that does not read its response
//! keeps it in memory. A response takes less memory than what was reserved for its request, so it needs no reservation
//! of its own.

use crate::error::ApiError;
use crate::memory::Reservation;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use std::sync::Arc;

/// Response extension set by handlers: memory to release when the response has been sent.
#[derive(Clone)]
pub struct ReservedUntilSent(#[expect(dead_code, reason = "released on drop")] pub Vec<Arc<Reservation>>);

/// Moves the reservations in the response's extensions into its body, which is dropped when it has been sent.
pub async fn hold_until_sent(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    match response.extensions_mut().remove() {
        Some(reserved) => attach_reservations(response, reserved).await,
        None => response,
    }
}

/// Buffers the body, and makes `reserved` part of its bytes.
async fn attach_reservations(response: Response, reserved: ReservedUntilSent) -> Response {
    struct Attached(Bytes, #[expect(dead_code, reason = "dropped with the bytes")] ReservedUntilSent);

    impl AsRef<[u8]> for Attached {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    let (head, body) = response.into_parts();
    match to_bytes(body, usize::MAX).await {
        Ok(bytes) => Response::from_parts(head, Bytes::from_owner(Attached(bytes, reserved)).into()),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;

    #[tokio::test]
    async fn memory_is_reserved_until_the_response_is_sent() {
        let budget = MemoryBudget::new(10);
        let reserved = ReservedUntilSent(vec![budget.reserve(7).unwrap().into()]);
        let response = attach_reservations("response".into_response(), reserved).await;
        let sent = to_bytes(response.into_body(), 10).await.unwrap();
        assert_eq!((&sent[..], budget.reserved()), (&b"response"[..], 7));
        drop(sent);
        assert_eq!(budget.reserved(), 0);
    }
}
