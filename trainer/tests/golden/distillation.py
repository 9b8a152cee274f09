"""Writes distillation.json: the loss of a student and its gradient with respect to the logits, computed by PyTorch.

    python distillation.py

Requires torch (last run with 2.15 on a CPU). The test itself does not: it reads the committed file.

The loss is (1 - weight) * cross-entropy + weight * T**2 * KL(softmax(teacher / T) || softmax(student / T)), where the
divergence is a mean over the batch, and the cross-entropy one over the images with a label. It is computed in double
precision from logits in single precision.
"""

import json
from pathlib import Path

import torch
from torch.nn import functional

BATCH, CLASSES = 6, 5
UNLABELLED = -100  # `ignore_index` of PyTorch
LABELS = [2, 0, 4, 1, 2, 3]
CASES = [
    ({"distillation-temperature": 1.0, "distillation-weight": 0.5}, LABELS),
    ({"distillation-temperature": 4.0, "distillation-weight": 0.9}, LABELS),
    ({"distillation-temperature": 20.0, "distillation-weight": 1.0}, LABELS),
    ({"distillation-temperature": 2.5, "distillation-weight": 0.3, "label-smoothing": 0.1}, LABELS),
    (
        {
            "distillation-temperature": 4.0,
            "distillation-weight": 0.6,
            "label-smoothing": 0.2,
            "class-weights": [0.5, 2.0, 1.0, 3.0, 0.7],
        },
        LABELS,
    ),
    ({"distillation-temperature": 4.0, "distillation-weight": 0.7}, [2, None, 4, None, None, 3]),
    (
        {
            "distillation-temperature": 3.0,
            "distillation-weight": 0.7,
            "label-smoothing": 0.1,
            "class-weights": [0.5, 2.0, 1.0, 3.0, 0.7],
        },
        [None, 1, None, 0, 4, None],
    ),
    ({"distillation-temperature": 4.0, "distillation-weight": 0.7}, [None] * BATCH),
]


def loss_of(logits, teacher_logits, classes, settings):
    temperature, weight = settings["distillation-temperature"], settings["distillation-weight"]
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.softmax(teacher_logits / temperature, dim=1)
    loss = weight * temperature**2 * functional.kl_div(student, teacher, reduction="batchmean")
    if all(label is None for label in classes):
        return loss
    weights = settings.get("class-weights")
    labels = torch.tensor([UNLABELLED if label is None else label for label in classes])
    hard = functional.cross_entropy(
        logits,
        labels,
        weight=weights and torch.tensor(weights, dtype=logits.dtype),
        ignore_index=UNLABELLED,
        label_smoothing=settings.get("label-smoothing", 0.0),
    )
    return loss + (1 - weight) * hard


def main():
    torch.manual_seed(0)
    values, teacher_values = (scale * torch.randn(BATCH, CLASSES) for scale in (2.0, 4.0))
    cases = []
    for settings, classes in CASES:
        logits = values.double().requires_grad_()
        loss = loss_of(logits, teacher_values.double(), classes, settings)
        loss.backward()
        gradient = logits.grad.flatten().tolist()
        cases.append({"settings": settings, "classes": classes, "loss": loss.item(), "gradient": gradient})
    golden = {
        "made_with": {"torch": torch.__version__.split("+")[0]},
        "logits": values.flatten().tolist(),
        "teacher_logits": teacher_values.flatten().tolist(),
        "cases": cases,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
