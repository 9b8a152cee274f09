"""scikit-learn recomputes the figures of an evaluation from the files that `trainer evaluate --report` writes."""

import csv
import json
import os
import subprocess
from pathlib import Path

import numpy
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

CHECKPOINT = "resnet18-imagenette"
SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PHOTOS_PER_CLASS = 6
BINS = 15


def run_trainer(*arguments, folder):
    command = [os.environ["SHORTCUT_TRAINER"], *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_photos(folder, classes):
    """Writes random crops of the sample photos. Their classes are arbitrary, so that most predictions are wrong."""
    random = numpy.random.default_rng(1)
    sources = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.glob("*.jpg"))]
    for index in range(PHOTOS_PER_CLASS * len(classes)):
        source = sources[index % len(sources)]
        side = int(random.integers(60, min(source.size)))
        left, top = (int(random.integers(0, length - side + 1)) for length in source.size)
        class_folder = folder / classes[index % len(classes)]
        class_folder.mkdir(parents=True, exist_ok=True)
        source.crop((left, top, left + side, top + side)).save(class_folder / f"{index}.png")
    (folder / classes[0] / "broken.jpg").write_text("not a photo")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    """Returns the JSON document of an evaluation, and the rows of its CSV files by name."""
    root = tmp_path_factory.mktemp("evaluation")
    classes = json.loads(run_trainer("inspect", CHECKPOINT, "--json", folder=root))["metadata"]["classes"]
    write_photos(root / "photos", classes)
    arguments = ["--checkpoint", CHECKPOINT, "--data", "photos", "--json", "--report", "report"]
    document = json.loads(run_trainer("evaluate", *arguments, folder=root))
    return document, {name: rows(root / f"report/{name}.csv") for name in ("predictions", "classes", "confusion")}


def column(table, name, convert=float):
    return numpy.array([convert(row[name]) for row in table])


def test_matrix_and_figures_equal_those_of_scikit_learn(evaluation):
    document, tables = evaluation
    classes = [row["class"] for row in tables["classes"]]
    actual, predicted = (column(tables["predictions"], name, str) for name in ("class", "predicted"))
    assert len(set(predicted)) > 3, "the predictions are too uniform for a comparison"
    matrix = confusion_matrix(actual, predicted, labels=classes)
    assert document["confusion"] == matrix.tolist()
    assert [[int(row[name]) for name in classes] for row in tables["confusion"]] == matrix.tolist()
    figures = precision_recall_fscore_support(actual, predicted, labels=classes, zero_division=0)
    for name, expected in zip(("precision", "recall", "f1", "support"), figures):
        assert numpy.allclose(column(tables["classes"], name), expected), name
        assert numpy.allclose([entry[name] for entry in document["classes"]], expected), name


def test_metrics_equal_those_of_the_predictions(evaluation):
    document, tables = evaluation
    predictions = tables["predictions"]
    assert (document["photos"], document["skipped"]) == (len(predictions), 1)
    (skipped,) = document["skipped_files"]
    assert skipped["file"].endswith("broken.jpg") and skipped["reason"]
    ranks, correct = column(predictions, "rank", int), column(predictions, "correct", int)
    assert document["top1"] == pytest.approx((ranks == 1).mean()) == pytest.approx(correct.mean())
    assert document["top5"] == pytest.approx((ranks <= 5).mean())
    losses = -numpy.log(column(predictions, "correct_class_probability"))
    assert numpy.allclose(losses, column(predictions, "loss"), rtol=1e-3)
    assert document["loss"] == pytest.approx(losses.mean(), rel=1e-3)
    # Bins contain their upper limits.
    confidence = column(predictions, "probability")
    bins = numpy.ceil(confidence * BINS)
    errors = [abs((confidence - correct)[bins == index].sum()) for index in range(1, BINS + 1)]
    assert document["expected_calibration_error"] == pytest.approx(sum(errors) / len(predictions), abs=1e-6)
