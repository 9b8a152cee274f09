"""Compares engines: checks their logits, and times them in alternating rounds."""

import array
import statistics
import sys

from engines import EngineError

# Maximum difference of the logits, relative to the largest one. Winograd's transforms cost a few digits of precision. A
# wrong network or a missing normalisation causes far larger differences.
TOLERANCE = 1e-3


def log_progress(text):
    """Prints a message to stderr. Results are printed to stdout."""
    print(text, file=sys.stderr, flush=True)


def reference(case, models):
    """Returns PyTorch's logits for a case, flattened."""
    logits = array.array("f")
    logits.frombytes((models / f"{case.network}.logits.f32").read_bytes())
    # The file holds the logits of eight images, of which a batch contains the first ones.
    return logits[: len(logits) // 8 * case.batch]


def check(logits, expected, tolerance=TOLERANCE):
    """Returns the largest difference relative to the largest expected logit, after removing the mean difference of each
    image.

    Raises EngineError if the number of logits is wrong, or if they differ by the tolerance or more.
    """
    if len(logits) != len(expected):
        raise EngineError(f"expected {len(expected)} logits, got {len(logits)}")
    worst = largest = 0.0
    for start in range(0, len(expected), 1000):
        image, expected_image = logits[start : start + 1000], expected[start : start + 1000]
        shift = statistics.fmean(image) - statistics.fmean(expected_image)
        worst = max(worst, *(abs(a - b - shift) for a, b in zip(image, expected_image)))
        largest = max(largest, *map(abs, expected_image))
    if not worst / largest < tolerance:
        raise EngineError(
            f"wrong logits: the largest difference is {worst / largest:.1e} of the largest logit; the limit is {tolerance:.0e}"
        )
    return worst / largest


def compare(case, engines, rounds, seconds, models, tolerances={}):
    """Times all engines that compute the right logits in `rounds` alternating rounds, each of which starts with a
    different engine. `tolerances` holds larger tolerances for some engines, by name.

    Returns three dictionaries by engine name: the list of each round's median in ms, the difference of the logits, and
    the errors.
    """
    times, differences, failures = {}, {}, {}
    expected = reference(case, models)
    for engine in engines:
        try:
            differences[engine.name] = check(engine.load(case), expected, tolerances.get(engine.name, TOLERANCE))
            times[engine.name] = []
        except EngineError as error:
            failures[engine.name] = error
    for index in range(rounds):
        order = [engine for engine in engines if engine.name in times]
        order = order[index % max(len(order), 1) :] + order[: index % max(len(order), 1)]
        for engine in order:
            try:
                times[engine.name].append(engine.time(case, seconds))
            except EngineError as error:
                failures[engine.name] = error
                del times[engine.name]
        log_progress(f"{case}, round {index + 1} of {rounds}: " + ", ".join(f"{name} {ms[-1]:.1f}" for name, ms in times.items()))
    return times, differences, failures
