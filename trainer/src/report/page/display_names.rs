//! Names of classes and runs as the page shows them: without control characters, never empty, and unique.

use std::collections::HashMap;

/// Maximum length of a shortened name, in columns of text.
const SHORT: usize = 24;
/// Maximum length of a name in a text that is repeated for many cells.
const MEDIUM: usize = 60;

/// Name of each class or run, by index.
pub struct DisplayNames(Vec<String>);

impl DisplayNames {
    /// Returns the labels of classes. A label that several classes have is followed by the identifier of the class.
    pub fn of_classes(labels: &[String], classes: &[String]) -> Self {
        let name = |label: &String, class: &String| if is_blank(label) { class.clone() } else { label.clone() };
        let names = labels.iter().zip(classes).map(|(label, class)| clean(&name(label, class))).collect();
        let qualifiers: Vec<_> = classes.iter().map(|class| clean(class)).collect();
        DisplayNames(numbered(qualified(names, &qualifiers)))
    }

    /// Returns the names of runs. Names that several runs have are numbered.
    pub fn of_runs<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        DisplayNames(numbered(names.map(clean).collect()))
    }

    pub fn full(&self, index: usize) -> &str {
        &self.0[index]
    }

    /// Returns the name, shortened for the labels of a chart.
    pub fn short(&self, index: usize) -> String {
        shorten(&self.0[index], SHORT)
    }

    /// Returns the name, shortened if it is unusually long.
    pub fn medium(&self, index: usize) -> String {
        shorten(&self.0[index], MEDIUM)
    }
}

/// Returns the approximate width of a text in columns. Characters of East Asian scripts take two columns.
pub fn columns(text: &str) -> usize {
    text.chars().map(character_columns).sum()
}

fn character_columns(character: char) -> usize {
    if matches!(character, '\u{1100}'..='\u{11ff}' | '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ff60}' | '\u{1f000}'..)
    {
        2
    } else {
        1
    }
}

fn shorten(name: &str, limit: usize) -> String {
    if columns(name) <= limit {
        return name.to_owned();
    }
    let mut width = 1;
    let kept = name.chars().take_while(|&character| {
        width += character_columns(character);
        width <= limit
    });
    kept.collect::<String>().trim_end().to_owned() + "…"
}

fn is_blank(name: &str) -> bool {
    name.trim().is_empty()
}

/// Replaces control characters, which are invalid in SVG files.
fn clean(name: &str) -> String {
    name.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn occurrences(names: &[String]) -> HashMap<String, usize> {
    let mut occurrences = HashMap::new();
    for name in names {
        *occurrences.entry(name.clone()).or_default() += 1;
    }
    occurrences
}

/// Adds the qualifiers to names that occur several times.
fn qualified(names: Vec<String>, qualifiers: &[String]) -> Vec<String> {
    let occurrences = occurrences(&names);
    let qualify = |(name, qualifier): (String, &String)| {
        if occurrences[&name] > 1 && name != *qualifier { format!("{name} ({qualifier})") } else { name }
    };
    names.into_iter().zip(qualifiers).map(qualify).collect()
}

/// Adds numbers to names that occur several times or are empty. Numbers count from 1.
fn numbered(names: Vec<String>) -> Vec<String> {
    let occurrences = occurrences(&names);
    let number = |(index, name): (usize, String)| match occurrences[&name] {
        _ if is_blank(&name) => format!("number {}", index + 1),
        1 => name,
        _ => format!("{name} (number {})", index + 1),
    };
    names.into_iter().enumerate().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_become_distinct() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let labels = strings(&["crane", "crane", "cat", "", "a\u{1}b", "x", "x"]);
        let names = DisplayNames::of_classes(&labels, &strings(&["n1", "n2", "n3", "n4", "n5", "same", "same"])).0;
        let expected =
            ["crane (n1)", "crane (n2)", "cat", "n4", "a\u{fffd}b", "x (same) (number 6)", "x (same) (number 7)"];
        assert_eq!(names, expected);
        assert_eq!(
            DisplayNames::of_runs(["a", "b", "a", " "].into_iter()).0,
            ["a (number 1)", "b", "a (number 3)", "number 4"]
        );
    }

    #[test]
    fn long_names_are_shortened_by_their_width() {
        let names = DisplayNames(vec!["a".repeat(1000), "猫".repeat(40), "cat".into()]);
        assert_eq!([names.short(0), names.short(2)], ["a".repeat(23) + "…", "cat".to_owned()]);
        assert_eq!(columns(&names.short(1)), 23);
        assert_eq!(names.short(1).chars().count(), 12);
    }
}
