"""Runs one of the Python engines. Reads one JSON request per line from stdin and writes one JSON answer per line to
stdout.

    python worker.py onnxruntime|openvino|ncnn|torch THREADS

The answer to {"load": {"folder": F, "network": N, "batch": B}} is {"logits": [...]}, computed from the images that all
engines get. The answer to {"time": {"seconds": S}} is {"times_ms": [...]}, the durations of consecutive runs after a
warm-up.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy

# Untimed warm-up, as a share of the measured time (at least one run), and minimum number of timed runs, as in `trainer
# bench`.
WARM_UP = 0.2
MIN_RUNS = 3


def onnxruntime(model, images, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": images})[0]


def openvino(model, images, threads):
    import openvino

    # Without this hint, OpenVINO would compute in bf16 on processors with bf16 instructions.
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(model.onnx, "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(images, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor().data

    return run


def ncnn(model, images, threads):
    """Runs the images of a batch one after another, since ncnn has no batches."""
    import ncnn

    network = ncnn.Net()
    network.opt.num_threads = threads
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(network.opt, f"use_{option}", False)
    if network.load_param(f"{model.ncnn}.param") != 0 or network.load_model(f"{model.ncnn}.bin") != 0:
        raise RuntimeError(f"{model.ncnn}.param and .bin cannot be loaded")
    inputs = [ncnn.Mat(image) for image in images]

    def run_one(image):
        extractor = network.create_extractor()
        extractor.input("in0", image)
        return numpy.array(extractor.extract("out0")[1])

    return lambda: numpy.stack([run_one(image) for image in inputs])


def torch(model, images, threads):
    import torch
    import torchvision
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    network = getattr(torchvision.models, model.network)(weights=None)
    network.load_state_dict(load_file(model.torch), strict=False)
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.from_numpy(images).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run():
        return network(images).numpy()

    return run


class Model:
    """The files of a network, and the images."""

    def __init__(self, folder, network, batch):
        folder = Path(folder)
        self.network = network
        self.onnx = str(folder / f"{network}-b{batch}.onnx")
        self.ncnn = str(folder / f"{network}.ncnn")
        self.torch = str(folder / f"{network}.torch.safetensors")
        self.images = numpy.fromfile(folder / "input.f32", numpy.float32).reshape(-1, 3, 224, 224)[:batch]


def time_runs(run, seconds):
    """Runs for a number of seconds after a warm-up, and returns the duration of each run in ms."""

    def run_for(seconds, min_runs):
        end, times = time.perf_counter() + seconds, []
        while len(times) < min_runs or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    run_for(seconds * WARM_UP, 1)
    return run_for(seconds, MIN_RUNS)


def serve(load, threads, answers):
    """Answers the requests on stdin. `load` takes a model, images and the number of threads, and returns a function that runs."""
    run = None
    for line in sys.stdin:
        ((kind, request),) = json.loads(line).items()
        if kind == "load":
            model = Model(**request)
            run = load(model, model.images, threads)
            answer = {"logits": numpy.asarray(run()).ravel().tolist()}
        else:
            answer = {"times_ms": time_runs(run, request["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


def take_stdout():
    """Returns stdout as a file for the answers. Output of the libraries must not be mixed with them, so it is redirected
    to stderr.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    engines = {"onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn, "torch": torch}
    serve(engines[sys.argv[1]], int(sys.argv[2]), take_stdout())
