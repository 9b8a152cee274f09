//! What a client accepts: JSON, or a PNG of what is explained.

use axum::http::{HeaderMap, header};

/// Whether a PNG is accepted by a name of its own, and no less than JSON is.
pub fn wants_png(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<(String, f32)> = accepted.flat_map(|value| value.split(',')).map(kind_and_quality).collect();
    // The most specific name that is there counts.
    let quality = |names: &[&str]| {
        let found = names.iter().find_map(|name| accepted.iter().find(|(kind, _)| kind == name));
        found.map_or(0.0, |(_, quality)| *quality)
    };
    let png = quality(&["image/png", "image/*"]);
    png > 0.0 && png >= quality(&["application/json", "application/*", "*/*"])
}

/// Of one of the kinds that a client accepts.
fn kind_and_quality(accepted: &str) -> (String, f32) {
    let accepted = accepted.to_ascii_lowercase();
    let mut parts = accepted.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_owned();
    let quality = parts.find_map(|part| part.strip_prefix("q="));
    (kind, quality.and_then(|quality| quality.parse().ok()).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_is_for_who_accepts_one() {
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
            assert_eq!(wants_png(&headers), expected, "{accept}");
        }
    }
}
