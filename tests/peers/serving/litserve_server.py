"""LitServe in front of ONNX Runtime.

    python litserve_server.py PORT photo|tensor ONNX BATCH WAIT_MS WORKERS THREADS SPIN

It decodes in the workers that compute: more than one of them decode beside each other's computing. A request's body is
taken as it is, and what it is queued in is ZeroMQ (`fast_queue`), which its documentation recommends for high loads.
"""

import sys
from typing import Annotated

import litserve
from fastapi import Body
from network import READERS, Network


class Classifier(litserve.LitAPI):
    def __init__(self, workload, *network, **options):
        super().__init__(**options)
        self.read, self.made_of = READERS[workload], network

    def setup(self, device):
        self.network = Network(*self.made_of)

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]):
        return self.read(request)

    def batch(self, inputs):
        return list(inputs)

    def predict(self, images):
        return self.network(images) if isinstance(images, list) else self.network([images])[0]

    def unbatch(self, output):
        return output


if __name__ == "__main__":
    port, workload, onnx, batch, wait, workers, threads, spin = sys.argv[1:]
    options = dict(max_batch_size=int(batch), batch_timeout=float(wait) / 1e3)
    api = Classifier(workload, onnx, int(threads), int(spin), **options)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)
