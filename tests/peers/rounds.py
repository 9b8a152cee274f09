"""Compares engines: checks their logits, then times them in alternating rounds."""

import array
import statistics
import sys

from engines import EngineError

# Relative to the largest logit. Winograd's transforms cost a few digits; a wrong network or a missing normalisation far more.
TOLERANCE = 1e-3


def say(text):
    """Prints progress to stderr; results go to stdout."""
    print(text, file=sys.stderr, flush=True)


def reference(case, models):
    logits = array.array("f")
    logits.frombytes((models / f"{case.network}.logits.f32").read_bytes())
    # The file holds logits of eight images, and every batch consists of the first of them.
    return logits[: len(logits) // 8 * case.batch]


def check(logits, expected, tolerance=TOLERANCE):
    """Returns the largest difference relative to the largest logit, after removing each image's mean difference."""
    if len(logits) != len(expected):
        raise EngineError(f"expected {len(expected)} logits, got {len(logits)}")
    worst = largest = 0.0
    for start in range(0, len(expected), 1000):
        ours, theirs = logits[start : start + 1000], expected[start : start + 1000]
        shift = statistics.fmean(ours) - statistics.fmean(theirs)
        worst = max(worst, *(abs(a - b - shift) for a, b in zip(ours, theirs)))
        largest = max(largest, *map(abs, theirs))
    if not worst / largest < tolerance:
        raise EngineError(f"wrong logits: largest difference is {worst / largest:.1e} of the largest logit")
    return worst / largest


def compare(case, engines, rounds, seconds, models, tolerances={}):
    """Times every engine that computes the right logits in `rounds` alternating rounds, each starting with a different engine.
    `tolerances` holds larger tolerances for some engines, by name.

    Returns three dictionaries by engine name: the medians of the rounds in ms, the difference of the logits, and the errors.
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
        turn = [engine for engine in engines if engine.name in times]
        turn = turn[index % max(len(turn), 1) :] + turn[: index % max(len(turn), 1)]
        for engine in turn:
            try:
                times[engine.name].append(engine.time(case, seconds))
            except EngineError as error:
                failures[engine.name] = error
                del times[engine.name]
        say(f"{case}, round {index + 1} of {rounds}: " + ", ".join(f"{name} {ms[-1]:.1f}" for name, ms in times.items()))
    return times, differences, failures
