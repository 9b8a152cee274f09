//! Tests of whole pages, with synthetic reports.

mod document;
mod synthetic;

use super::{confusion_png, confusion_svg, render};
use crate::data::{SampleLocation, SkippedSample};
use crate::report::content::Report;
use crate::report::evaluation_report::EvaluationReport;
use crate::training::FeaturesRecord;
use document::{Element, parse};
use model::preprocess::{Limits, Photo};
use std::collections::HashSet;
use synthetic::{HOSTILE, evaluation, names, report, run, with_photos};

/// Parses a page, and checks what is true of every page.
fn check(report: &Report) -> Element {
    let html = render(report);
    let page = parse(&html);
    assert_eq!(page.all("h1")[0].text, report.title);
    for attribute in page.attribute_values() {
        assert!(attribute.starts_with("data:image/") || !attribute.contains("://"), "{attribute}");
    }
    page.elements().into_iter().for_each(|element| check_element(element, &page));
    let ids: Vec<_> =
        page.elements().into_iter().map(|element| element.attribute("id")).filter(|id| !id.is_empty()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
    let tables = page.all("table");
    let columns = |row: &Element| row.all("th").len() + row.all("td").len();
    assert!(tables.iter().all(|table| table.all("tr").iter().all(|row| columns(row) == columns(table.all("tr")[0]))));
    page
}

fn check_element(element: &Element, page: &Element) {
    let attribute = |name| element.attribute(name);
    assert_eq!(attribute("style"), "", "the content security policy forbids style attributes");
    match element.name.as_str() {
        "link" | "iframe" | "object" => panic!("{} is external", element.name),
        "script" | "style" => assert!(!["http", "url(", "@import"].iter().any(|text| element.text.contains(text))),
        "img" => assert!(attribute("src").starts_with("data:image/") && !attribute("alt").is_empty()),
        "th" => assert!(["col", "row"].contains(&attribute("scope")), "{}", element.text),
        "svg" if attribute("aria-hidden") == "true" => {}
        "svg" => assert!(attribute("role") == "img" && !attribute("aria-label").is_empty()),
        "path" => assert!(attribute("d").chars().all(|character| "MLHhv0123456789.,-".contains(character))),
        "rect" => {
            let sizes = ["x", "y", "width", "height"].map(attribute).map(|size| size.parse().unwrap_or(0.0));
            assert!(sizes.iter().all(|size: &f64| (0.0..1e6).contains(size)), "{sizes:?}");
        }
        "a" => assert!(page.section(attribute("href").strip_prefix('#').unwrap()).is_some()),
        _ => {}
    }
}

fn sections(page: &Element) -> Vec<&str> {
    let sections = page.all("section").into_iter().map(|section| section.attribute("id"));
    sections.filter(|id| !id.is_empty()).collect()
}

/// Returns actual class, predicted class and count of the cells of a matrix, from their titles.
fn cells(svg: &Element) -> Vec<(String, String, u32)> {
    let titles = svg.all("rect").into_iter().filter(|cell| !cell.text.is_empty()).map(|cell| cell.text.as_str());
    let cell = |title: &str| {
        let (actual, rest) = title.strip_prefix("actual ").unwrap().split_once(", predicted ").unwrap();
        let (predicted, rest) = rest.split_once(": ").unwrap();
        (actual.to_owned(), predicted.to_owned(), rest.split(' ').next().unwrap().parse().unwrap())
    };
    titles.map(cell).collect()
}

/// Returns the cells that the confusion matrix contains, by the identifiers of [`names`].
fn expected_cells(evaluation: &EvaluationReport, name: impl Fn(usize) -> String) -> Vec<(String, String, u32)> {
    let order = &evaluation.similarity().order;
    let cells = order.iter().flat_map(|&actual| order.iter().map(move |&predicted| (actual, predicted)));
    let count = |(actual, predicted)| evaluation.details.confusion.count(actual, predicted);
    let cells = cells.filter(|&cell| count(cell) > 0);
    cells.map(|cell| (name(cell.0), name(cell.1), count(cell))).collect()
}

#[test]
fn small_matrices_are_svg_with_counts() {
    for classes in [1, 2, 10] {
        let evaluation = evaluation(names(classes), 500);
        let expected = expected_cells(&evaluation, |class| format!("class {class}"));
        let file = parse(&confusion_svg(&evaluation));
        let page = check(&report(Vec::new(), Some(evaluation)));
        let section = page.section("confusion").unwrap();
        let matrices: Vec<_> = section.all("svg").into_iter().filter(|svg| svg.attribute("role") == "img").collect();
        assert_eq!(matrices.len(), 1, "{classes} classes need no enlarged groups");
        assert_eq!(cells(matrices[0]), expected);
        assert_eq!(matrices[0].with_class("text", "count").len(), expected.len());
        assert_eq!(cells(&file), expected);
    }
}

#[test]
fn matrix_of_100_classes_is_svg_and_its_groups_are_enlarged() {
    let evaluation = evaluation(names(100), 5000);
    let expected = expected_cells(&evaluation, |class| format!("class {class}"));
    let page = check(&report(Vec::new(), Some(evaluation)));
    let section = page.section("confusion").unwrap();
    let matrices: Vec<_> = section.all("svg").into_iter().filter(|svg| svg.attribute("role") == "img").collect();
    assert_eq!(cells(matrices[0]), expected);
    assert!(matrices[0].with_class("text", "count").is_empty());
    assert!((2..=7).contains(&matrices.len()), "{}", matrices.len());
    assert!(matrices[1..].iter().all(|group| cells(group).iter().all(|cell| expected.contains(cell))));
}

/// The counts are decoded here independently of the script.
#[test]
fn matrix_of_200_classes_is_an_image_with_counts() {
    let evaluation = evaluation(names(200), 5000);
    let expected = expected_cells(&evaluation, |class| format!("class {class}"));
    let page = check(&report(Vec::new(), Some(evaluation)));
    let image = page.one("div", "matrix-image");
    assert_eq!((image.all("img").len(), image.all("source").len()), (1, 1));
    assert_eq!(image.all("img")[0].attribute("width"), "600");
    let counts = page.all("script").into_iter().find(|script| script.attribute("id") == "confusion-counts").unwrap();
    let counts: serde_json::Value = serde_json::from_str(&counts.text).unwrap();
    let name = |index: usize| counts["names"][index].as_str().unwrap().to_owned();
    let mut cells = Vec::new();
    for (row, values) in counts["rows"].as_array().unwrap().iter().enumerate() {
        let values: Vec<_> = values.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as usize).collect();
        let mut end = 0;
        for pair in values.chunks_exact(2) {
            end += pair[0];
            cells.push((name(row), name(end - 1), pair[1] as u32));
        }
    }
    assert_eq!(cells, expected);
}

