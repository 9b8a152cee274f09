"""Writes events.tfrecord with TensorBoard's messages and its writer of records: the version, an image, and the metrics of
steps and of an epoch.

    python3 trainer/tests/golden/events.py      # tensorboard 2.21.0
"""

from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1.75e9 + 0.125
METRICS = {"loss": 1.5, "top1": 0.0, "seconds": 2.0, "images_per_second": 0.1 + 0.2, "waiting": 0.25}


def scalars(group, metrics):
    return [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in metrics.items()]


image = Summary.Image(height=1, width=2, colorspace=3, encoded_image_string=b"not really a PNG")
steps = scalars("train", {"learning_rate": 0.1, **METRICS})
epoch = scalars("epoch", METRICS) + scalars("val", {"loss": 1.25, "top1": 0.5, "top5": 1.0})
events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=1, summary=Summary(value=[Summary.Value(tag="train/batch", image=image)])),
    # Step 10 of epoch 2 and the end of epoch 300, with 12 steps per epoch.
    Event(wall_time=TIME, step=22, summary=Summary(value=steps)),
    Event(wall_time=TIME, step=3600, summary=Summary(value=epoch)),
]
with open(Path(__file__).with_name("events.tfrecord"), "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString(deterministic=True))
