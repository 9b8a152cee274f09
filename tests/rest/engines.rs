//! Several engines of one model, which share one queue.

use crate::http::{photo, send};
use crate::test_server::TestServer;
use anyhow::{Result, ensure};
use serde_json::Value;

const PHOTOS: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];

/// Several engines return the same predictions as one.
pub fn same_predictions(server: &TestServer) -> Result<()> {
    let photos = PHOTOS.map(photo).into_iter().collect::<Result<Vec<_>>>()?;
    let expected = predict_concurrently(server, &photos)?;
    for arguments in [["--device", "cpu,cpu"], ["--replicas", "2"]] {
        let actual = predict_concurrently(&TestServer::start(arguments)?, &photos)?;
        ensure!(actual == expected, "{arguments:?}: got {actual:?}, expected {expected:?}");
    }
    Ok(())
}

/// Sends all photos at the same time, and returns the predictions for each.
fn predict_concurrently(server: &TestServer, photos: &[Vec<u8>]) -> Result<Vec<Value>> {
    std::thread::scope(|scope| {
        let predict = |photo: &Vec<u8>| {
            let prediction = send(server.post("/predict?top_k=10").body(photo.clone()))?.json(200);
            Ok(prediction?["predictions"].take())
        };
        let clients: Vec<_> = photos.iter().map(|photo| scope.spawn(move || predict(photo))).collect();
        clients.into_iter().map(|client| client.join().expect("client threads do not panic")).collect()
    })
}