#[test]
fn page_of_1000_classes_and_50_000_photos_is_small() {
    let evaluation = with_photos(evaluation(names(1000), 50_000));
    let page = report(vec![run("finetune-1", 90, 0.1)], Some(evaluation));
    let html = render(&page);
    assert!((1_500_000..3_000_000).contains(&html.len()), "{} bytes", html.len());
    let page = check(&page);
    let classes = page.section("classes").unwrap().all("table")[0];
    assert_eq!(classes.all("tbody")[0].all("tr").len(), 1000);
    assert_eq!(page.one("div", "errors").all("img").len(), 72);
    assert_eq!(page.with_class("section", "pair").len(), 12);
    let captions = page.one("div", "errors").with_class("span", "file");
    assert!(captions.iter().all(|caption| caption.text.starts_with("val/n")), "{}", captions[0].text);
}

#[test]
fn hostile_names_are_escaped() {
    let labels: Vec<_> = HOSTILE.iter().map(|&name| name.to_owned()).chain(["x".repeat(5000)]).collect();
    let mut evaluation = with_photos(evaluation(labels, 2000));
    evaluation.data = "/photos/<b>&".into();
    let location = SampleLocation::File("/photos/<i>\"x\"&.jpg".into());
    evaluation.details.skipped.push(SkippedSample { location, reason: "<u>".into() });
    evaluation.command = "trainer '</code>' && \"<\"".into();
    let mut hostile = report(vec![run("<b>run</b>", 3, 0.1), run("<b>run</b>", 2, 0.2)], Some(evaluation));
    hostile.title = "</title><script>".into();
    hostile.notes = vec!["<script>alert(1)</script>".into()];
    hostile.runs[0].recipe = "seed = \"</pre>\"\n".into();
    let page = check(&hostile);
    assert_eq!(page.all("script").len(), 1, "only the page's own script");
    assert!(page.all("i").is_empty() && page.all("u").is_empty());
    assert_eq!(page.one("ul", "notes").text, "<script>alert(1)</script>");
    let names: Vec<_> = page.section("classes").unwrap().all("tbody")[0]
        .all("tr")
        .iter()
        .map(|row| row.all("span")[0].text.clone())
        .collect();
    assert_eq!(names[..6], [HOSTILE[0], HOSTILE[1], HOSTILE[2], "crane (n0003)", "crane (n0004)", "n0005"]);
    assert!(names[10].chars().count() <= 60 && names[10].ends_with('…'), "{}", names[10]);
    assert_eq!(names[8], "control \u{fffd}\u{fffd} characters");
    let svg = parse(&confusion_svg(hostile.evaluation.as_ref().unwrap()));
    assert!(svg.all("script").is_empty());
}

#[test]
fn hostile_names_do_not_end_the_counts_of_an_image() {
    let labels: Vec<_> = (0..150).map(|class| format!("{}{class}", HOSTILE[class % HOSTILE.len()])).collect();
    let page = check(&report(Vec::new(), Some(evaluation(labels, 1000))));
    assert_eq!(page.all("script").len(), 2);
}

