//! The keys of a run's recipe.

use crate::report::history::RunHistory;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Keys that [`network`] shows.
const NETWORK: [&str; 2] = ["architecture", "checkpoint"];

/// Returns the keys and values of a recipe; none if it cannot be parsed.
pub fn keys(run: &RunHistory) -> Table {
    run.recipe.parse().unwrap_or_default()
}

/// Returns the architecture that was trained from random weights, or the checkpoint that was trained further.
pub fn network(recipe: &Table) -> Option<String> {
    NETWORK.iter().find_map(|key| recipe.get(*key)).map(text)
}

/// Returns the number of epochs of a recipe.
pub fn epochs(recipe: &Table) -> Option<usize> {
    recipe.get("epochs")?.as_integer()?.try_into().ok()
}

/// Returns the keys, except those of the network, whose values are not the same in all recipes.
pub fn differing(recipes: &[Table]) -> Vec<&str> {
    let keys: BTreeSet<&str> = recipes.iter().flat_map(Table::keys).map(String::as_str).collect();
    let differs =
        |key: &&str| !NETWORK.contains(key) && recipes.iter().any(|recipe| recipe.get(*key) != recipes[0].get(*key));
    keys.into_iter().filter(differs).collect()
}

/// Returns a value as text, strings without quotes.
pub fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_keys_are_compared() {
        let recipes =
            ["epochs = 2\nseed = 0\narchitecture = \"a\"", "epochs = 2\nseed = 1\nflip = 0.5\ncheckpoint = \"b\""];
        let recipes = recipes.map(|recipe| recipe.parse::<Table>().unwrap());
        assert_eq!(differing(&recipes), ["flip", "seed"]);
        assert_eq!(recipes.each_ref().map(network), [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(epochs(&recipes[0]), Some(2));
        assert!(differing(&[]).is_empty());
    }
}
