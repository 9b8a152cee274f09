//! Names of files, derived from names of layers and labels of classes.

use model::prediction::ClassScore;

/// Maximum number of characters of a label in the name of a file; file systems limit the whole name to 255 bytes.
const MAX_LABEL: usize = 80;

/// Returns the name of the file with the feature maps of a layer.
pub fn layer(name: &str) -> String {
    format!("{}.png", safe(name))
}

/// Returns the name of the file with the class activation map of a class. `rank` is 1 for the most likely class.
pub fn activation_map(rank: usize, class: &ClassScore) -> String {
    let label: String = safe(&class.label).chars().take(MAX_LABEL).collect();
    format!("cam-{rank}-class{}-{label}.png", class.index)
}

/// Replaces all characters except ASCII letters, digits, `.`, `-` and `_` by `_`.
fn safe(text: &str) -> String {
    let is_safe = |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    text.chars().map(|character| if is_safe(character) { character } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_contain_only_safe_characters() {
        let name =
            |label: &str| activation_map(2, &ClassScore { label: label.to_owned(), index: 17, probability: 0.5 });
        assert_eq!(name("church"), "cam-2-class17-church.png");
        assert_eq!(name("../a b/c\\d:é\0"), "cam-2-class17-.._a_b_c_d___.png");
        assert_eq!(name(""), "cam-2-class17-.png");
        assert_eq!(name(&"x".repeat(500)).len(), "cam-2-class17-.png".len() + MAX_LABEL);
        assert_eq!(layer("layer1.0.conv1"), "layer1.0.conv1.png");
    }
}
