//! The query parameters of `/predict`. Numbers and names are parsed by us, for better error messages.

use crate::error::ApiError;
use crate::inference::EXPLANATION_TAPS;
use crate::upload::BodyOptions;
use model::plan::Tap;
use serde::Deserialize;
use std::slice;
use utoipa::{IntoParams, ToSchema};

/// Default number of classes in a prediction.
const DEFAULT_TOP_K: usize = 5;

/// Layers whose feature maps can be requested. All models have them.
static LAYERS: [Tap; 5] = Tap::STEM_AND_STAGES;

/// Query parameters.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PredictOptions {
    /// Number of classes to return, the most likely first; at most all classes of the model.
    #[param(value_type = Option<u64>, minimum = 1, example = 5)]
    top_k: Option<String>,
    /// Name of the model; the default model if absent.
    pub model: Option<String>,
    /// `cam` adds a class activation map for the most likely class. `feature-maps` adds a picture of the output of `layer`.
    /// With `Accept: image/png` the response is the map, overlaid on the cropped photo, or the picture.
    #[param(inline, value_type = Option<ExplanationMethod>)]
    explain: Option<String>,
    /// Layer for `explain=feature-maps`: the stem, or a stage by torchvision's name.
    #[param(inline, value_type = Option<LayerName>)]
    layer: Option<String>,
}

/// Kind of explanation that a request asks for.
#[derive(ToSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "schema of a parameter that we parse ourselves")]
enum ExplanationMethod {
    Cam,
    FeatureMaps,
}

/// A layer with feature maps.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "schema of a parameter that we parse ourselves")]
enum LayerName {
    Stem,
    Layer1,
    Layer2,
    Layer3,
    Layer4,
}

/// An explanation to return with each prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Explain {
    /// The class activation map of the most likely class.
    ClassActivationMap,
    /// The feature maps of this layer.
    FeatureMaps(&'static Tap),
}

impl Explain {
    /// Returns the taps whose activations the explanation needs.
    pub fn taps(self) -> &'static [Tap] {
        match self {
            Explain::ClassActivationMap => EXPLANATION_TAPS,
            Explain::FeatureMaps(tap) => slice::from_ref(tap),
        }
    }
}

impl PredictOptions {
    /// Adds the options of a JSON document.
    ///
    /// # Errors
    /// Returns 400 if the document contradicts the query.
    pub fn merge(self, body: BodyOptions) -> Result<Self, ApiError> {
        let merge = |name, query: Option<String>, body: Option<String>| match (query, body) {
            (Some(query), Some(body)) if query != body => Err(ApiError::malformed(format!(
                "{name} is {query:?} in the query and {body:?} in the document; send one of them"
            ))),
            (query, body) => Ok(query.or(body)),
        };
        let (top_k, model) = (merge("top_k", self.top_k, body.top_k)?, merge("model", self.model, body.model)?);
        Ok(PredictOptions { top_k, model, ..self })
    }

    /// Parses the number of classes.
    ///
    /// # Errors
    /// Returns 400 if it is not a positive integer.
    pub fn top_k(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.top_k else { return Ok(DEFAULT_TOP_K) };
        match text.parse() {
            Ok(0) | Err(_) => Err(ApiError::malformed(format!("invalid top_k {text:?}: expected a positive integer"))),
            Ok(top_k) => Ok(top_k),
        }
    }

    /// Parses the explanation.
    ///
    /// # Errors
    /// Returns 400 if the method or the layer is unknown, or if only one of method `feature-maps` and layer is given.
    pub fn explain(&self) -> Result<Option<Explain>, ApiError> {
        let layers = || LAYERS.iter().map(Tap::to_string).collect::<Vec<_>>().join(", ");
        match (self.explain.as_deref(), self.layer.as_deref()) {
            (None, None) => Ok(None),
            (Some("cam"), None) => Ok(Some(Explain::ClassActivationMap)),
            (Some("feature-maps"), Some(name)) => match LAYERS.iter().find(|tap| tap.to_string() == name) {
                Some(tap) => Ok(Some(Explain::FeatureMaps(tap))),
                None => Err(ApiError::malformed(format!("unknown layer {name:?}: expected one of {}", layers()))),
            },
            (Some("feature-maps"), None) => {
                Err(ApiError::malformed(format!("explain=feature-maps requires layer, one of {}", layers())))
            }
            (Some(other), None) => {
                Err(ApiError::malformed(format!("invalid explain {other:?}: expected `cam` or `feature-maps`")))
            }
            (_, Some(_)) => Err(ApiError::malformed("layer requires explain=feature-maps")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, photo};
    use model::plan::Stage;

    fn explain(explain: Option<&str>, layer: Option<&str>) -> Result<Option<Explain>, ApiError> {
        let [explain, layer] = [explain, layer].map(|text| text.map(str::to_owned));
        PredictOptions { top_k: None, model: None, explain, layer }.explain()
    }

    #[test]
    fn explanations_have_the_taps_that_they_need() {
        let taps = |method, layer| explain(method, layer).unwrap().map(Explain::taps);
        assert_eq!(taps(None, None), None);
        assert_eq!(taps(Some("cam"), None), Some(&[Tap::Stage(Stage::Four)][..]));
        assert_eq!(taps(Some("feature-maps"), Some("stem")), Some(&[Tap::Stem][..]));
        assert_eq!(taps(Some("feature-maps"), Some("layer2")), Some(&[Tap::Stage(Stage::Two)][..]));
    }

    #[tokio::test]
    async fn invalid_explanations_are_400_with_the_valid_names() {
        const LAYERS: &str = "stem, layer1, layer2, layer3, layer4";
        for (query, expected) in [
            ("explain=maps", "`cam` or `feature-maps`"),
            ("explain=", "`cam` or `feature-maps`"),
            ("explain=feature-maps", LAYERS),
            ("explain=feature-maps&layer=layer5", LAYERS),
            ("explain=feature-maps&layer=conv1", LAYERS),
            ("explain=feature-maps&layer=", LAYERS),
            ("layer=layer1", "requires explain=feature-maps"),
            ("explain=cam&layer=layer1", "requires explain=feature-maps"),
        ] {
            let path = format!("/predict?{query}");
            let response = fixture::post(&fixture::app(), &path, "image/png", photo(0)).await;
            assert_eq!((response.status, response.code().as_str()), (400, "malformed_request"), "{query}");
            assert!(response.body.contains(expected), "{query}: {}", response.body);
        }
    }
}
