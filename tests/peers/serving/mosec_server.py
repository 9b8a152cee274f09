"""mosec with ONNX Runtime.

    python mosec_server.py PORT photo|tensor ONNX BATCH WAIT_MS WORKERS THREADS SPIN

Photos are decoded in a separate stage with one process per core; tensors go directly to the network. mosec's HTTP
server is written in Rust.
"""

import os
import sys

from mosec import Server, Worker
from classifier import PARSERS, Classifier

# mosec also parses the command line, and starts its processes with the same arguments.
PORT, WORKLOAD, ONNX, BATCH, WAIT_MS, WORKERS, THREADS, SPIN = sys.argv[1:9]


class Decode(Worker):
    def deserialize(self, data):
        return data

    def forward(self, data):
        return PARSERS[WORKLOAD](data)


class Classify(Worker):
    def __init__(self):
        super().__init__()
        self.classifier = Classifier(ONNX, int(THREADS), int(SPIN))

    def deserialize(self, data):
        """Called only if this is the first stage."""
        return PARSERS[WORKLOAD](data)

    def forward(self, data):
        # With a batch size of 1, mosec passes single images instead of lists.
        return self.classifier(data) if int(BATCH) > 1 else self.classifier([data])[0]


if __name__ == "__main__":
    # Requests may wait in a queue of hundreds; the default timeout of 3 s would reject some.
    options = dict(ADDRESS="127.0.0.1", PORT=PORT, TIMEOUT="60000", LOG_LEVEL="warning")
    os.environ.update({f"MOSEC_{name}": value for name, value in options.items()})
    server = Server()
    if WORKLOAD == "photo":
        server.append_worker(Decode, num=len(os.sched_getaffinity(0)))
    server.append_worker(Classify, num=int(WORKERS), max_batch_size=int(BATCH), max_wait_time=int(WAIT_MS))
    server.run()
