//! Similarity of classes, measured by how often they are confused: an order in which similar classes are adjacent, and
//! groups of classes that are confused with each other.

use super::confusion_matrix::ConfusionMatrix;
use kodama::{Method, linkage};

/// Sizes of the groups of classes.
const MIN_GROUP: usize = 3;
const MAX_GROUP: usize = 12;
/// Minimum similarity of the two halves of a group, relative to the similarity within them. Without a minimum, unrelated
/// groups would be shown as one.
const MIN_SIMILARITY: f64 = 0.1;

/// A hierarchical clustering of classes.
pub struct ClassSimilarity {
    /// All classes, with similar ones next to each other.
    pub order: Vec<usize>,
    /// Clusters of [`MIN_GROUP`] to [`MAX_GROUP`] similar classes, in the order of the clustering.
    clusters: Vec<Vec<usize>>,
}

impl ClassSimilarity {
    /// Clusters the classes with average linkage. The distance of two classes is 1 minus the mean of the rates at which
    /// one is classified as the other.
    pub fn new(confusion: &ConfusionMatrix) -> Self {
        let classes = confusion.classes();
        let totals: Vec<f64> = confusion.rows().map(|row| f64::from(row.iter().sum::<u32>()).max(1.0)).collect();
        let rate = |a: usize, b: usize| f64::from(confusion.count(a, b)) / totals[a];
        let mut distances: Vec<f64> = (0..classes)
            .flat_map(|a| (a + 1..classes).map(move |b| (a, b)))
            .map(|(a, b)| 1.0 - 0.5 * (rate(a, b) + rate(b, a)))
            .collect();
        let mut clusters: Vec<Vec<usize>> = (0..classes).map(|class| vec![class]).collect();
        let mut similarities = vec![0.0_f64; classes];
        let mut candidates = Vec::new();
        let dendrogram = linkage(&mut distances, classes, Method::Average);
        for step in dendrogram.steps() {
            let [first, second] = [step.cluster1, step.cluster2].map(|index| std::mem::take(&mut clusters[index]));
            let merged: Vec<_> = first.into_iter().chain(second).collect();
            let similarity = 1.0 - step.dissimilarity;
            let within = similarities[step.cluster1].max(similarities[step.cluster2]);
            similarities.push(similarity);
            if (MIN_GROUP..=MAX_GROUP).contains(&merged.len()) && similarity > MIN_SIMILARITY * within {
                candidates.push(merged.clone());
            }
            clusters.push(merged);
        }
        ClassSimilarity { order: clusters.pop().unwrap_or_default(), clusters: candidates }
    }

    /// Returns at most `limit` groups that have no classes in common, those with the most photos that are classified as
    /// another class of their group first.
    pub fn most_confused_groups(&self, confusion: &ConfusionMatrix, limit: usize) -> Vec<&[usize]> {
        let confused = |group: &[usize]| -> u32 {
            let pairs = group.iter().flat_map(|&a| group.iter().map(move |&b| (a, b)));
            pairs.filter(|(a, b)| a != b).map(|(a, b)| confusion.count(a, b)).sum()
        };
        let mut groups: Vec<_> = self.clusters.iter().map(|group| (confused(group), group.as_slice())).collect();
        groups.retain(|(count, _)| *count > 0);
        groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let mut disjoint: Vec<&[usize]> = Vec::new();
        for (_, group) in groups {
            if disjoint.len() < limit && disjoint.iter().all(|other| other.iter().all(|class| !group.contains(class))) {
                disjoint.push(group);
            }
        }
        disjoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confusion(classes: usize, pairs: &[(usize, usize, u32)]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(classes);
        for class in 0..classes {
            (0..10).for_each(|_| matrix.add(class, class));
        }
        for &(actual, predicted, count) in pairs {
            (0..count).for_each(|_| matrix.add(actual, predicted));
        }
        matrix
    }

    #[test]
    fn confused_classes_are_adjacent() {
        let matrix = confusion(6, &[(0, 4, 5), (4, 2, 4), (1, 5, 6), (5, 3, 3)]);
        let similarity = ClassSimilarity::new(&matrix);
        let position = |class| similarity.order.iter().position(|&other| other == class).unwrap();
        let mut sorted = similarity.order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        assert_eq!(position(0).abs_diff(position(4)), 1);
        assert_eq!(position(1).abs_diff(position(5)), 1);
        let mut groups: Vec<_> = similarity
            .most_confused_groups(&matrix, 3)
            .into_iter()
            .map(|group| {
                let mut group = group.to_vec();
                group.sort_unstable();
                group
            })
            .collect();
        groups.sort();
        assert_eq!(groups, [vec![0, 2, 4], vec![1, 3, 5]]);
    }

    /// One photo of class 0 is classified as class 3, which is no reason to join their groups.
    #[test]
    fn unrelated_groups_are_not_joined() {
        let pairs = [(0, 1, 5), (1, 2, 5), (0, 2, 5), (3, 4, 4), (4, 5, 4), (3, 5, 4), (0, 3, 1)];
        let matrix = confusion(6, &pairs);
        let similarity = ClassSimilarity::new(&matrix);
        let groups: Vec<_> =
            similarity.most_confused_groups(&matrix, 3).into_iter().map(|group| group.iter().sum::<usize>()).collect();
        assert_eq!(groups, [3, 12], "classes 0 to 2, then classes 3 to 5");
    }

    #[test]
    fn one_class_has_an_order() {
        assert_eq!(ClassSimilarity::new(&confusion(1, &[])).order, [0]);
    }
}
