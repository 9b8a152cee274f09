"""Prints the temperatures that the test in trainer/src/evaluation/temperature.rs expects.

    pip install numpy scipy && python trainer/tests/golden/temperature.py
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

PHOTOS, CLASSES, SEED = 200, 10, 7
MASK = (1 << 64) - 1


def uniform(seed):
    """The generator `model::random::Uniform`: SplitMix64, uniform in -1..1."""
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield ((z ^ (z >> 31)) >> 40) / (1 << 23) - 1.0


def golden_logits(scale, margin):
    generator = uniform(SEED)
    values = np.array([next(generator) for _ in range(PHOTOS * CLASSES)], np.float32).reshape(PHOTOS, CLASSES)
    logits, classes = values * np.float32(scale), np.arange(PHOTOS) * 7 % CLASSES
    logits[np.arange(PHOTOS), classes] += np.float32(margin)
    return logits.astype(np.float64), classes


for scale, margin in [(6.0, 3.0), (2.0, 2.0), (30.0, 40.0), (0.4, 0.3)]:
    logits, classes = golden_logits(scale, margin)

    def loss(inverse_temperature):
        return -log_softmax(logits * inverse_temperature, axis=1)[np.arange(PHOTOS), classes].mean()

    fitted = minimize_scalar(loss, bounds=(1 / 20, 1 / 0.05), method="bounded", options={"xatol": 1e-12})
    correct = (logits.argmax(axis=1) == classes).mean()
    print(f"scale {scale}, margin {margin}: temperature {1 / fitted.x:.7f}, loss {fitted.fun:.6f}, top-1 {correct:.3f}")
