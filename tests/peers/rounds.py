"""The comparison itself: who computes the right thing, and how fast, all of them in turn."""

import array
import statistics
import sys

from engines import EngineError

# Of the largest logit. Winograd's transforms cost a few digits, another network or a missing normalisation far more.
TOLERANCE = 1e-3


def say(text):
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)


def reference(case, models):
    logits = array.array("f")
    logits.frombytes((models / f"{case.network}.logits.f32").read_bytes())
    # Batches begin with the same images; there are eight of them.
    return logits[: len(logits) // 8 * case.batch]


def check(logits, expected, tolerance=TOLERANCE):
    """Their largest difference relative to the largest logit, each image's mean aside."""
    if len(logits) != len(expected):
        raise EngineError(f"{len(logits)} logits instead of {len(expected)}")
    worst = largest = 0.0
    for start in range(0, len(expected), 1000):
        ours, theirs = logits[start : start + 1000], expected[start : start + 1000]
        shift = statistics.fmean(ours) - statistics.fmean(theirs)
        worst = max(worst, *(abs(a - b - shift) for a, b in zip(ours, theirs)))
        largest = max(largest, *map(abs, theirs))
    if not worst / largest < tolerance:
        raise EngineError(f"wrong logits: they differ by {worst / largest:.1e} of the largest")
    return worst / largest


def compare(case, engines, rounds, seconds, models, tolerances={}):
    """Times every engine that computes the right logits, `rounds` times in turn, each turn beginning with another.
    `tolerances` are those of engines, by name, that may differ by more.

    Returns by name the medians of the rounds in ms, the difference of the logits, and the error of who has none.
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
