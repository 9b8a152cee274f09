"""One engine of Python's as a worker: a request a line on stdin, an answer a line on stdout, both JSON.

    python worker.py onnxruntime|openvino|ncnn|torch THREADS

{"load": {"folder": F, "network": N, "batch": B}} is answered by {"logits": [...]}, those of the images that all engines get;
{"time": {"seconds": S}} by {"times_ms": [...]}, whole runs one after the other, after a warm-up.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy

# As in `trainer bench`: untimed runs first, a share of the time and at least one; a median of fewer says nothing.
WARM_UP = 0.2
FEWEST_RUNS = 3


def onnxruntime(model, images, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"input": images})[0]


def openvino(model, images, threads):
    import openvino

    # Without the hint, a processor with bf16 instructions would compute in bf16.
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
    """It runs one image at a time: a batch is a loop."""
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
    """Where a network's files lie."""

    def __init__(self, folder, network, batch):
        folder = Path(folder)
        self.network = network
        self.onnx = str(folder / f"{network}-b{batch}.onnx")
        self.ncnn = str(folder / f"{network}.ncnn")
        self.torch = str(folder / f"{network}.torch.safetensors")
        self.images = numpy.fromfile(folder / "input.f32", numpy.float32).reshape(-1, 3, 224, 224)[:batch]


def timed(run, seconds):
    def until(seconds, fewest):
        end, times = time.perf_counter() + seconds, []
        while len(times) < fewest or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return times

    until(seconds * WARM_UP, 1)
    return until(seconds, FEWEST_RUNS)


def serve(load, threads, answers):
    run = None
    for line in sys.stdin:
        ((kind, request),) = json.loads(line).items()
        if kind == "load":
            model = Model(**request)
            run = load(model, model.images, threads)
            answer = {"logits": numpy.asarray(run()).ravel().tolist()}
        else:
            answer = {"times_ms": timed(run, request["seconds"])}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    # What the libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    engines = {"onnxruntime": onnxruntime, "openvino": openvino, "ncnn": ncnn, "torch": torch}
    serve(engines[sys.argv[1]], int(sys.argv[2]), answers)
