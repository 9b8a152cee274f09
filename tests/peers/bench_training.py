"""`make bench`: compares training steps of Shortcut on the CPU with PyTorch, in alternating runs.

A step consists of forward pass, cross-entropy, backward pass, and SGD with momentum and weight decay, on random images
in memory. PyTorch runs torchvision's networks in channels_last, eagerly and with torch.compile, in f32 and with
autocast to bf16, and with an allocator that keeps memory for reuse. Uses only the standard library; environment.py installs PyTorch below cargo's target directory. The
last line of the output is a JSON object with all measurements.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import machine
import report
from engines import EngineError, Worker, trainer_report
from environment import HERE, Environment, Unavailable
from rounds import log_progress

SHORTCUT = "shortcut"


@dataclass(frozen=True)
class TrainingCase:
    """A network, its input, and the precision: f32, or the fastest one of each program."""

    network: str
    image_size: int
    batch: int
    precision: str = "f32"
    # The stem for images of 32 pixels: a 3x3 convolution with stride 1, and no max pooling.
    small_stem: bool = False

    def __str__(self):
        stem = ", small stem" if self.small_stem else ""
        precision = "f32" if self.precision == "f32" else f"{self.precision} precision"
        return f"{self.network}{stem}, {self.image_size} px, batch {self.batch}, {precision}"


@dataclass(frozen=True)
class Variant:
    """A way of running PyTorch."""

    precision: str
    compiled: bool
    # Whether glibc keeps freed memory instead of returning it to the operating system.
    keeps_memory: bool = False


CASES = {
    "resnet18": TrainingCase("resnet18", 128, 32),
    "resnet50": TrainingCase("resnet50", 128, 16),
    "resnet18-fastest": TrainingCase("resnet18", 128, 32, precision="fastest"),
    "resnet50-fastest": TrainingCase("resnet50", 128, 16, precision="fastest"),
    "resnet18-small": TrainingCase("resnet18", 32, 128, small_stem=True),
}
VARIANTS = {
    "eager-f32": Variant("f32", compiled=False),
    "eager-f32-kept": Variant("f32", compiled=False, keeps_memory=True),
    "compiled-f32": Variant("f32", compiled=True),
    "eager-bf16": Variant("bf16", compiled=False),
    "eager-bf16-kept": Variant("bf16", compiled=False, keeps_memory=True),
    "compiled-bf16": Variant("bf16", compiled=True),
}
# Variables of glibc's allocator, see mallopt(3).
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "268435456",
}
# Precisions of the trainer on a CPU.
PRECISIONS = ("f32", "bf16")


class ShortcutTrainer:
    """`trainer bench-training`, in one process per run."""

    name = SHORTCUT
    # Resident memory in bytes before the network is created; the trainer does not report it.
    start_memory = None

    def __init__(self, case, environment, threads):
        self.threads = threads
        self.command = [environment.trainer, "bench-training", "--json", "--architecture", case.network]
        self.command += ["--image-size", str(case.image_size), "--batch-size", str(case.batch)]
        self.precision = case.precision
        if case.small_stem:
            self.command += ["--stem", "small"]

    def load(self):
        """Checks that the trainer can run the case, and finds the fastest precision if the case asks for it."""
        if self.precision == "fastest":
            self.precision = min(PRECISIONS, key=lambda precision: self._run(precision, 1)["step"])
            log_progress(f"the fastest precision of the trainer is {self.precision}")
        else:
            self.time(0.1)

    def time(self, seconds):
        """Measures one run, and returns the median of its steps in ms, and the peak memory in bytes, or None if the trainer
        does not report it.
        """
        result = self._run(self.precision, seconds)
        return 1e3 * result["step"], result.get("peak_memory")

    def _run(self, precision, seconds):
        return trainer_report([*self.command, "--precision", precision, "--seconds", str(seconds)], self.threads)

    def end(self):
        pass


class TorchTrainer(Worker):
    """PyTorch in a worker process, which runs for the whole comparison of a case."""

    # Compiling ResNet-50 takes minutes on a slow machine.
    timeout = 1200

    def __init__(self, name, case_name, environment, threads):
        command = [environment.python, HERE / "training_worker.py"]
        super().__init__(name, command, environment, threads)
        self.log = environment.log(f"training-{case_name}-{name}")
        self.start_memory = None
        variant = VARIANTS[name]
        self.request = dict(asdict(CASES[case_name]), precision=variant.precision, compiled=variant.compiled)
        if variant.keeps_memory:
            self.variables.update(KEEP_MEMORY)
        # torch.compile keeps its output in a folder, so that later benchmarks compile faster. With one thread it compiles
        # in the worker's process, and leaves no other processes behind.
        self.variables["TORCHINDUCTOR_CACHE_DIR"] = str(environment.work / "torchinductor")
        self.variables["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

    def load(self):
        """Starts the worker, which creates the network, compiles it if necessary, and runs warm-up steps."""
        if self.request["compiled"]:
            find_compiler()
        self._start()
        self.start_memory = self._ask({"load": self.request})["start_memory"]

    def time(self, seconds):
        """Measures one run, and returns the median of its steps in ms, and the peak memory in bytes."""
        answer = self._ask({"time": {"seconds": seconds}})
        return statistics.median(answer["times_ms"]), answer["peak_memory"]

    def _ask(self, request):
        answer = super()._ask(request)
        if "error" in answer:
            raise EngineError(f"{answer['error']} (see {self.log})")
        return answer


def find_compiler():
    """Returns the version of the C++ compiler that torch.compile uses. Raises EngineError if there is none."""
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise EngineError(f"torch.compile needs a C++ compiler, but {compiler} is not installed; set CXX to another one")
    completed = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return completed.stdout.partition("\n")[0]


class CaseResult:
    """Measurements of a case: by engine, the median step of each run in ms, the peak memory and that before the network is
    created in bytes, and the errors; and by variant of PyTorch, Shortcut's time divided by the variant's in each pair of
    adjacent runs.
    """

    def __init__(self, case):
        self.case = case
        self.times, self.peak_memory, self.start_memory, self.failures, self.ratios = {}, {}, {}, {}, {}

    def attempt(self, engine, action):
        """Returns the result of an action of an engine, or None if it fails. A failed engine has no results."""
        try:
            return action()
        except EngineError as error:
            self.failures[engine.name] = str(error)
            for results in (self.times, self.peak_memory, self.start_memory, self.ratios):
                results.pop(engine.name, None)
            if engine.name == SHORTCUT:
                self.ratios.clear()
            return None

    def run_pair(self, pair, seconds):
        """Times one run of Shortcut and one of a variant of PyTorch, in the order of `pair`. Engines that have failed are
        left out.
        """
        step_ms = {}
        for engine in pair:
            if engine.name in self.failures:
                continue
            result = self.attempt(engine, lambda: engine.time(seconds))
            if result:
                step_ms[engine.name], memory = result
                self.times.setdefault(engine.name, []).append(step_ms[engine.name])
                self.peak_memory[engine.name] = max(memory or 0, self.peak_memory.get(engine.name, 0))
                self.start_memory[engine.name] = engine.start_memory
        if len(step_ms) == len(pair):
            shortcut_ms = step_ms.pop(SHORTCUT)
            ((variant, variant_ms),) = step_ms.items()
            self.ratios.setdefault(variant, []).append(shortcut_ms / variant_ms)

    def variants(self):
        """Returns the measured variants of PyTorch, the fastest first."""
        medians = report.medians(self.times)
        return sorted((name for name in medians if name != SHORTCUT), key=medians.get)

    def ratio(self):
        """Returns Shortcut's time divided by that of PyTorch's fastest variant, or None if one of them was not measured."""
        ratios = self.ratios.get(next(iter(self.variants()), None))
        return statistics.median(ratios) if ratios else None

    def rows(self):
        """Returns the rows of the case in the table."""
        rows = []
        for name in (SHORTCUT, *self.variants()):
            if name in self.times:
                ratios = self.ratios.get(name)
                label = name if name == SHORTCUT else f"PyTorch {name}"
                ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
                time = report.median_with_range(self.times[name])
                memory = (self.peak_memory[name], self.start_memory[name])
                rows.append([str(self.case), label, time, ratio, *(f"{of / 1e6:.0f}" if of else "" for of in memory)])
        return rows

    def json(self):
        return {
            **asdict(self.case),
            "ms": {name: round(ms, 3) for name, ms in report.medians(self.times).items()},
            "fastest_variant": next(iter(self.variants()), None),
            "ratio": self.ratio() and round(self.ratio(), 4),
            "peak_memory": {name: memory or None for name, memory in self.peak_memory.items()},
            "start_memory": self.start_memory,
            "runs_ms": {name: [round(ms, 3) for ms in runs] for name, runs in self.times.items()},
            "ratios": {name: [round(ratio, 4) for ratio in ratios] for name, ratios in self.ratios.items()},
        }


def measure(case_name, args, environment):
    """Measures a case. In each round every variant of PyTorch is paired with Shortcut; each round starts with a different
    variant, and the order within the pairs alternates.
    """
    case = CASES[case_name]
    precisions = ("f32",) if case.precision == "f32" else ("f32", "bf16")
    names = [name for name in args.variants if VARIANTS[name].precision in precisions]
    shortcut = ShortcutTrainer(case, environment, args.threads)
    variants = [TorchTrainer(name, case_name, environment, args.threads) for name in names]
    result = CaseResult(case)
    try:
        for engine in (shortcut, *variants):
            log_progress(f"{case}: loading {engine.name}")
            result.attempt(engine, engine.load)
        for index in range(args.rounds):
            first = index % max(len(variants), 1)
            for variant in variants[first:] + variants[:first]:
                if variant.name not in result.failures:
                    pair = [shortcut, variant]
                    result.run_pair(pair if index % 2 == 0 else pair[::-1], args.seconds)
            latest = ", ".join(f"{name} {ms[-1]:.0f}" for name, ms in result.times.items())
            log_progress(f"{case}, round {index + 1} of {args.rounds}, ms: {latest}")
    finally:
        for variant in variants:
            variant.end()
    return result


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench_training.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, which contains release/trainer")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="minimum duration of a run (default: %(default)s)")
    threads_help = "number of threads of each engine (default: %(default)s)"
    parser.add_argument("--threads", type=int, default=machine.cores(), help=threads_help)
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated list of cases (default: %(default)s)")
    variants_help = "comma-separated list of variants of PyTorch (default: %(default)s)"
    parser.add_argument("--variants", default=",".join(VARIANTS), help=variants_help)
    args = parser.parse_args()
    args.cases, args.variants = args.cases.split(","), args.variants.split(",")
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    for option, names, available in (("--cases", args.cases, CASES), ("--variants", args.variants, VARIANTS)):
        unknown = [name for name in names if name not in available]
        if unknown:
            parser.error(f"{option}: unknown {', '.join(unknown)}; choose from {', '.join(available)}")
    return args


def main():
    args = parse_arguments()
    description = machine.describe()
    environment = Environment(args.target.resolve())
    log_progress("installing PyTorch")
    try:
        environment.make_torch()
    except Unavailable as error:
        raise SystemExit(f"error: cannot install PyTorch: {error}")
    versions = {name: environment.versions[name] for name in ("torch", "torchvision")}
    try:
        versions["compiler"] = find_compiler()
    except EngineError:
        pass  # the compiled variants are reported as missing

    monitor = machine.ContentionMonitor()
    results = [measure(name, args, environment) for name in args.cases]
    contention = monitor.shares()
    missing = {f"{name}, {result.case}": error for result in results for name, error in result.failures.items()}

    report.print_conditions(description, contention)
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"Each engine uses {args.threads} threads.")
    print(
        f"Medians of {args.rounds} alternating rounds of at least {args.seconds:g} s, ms per step, ± half the range; "
        "Shortcut / PyTorch: medians and ranges of the ratios of adjacent runs."
    )
    print("MB: resident memory, at its peak, and before the network is created, which includes the libraries.")
    heading = ["training step", "", "ms", "Shortcut / PyTorch", "peak MB", "MB at the start"]
    print("\n" + report.markdown([heading, *(row for result in results for row in result.rows())]))
    print()
    for result in results:
        if result.ratio():
            print(f"{result.case}: {result.ratio():.2f} of the time of PyTorch's fastest variant, {result.variants()[0]}")
    for name, reason in sorted(missing.items()):
        print(f"MISSING {name}: {reason}")
    report.print_json(
        machine=description,
        use=contention,
        threads=args.threads,
        rounds=args.rounds,
        seconds=args.seconds,
        versions=versions,
        cases=[result.json() for result in results],
        missing=missing,
    )
    # Slow steps are valid results, but missing ones of Shortcut are failures.
    return 1 if any(name.startswith(SHORTCUT) for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
