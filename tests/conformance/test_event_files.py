"""TensorBoard reads the event files of a training run that was killed and resumed; `metrics.jsonl` has the expected values."""

import io
import json
import os
import signal
import subprocess

import numpy
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS_PER_EPOCH = 40
BATCH_SIZE = 2
SIDE = 32
# Gap between two images of the grid, in pixels.
GAP = 2
ARGUMENTS = ["--data", "photos", "--recipe", "finetune", "--epochs", "2", "--image-size", SIDE, "--batch-size", BATCH_SIZE]
# A state is saved every 0.3 seconds.
SAVE_EVERY = ["--save-every", "0.005"]


def trainer(*arguments):
    return [os.environ["SHORTCUT_TRAINER"], *map(str, arguments)]


def write_photos(folder):
    """Writes photos of noise around one colour for each of two classes."""
    random = numpy.random.default_rng(1)
    for split, count in [("train", STEPS_PER_EPOCH * BATCH_SIZE // 2), ("val", 4)]:
        for name, colour in [("green", (60, 180, 60)), ("red", (180, 60, 60))]:
            class_folder = folder / split / name
            class_folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 60, (40, 40, 3), numpy.uint8) + numpy.uint8(colour)
                Image.fromarray(pixels).save(class_folder / f"{index}.png")


def train_and_kill(root):
    """Starts a run, and kills it in the middle of the first epoch, after at least one state."""
    with subprocess.Popen(trainer(*ARGUMENTS, *SAVE_EVERY, "--output", "run"), cwd=root, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith(f"epoch 1/2, step {STEPS_PER_EPOCH // 2}/"):
                break
        run.kill()
    assert run.returncode == -signal.SIGKILL, "the run ended before it was killed"


def resume(root):
    subprocess.run(trainer("--resume", "run", *SAVE_EVERY), cwd=root, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of a run that was killed, and resumed twice: from the middle of an epoch, and from an earlier state."""
    root = tmp_path_factory.mktemp("events")
    write_photos(root / "photos")
    train_and_kill(root)
    folder = root / "run"
    (events,) = folder.glob("*tfevents*")
    with events.open("ab") as file:
        # Length and checksum of a record whose payload was not written.
        file.write(events.read_bytes()[:12])
    resume(root)
    states = sorted((folder / "states").glob("*.safetensors"))
    states[-1].unlink()
    resume(root)
    assert len(list(folder.glob("*tfevents*"))) == 3, "each process writes one file"
    return folder


@pytest.fixture(scope="module")
def events(run):
    # 0 disables sampling.
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0}).Reload()


def expected_scalars(run):
    """Returns the steps and values of each tag, from `metrics.jsonl`."""
    scalars = {}
    for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        if record["kind"] == "step":
            step = record["step"]
            values = {f"train/{name}": value for name, value in record["train"].items()}
            values["train/learning_rate"] = record["learning_rate"]
        else:
            step = STEPS_PER_EPOCH
            values = {f"epoch/{name}": value for name, value in record["train"].items()}
            values.update({f"val/{name}": record["val"][name] for name in ["loss", "top1", "top5"]})
        step += (record["epoch"] - 1) * STEPS_PER_EPOCH
        for tag, value in values.items():
            scalars.setdefault(tag, []).append((step, float(numpy.float32(value))))
    return scalars


def test_scalars_equal_those_of_metrics_jsonl(run, events):
    expected = expected_scalars(run)
    assert {step for step, _ in expected["train/loss"]} == {10, 20, 30, 40, 50, 60, 70, 80}
    assert [step for step, _ in expected["val/top1"]] == [40, 80]
    assert set(events.Tags()["scalars"]) == set(expected)
    for tag, values in expected.items():
        assert [(event.step, event.value) for event in events.Scalars(tag)] == values, tag


def test_first_batch_is_an_image(events):
    assert events.Tags()["images"] == ["train/batch"]
    (image,) = events.Images("train/batch")
    assert image.step == 1
    with Image.open(io.BytesIO(image.encoded_image_string)) as decoded:
        decoded.load()
        assert (decoded.format, decoded.mode) == ("PNG", "RGB")
        assert decoded.size == (image.width, image.height) == (BATCH_SIZE * SIDE + GAP, SIDE)


def test_wall_times_increase(events):
    times = [event.wall_time for event in events.Scalars("train/loss")]
    assert times == sorted(times) and times[0] > 1.7e9
