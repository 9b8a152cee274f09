"""Formats the results as tables, and as one line of JSON."""

import json
import statistics

# Share of the processors' time above which figures are marked as unreliable.
MAX_CONTENTION = 0.03


def medians(times):
    """Returns the median of the rounds by engine name."""
    return {name: statistics.median(rounds) for name, rounds in times.items()}


def cell(name, times):
    """Formats the median of an engine's rounds, half their range in percent, and Shortcut's median divided by the engine's."""
    rounds = times.get(name)
    if not rounds:
        return "-"
    ratio = ratios(medians(times)).get(name)
    return f"{median_with_range(rounds)} " + (f"({ratio:.2f})" if ratio else " " * 6)


def median_with_range(rounds):
    """Formats the median of rounds, and half their range in percent."""
    median = statistics.median(rounds)
    half_range = 50 * (max(rounds) - min(rounds)) / median
    return f"{median:.1f} ±{half_range:.0f}%"


def table(rows):
    """Formats rows as aligned columns: the first left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(rest, widths[1:]))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows):
    """Formats rows as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def ratios(times):
    """Returns Shortcut's time divided by that of each peer, by name."""
    shortcut = times.get("shortcut")
    return {name: shortcut / ms for name, ms in times.items() if name != "shortcut"} if shortcut else {}


def comparison(title, results, names, versions):
    """Formats a table with a row for each engine and a column for each case. `results` holds (case, times by engine, ...)."""
    rows = [[title, *(str(case) for case, *_ in results)]]
    for name in names:
        cells = [cell(name, times) for _, times, *_ in results]
        rows.append([f"{name} {versions.get(name, '')}".strip(), *cells])
    return table(rows)


def case_json(result):
    """Returns the JSON summary of one case."""
    case, times, differences = result
    median_ms = medians(times)
    return {
        "network": case.network,
        "batch": case.batch,
        "ms": {name: round(ms, 3) for name, ms in median_ms.items()},
        "ratios": {name: round(ratio, 4) for name, ratio in ratios(median_ms).items()},
        "rounds_ms": {name: [round(ms, 3) for ms in rounds] for name, rounds in times.items()},
        "logits_differ_by": {name: float(f"{value:.2g}") for name, value in differences.items()},
    }


def print_conditions(machine, contention):
    """Prints a description of the machine, and a note if other programs disturbed the measurements."""
    family = machine["family_model_stepping"]
    print(f"\n{machine['processor']} ({family}), {machine['cores']} cores, {machine['memory_gb']} GB")
    print(" ".join(machine["flags"]) or "no relevant instruction-set extensions")
    others, stolen = contention["others"], contention["stolen"]
    if others > MAX_CONTENTION or stolen > MAX_CONTENTION:
        print(
            f"NOTE: these figures are unreliable. Other programs used {others:.0%} of the processors, and the hypervisor "
            f"took {stolen:.0%}."
        )


def print_report(machine, contention, threads, rounds, seconds, sections, verdicts, missing):
    print_conditions(machine, contention)
    print(f"Each engine uses {threads} threads.")
    print(f"Medians of {rounds} alternating rounds of {seconds:g} s, ms per run, ± half the range; in parentheses Shortcut / peer.")
    for section in sections:
        print(f"\n{section}")
    print("\n" + table([["ratio or quantity", "measured", "target", ""], *(verdict.row() for verdict in verdicts)]))
    for name, reason in sorted(missing.items()):
        print(f"MISSING {name}: {reason}")


def print_json(**results):
    print(json.dumps(results))
