"""LitServe with ONNX Runtime.

    python litserve_server.py PORT photo|tensor ONNX BATCH WAIT_MS WORKERS THREADS SPIN

The inference workers also decode photos, so with several workers one can decode while another computes. The API
receives the raw request body. Requests are queued in ZeroMQ (`fast_queue`), as LitServe's documentation recommends for
high loads.
"""

import sys
from typing import Annotated

import litserve
from fastapi import Body
from classifier import PARSERS, Classifier


class ClassifierAPI(litserve.LitAPI):
    def __init__(self, workload, *classifier_arguments, **options):
        super().__init__(**options)
        self.parse, self.classifier_arguments = PARSERS[workload], classifier_arguments

    def setup(self, device):
        self.classifier = Classifier(*self.classifier_arguments)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return self.parse(request)

    def batch(self, inputs):
        return list(inputs)

    def predict(self, images):
        return self.classifier(images) if isinstance(images, list) else self.classifier([images])[0]

    def unbatch(self, output):
        return output


if __name__ == "__main__":
    port, workload, onnx, batch, wait, workers, threads, spin = sys.argv[1:]
    options = dict(max_batch_size=int(batch), batch_timeout=float(wait) / 1e3)
    api = ClassifierAPI(workload, onnx, int(threads), int(spin), **options)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)
