//! Several engines of one model, which draw from one queue.

use crate::own::Own;
use crate::shared::{answer, photo};
use anyhow::{Result, ensure};
use serde_json::Value;

const PHOTOS: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];

/// They answer what one engine answers.
pub fn alike() -> Result<()> {
    let photos = PHOTOS.map(photo).into_iter().collect::<Result<Vec<_>>>()?;
    let expected = at_once(&Own::start([])?, &photos)?;
    for arguments in [["--device", "cpu,cpu"], ["--replicas", "2"]] {
        let found = at_once(&Own::start(arguments)?, &photos)?;
        ensure!(found == expected, "{arguments:?}: {found:?} instead of {expected:?}");
    }
    Ok(())
}

/// What each gets while the others are asked about too.
fn at_once(own: &Own, photos: &[Vec<u8>]) -> Result<Vec<Value>> {
    std::thread::scope(|scope| {
        let ask = |photo: &Vec<u8>| {
            let prediction = answer(own.post("/predict?top_k=10").body(photo.clone()))?.json(200);
            Ok(prediction?["predictions"].take())
        };
        let clients: Vec<_> = photos.iter().map(|photo| scope.spawn(move || ask(photo))).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    })
}
