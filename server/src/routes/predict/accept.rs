//! Negotiates the content type of `/predict`: JSON, or a PNG of the explanation.

use axum::http::{HeaderMap, header};

/// Returns whether `Accept` names PNG, not only by `*/*`, and with at least the quality of JSON.
pub fn prefers_png(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<(String, f32)> =
        accepted.flat_map(|value| value.split(',')).map(media_type_and_quality).collect();
    // The most specific media range that is present counts.
    let quality = |ranges: &[&str]| {
        let matching = ranges.iter().find_map(|range| accepted.iter().find(|(media_type, _)| media_type == range));
        matching.map_or(0.0, |(_, quality)| *quality)
    };
    let png = quality(&["image/png", "image/*"]);
    png > 0.0 && png >= quality(&["application/json", "application/*", "*/*"])
}

/// Parses one element of `Accept`, such as `image/png;q=0.8`. The quality is 1 if absent.
fn media_type_and_quality(element: &str) -> (String, f32) {
    let element = element.to_ascii_lowercase();
    let mut parts = element.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_owned();
    let quality = parts.find_map(|part| part.strip_prefix("q="));
    (media_type, quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_is_preferred_if_named_with_at_least_the_quality_of_json() {
        for (accept, expected) in [
            ("image/png", true),
            ("text/html, Image/PNG; q=0.8", true),
            ("image/*", true),
            ("image/png;q=0", false),
            ("image/png; q=0.0, application/json", false),
            ("image/jpeg, */*", false),
            ("*/*", false),
            ("application/json", false),
            ("image/png, application/json", true),
            ("application/json, image/png;q=0.1", false),
            ("application/json;q=0.5, image/png;q=0.6", true),
            ("image/*,*/*;q=0.8", true),
            ("image/*;q=0.5, */*;q=0.8", false),
            ("image/png;q=0.9, image/*;q=0.1, application/*;q=0.5", true),
            ("image/png;q=0, image/*, application/json;q=0.5", false),
            ("image/png;q=0.5, application/json;q=0.2, */*", true),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(prefers_png(&headers), expected, "{accept}");
        }
    }
}
