//! Where a class stands among all, by its logit.

/// How many classes are likelier; of equals the lower index comes first, as in an answer.
pub fn rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    let before = |(index, &logit): (usize, &f32)| logit > own || (logit == own && index < class);
    logits.iter().enumerate().filter(|&entry| before(entry)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_are_ranked_by_index() {
        let logits = [1.0, 3.0, 3.0, -2.0];
        assert_eq!([0, 1, 2, 3].map(|class| rank(&logits, class)), [2, 0, 1, 3]);
    }
}
