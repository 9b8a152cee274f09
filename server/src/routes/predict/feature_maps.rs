//! A picture of the output of a layer, for `?explain=feature-maps`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::checkpoint::Metadata;
use model::engine::Activation;
use model::explain::{Scaling, grid_size, image_grid};
use model::plan::Tap;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Memory for a value: in the output of the batch, and in that of its image.
const BYTES_PER_VALUE: usize = 2 * size_of::<f32>();

/// Memory for a pixel of the picture: RGB, the PNG, which is hardly larger, base64 of it, and the response.
const BYTES_PER_PIXEL: usize = 3 + 3 + 4 + 4;

/// The output of a layer for one photo.
#[derive(Serialize, ToSchema)]
pub struct FeatureMaps {
    /// Name of the layer.
    layer: String,
    /// Number of channels.
    channels: usize,
    /// Number of rows of each channel.
    height: usize,
    /// Number of columns of each channel.
    width: usize,
    /// Minimum over all channels.
    minimum: f32,
    /// Maximum over all channels.
    maximum: f32,
    /// All channels as grey images in rows of eight, each scaled from its minimum to its maximum: a PNG, as base64.
    #[serde(serialize_with = "as_base64")]
    #[schema(value_type = String, format = Byte)]
    pub png: Vec<u8>,
}

impl FeatureMaps {
    /// Draws the output of a layer, a batch of one.
    pub fn draw(activation: &Activation) -> Self {
        let Activation { tap, values, shape: [_, channels, height, width] } = activation;
        let grid = image_grid(values, [*channels, 1, *height, *width], Scaling::EachImage);
        FeatureMaps {
            layer: tap.to_string(),
            channels: *channels,
            height: *height,
            width: *width,
            minimum: values.iter().copied().fold(f32::INFINITY, f32::min),
            maximum: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            png: grid.to_png(),
        }
    }

    /// Returns the memory that the feature maps of one photo take until the response is sent, in bytes.
    pub fn memory(tap: Tap, metadata: &Metadata) -> usize {
        let side = metadata.preprocessing.crop as usize;
        let shape = tap.shape(&metadata.architecture, [side, side]);
        let [channels, height, width] = shape.expect("every network has a stem and stages");
        let pixels: usize = grid_size(channels, [height, width]).iter().product();
        channels * height * width * BYTES_PER_VALUE + pixels * BYTES_PER_PIXEL
    }
}

fn as_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use crate::fixture::{self, form, photo};
    use crate::memory::MemoryBudget;
    use axum::body::Body;
    use axum::http::{Request, header};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use model::preprocess::{Limits, Photo};

    const PATH: &str = "/predict?explain=feature-maps&layer=layer2";

    #[tokio::test]
    async fn feature_maps_are_returned_with_the_prediction() {
        let response = fixture::post(&fixture::app(), PATH, "image/png", photo(7)).await;
        assert_eq!(response.status, 200, "{}", response.body);
        let prediction = response.json();
        assert_eq!(prediction["predictions"][0]["index"], 7);
        assert!(prediction["explanation"].is_null(), "{prediction}");
        let maps = &prediction["feature_maps"];
        // The fake engine returns one channel of 2x2 ones.
        assert_eq!((&maps["layer"], &maps["channels"], &maps["maximum"]), (&"layer2".into(), &1.into(), &1.0.into()));
        let png = STANDARD.decode(maps["png"].as_str().unwrap()).unwrap();
        let grid = Photo::decode(&png, &Limits::default()).unwrap();
        assert_eq!((grid.width(), grid.height()), (2, 2));
        let plain = fixture::post(&fixture::app(), "/predict", "image/png", photo(7)).await.json();
        assert!(plain.get("feature_maps").is_none(), "{plain}");
    }

    #[tokio::test]
    async fn several_photos_have_their_own_feature_maps() {
        let (content_type, body) = form(&[("file", &photo(1)), ("file", b"no photo"), ("file", &photo(3))]);
        let response = fixture::post(&fixture::app(), PATH, content_type, body).await;
        let results = response.json();
        for index in [0, 2] {
            assert_eq!(results["results"][index]["feature_maps"]["layer"], "layer2", "{}", response.body);
        }
        assert_eq!(results["results"][1]["error"]["code"], "unsupported_format");
    }

    #[tokio::test]
    async fn clients_that_prefer_png_receive_the_picture() {
        let request = Request::post(PATH).header(header::ACCEPT, "image/png").body(Body::from(photo(7))).unwrap();
        let response = fixture::send(&fixture::app(), request).await;
        assert_eq!((response.status, &response.headers[header::CONTENT_TYPE]), (200, &"image/png".parse().unwrap()));
        assert!(response.body.contains("PNG"), "{}", response.body);
    }

    #[tokio::test]
    async fn feature_maps_count_towards_the_memory_budget() {
        // Enough for a decoded photo of 224x224, but not for 128 channels of 28x28 and their picture.
        let app = fixture::app_with(|app| app.memory = MemoryBudget::new(1_000_000));
        assert_eq!(fixture::post(&app, "/predict", "image/png", photo(7)).await.status, 200);
        let response = fixture::post(&app, PATH, "image/png", photo(7)).await;
        assert_eq!((response.status, response.code().as_str()), (503, "overloaded"));
        assert_eq!(app.memory.reserved(), 0);
    }
}
