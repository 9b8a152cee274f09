"""Formats the results as tables, and as one line of JSON."""

import json
import statistics


def medians(times):
    return {name: statistics.median(rounds) for name, rounds in times.items()}


def cell(name, times):
    """Formats the median of the rounds, half their range, and Shortcut's time divided by this one's."""
    rounds = times.get(name)
    if not rounds:
        return "-"
    median = statistics.median(rounds)
    ratio = ratios(medians(times)).get(name)
    spread = 50 * (max(rounds) - min(rounds)) / median
    return f"{median:.1f} ±{spread:.0f}% " + (f"({ratio:.2f})" if ratio else " " * 6)


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
    """Returns Shortcut's time divided by that of each peer."""
    ours = times.get("shortcut")
    return {name: ours / ms for name, ms in times.items() if name != "shortcut"} if ours else {}


def comparison(title, results, names, versions):
    """Formats a table of engines by case; `results` holds (case, times by engine, ...)."""
    rows = [[title, *(str(case) for case, *_ in results)]]
    for name in names:
        cells = [cell(name, times) for _, times, *_ in results]
        rows.append([f"{name} {versions.get(name, '')}".strip(), *cells])
    return table(rows)


def rounded(result):
    """Returns the JSON summary of one case."""
    case, times, differences = result
    middles = medians(times)
    return {
        "network": case.network,
        "batch": case.batch,
        "ms": {name: round(ms, 3) for name, ms in middles.items()},
        "ratios": {name: round(ratio, 4) for name, ratio in ratios(middles).items()},
        "rounds_ms": {name: [round(ms, 3) for ms in rounds] for name, rounds in times.items()},
        "logits_differ_by": {name: float(f"{value:.2g}") for name, value in differences.items()},
    }


def conditions(machine, use):
    family = machine["family_model_stepping"]
    print(f"\n{machine['processor']} ({family}), {machine['cores']} cores, {machine['memory_gb']} GB")
    print(" ".join(machine["flags"]) or "no relevant instruction-set extensions")
    if use["others"] > 0.03 or use["stolen"] > 0.03:
        print(
            f"NOTE: these figures are unreliable. Other programs used {use['others']:.0%} of the processors, and the "
            f"hypervisor took {use['stolen']:.0%}."
        )


def in_words(machine, use, threads, rounds, seconds, sections, verdicts, missing):
    conditions(machine, use)
    print(f"{threads} threads each.")
    print(f"Medians of {rounds} alternating rounds of {seconds:g} s, ms per run, ± half the range; in parentheses Shortcut / peer.")
    for section in sections:
        print(f"\n{section}")
    print("\n" + table([["ratio or quantity", "measured", "target", ""], *(verdict.row() for verdict in verdicts)]))
    for name, reason in sorted(missing.items()):
        print(f"MISSING {name}: {reason}")


def summary(**parts):
    print(json.dumps(parts))