#[test]
fn parts_without_content_are_omitted() {
    let page = check(&report(vec![run("finetune-1", 12, 0.1)], None));
    assert_eq!(sections(&page), ["training", "origin"]);
    assert_eq!(page.with_class("figure", "chart").len(), 5);
    assert!(page.all("table").is_empty(), "a single run is not compared");
    let page = check(&report(Vec::new(), Some(evaluation(names(10), 100))));
    assert_eq!(sections(&page), ["evaluation", "confusion", "classes", "calibration", "misclassified", "origin"]);
    assert_eq!(page.section("misclassified").unwrap().all("table").len(), 2, "pairs and errors");
    assert!(page.all("img").is_empty());
    let page = check(&report(Vec::new(), None));
    assert_eq!(sections(&page), ["origin"]);
}

#[test]
fn best_epoch_is_marked_and_summarised() {
    let run = run("finetune-1", 12, 0.1);
    let (epoch, top1) = run.best().map(|best| (best.epoch, 100.0 * best.val.top1)).unwrap();
    let page = check(&report(vec![run], None));
    let mark = page.all("text").into_iter().find(|text| text.attribute("class") == "mark-label").unwrap();
    assert_eq!(mark.text, format!("epoch {epoch}: {top1:.1}\u{a0}%"));
    let summary = &page.one("p", "summary").text;
    assert!(
        summary.starts_with(&format!("The best epoch is {epoch} of 12: top-1 {top1:.1}\u{a0}% of 3,925")),
        "{summary}"
    );
    assert!(summary.contains("Training took 16\u{a0}min on 2 GPUs"), "{summary}");
}

/// A resumed run computes the features again.
#[test]
fn features_have_their_own_duration() {
    let mut run = run("head-1", 12, 0.1);
    run.features = [95.0, 25.0].map(|seconds| FeaturesRecord { photos: 10_000, seconds }).to_vec();
    let page = check(&report(vec![run], None));
    let summary = &page.one("p", "summary").text;
    assert!(summary.ends_with("on 2 GPUs, after 2\u{a0}min\u{a0}0\u{a0}s for the features."), "{summary}");
    let facts = &page.section("origin").unwrap().all("dl")[0].text;
    assert!(facts.contains("Duration of the features"), "{facts}");
}

#[test]
fn interrupted_run_without_epochs_has_curves() {
    let mut interrupted = run("finetune-1", 1, 0.1);
    interrupted.epochs.clear();
    interrupted.steps.truncate(7);
    interrupted.steps[3].train.loss = None;
    let page = check(&report(vec![interrupted], None));
    assert_eq!(page.with_class("figure", "chart").len(), 5);
    assert!(page.one("p", "summary").text.starts_with("No epoch was completed. Training took 14\u{a0}s"));
    let mut empty = run("finetune-2", 1, 0.1);
    empty.epochs.clear();
    empty.steps.clear();
    let page = check(&report(vec![empty], None));
    assert_eq!(page.section("training").unwrap().all("p")[0].text, "No step was recorded.");
}

#[test]
fn several_runs_are_compared() {
    let runs = vec![run("a", 4, 0.1), run("b", 12, 0.2), run("c", 4, 0.1)];
    let page = check(&report(runs, None));
    let table = page.section("training").unwrap().all("table")[0];
    let headings: Vec<_> = table.all("thead")[0].all("th").iter().map(|heading| heading.text.as_str()).collect();
    assert_eq!(
        headings,
        [
            "Run",
            "Top-1",
            "Top-5",
            "Best epoch",
            "Loss",
            "Epochs",
            "Training time",
            "Network",
            "epochs",
            "learning-rate"
        ]
    );
    let rows = table.all("tbody")[0].all("tr");
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1].attribute("class"), "best");
    let curves = page.with_class("path", "line").into_iter().filter(|path| !path.attribute("data-name").is_empty());
    assert_eq!(curves.count(), 3 * (3 + 3 + 1 + 2 + 2));
}

#[test]
fn curves_are_thinned() {
    let page = check(&report(vec![run("finetune-1", 90, 0.1)], None));
    let points = |path: &Element| path.attribute("d").matches(['M', 'L']).count();
    let longest = page.all("path").into_iter().map(points).max().unwrap();
    assert!((300..=602).contains(&longest), "{longest}");
}

#[test]
fn evaluation_without_errors_has_a_page() {
    let mut perfect = evaluation(names(3), 30);
    perfect.details.predictions.retain(|prediction| prediction.class == prediction.predicted());
    let page = check(&report(Vec::new(), Some(perfect)));
    assert_eq!(page.section("misclassified").unwrap().all("p")[0].text, "All photos were classified correctly.");
}

#[test]
fn content_security_policy_allows_only_the_own_script() {
    let page = check(&report(Vec::new(), Some(evaluation(names(2), 10))));
    let policy = page.all("meta").into_iter().find(|meta| meta.attribute("http-equiv") == "Content-Security-Policy");
    let policy = policy.unwrap().attribute("content");
    assert!(policy.starts_with("default-src 'none'; img-src data:; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[test]
fn image_file_has_a_useful_size() {
    for (classes, side) in [(2, 800), (200, 800), (1000, 1000)] {
        let file = confusion_png(&evaluation(names(classes), 1000));
        let image = Photo::decode(&file, &Limits::default()).unwrap();
        assert_eq!((image.width(), image.height()), (side, side));
    }
}
