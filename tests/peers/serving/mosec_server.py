"""mosec in front of ONNX Runtime.

    python mosec_server.py PORT photo|tensor ONNX BATCH WAIT_MS WORKERS THREADS SPIN

Photos are decoded by a stage of its own, a process for each core; tensors go to the network at once. The HTTP side is its
own, in Rust.
"""

import os
import sys

from mosec import Server, Worker
from network import READERS, Network

# mosec reads the command line for options of its own, and starts its processes with the same.
PORT, WORKLOAD, ONNX, BATCH, WAIT_MS, WORKERS, THREADS, SPIN = sys.argv[1:9]


class Decode(Worker):
    def deserialize(self, data):
        return data

    def forward(self, data):
        return READERS[WORKLOAD](data)


class Classify(Worker):
    def __init__(self):
        super().__init__()
        self.network = Network(ONNX, int(THREADS), int(SPIN))

    def deserialize(self, data):
        """Called where this is the first stage."""
        return READERS[WORKLOAD](data)

    def forward(self, data):
        # One by one, unless more than one was allowed.
        return self.network(data) if int(BATCH) > 1 else self.network([data])[0]


if __name__ == "__main__":
    # Answers may wait for a queue of hundreds: 3 s, its default, would refuse some.
    options = dict(ADDRESS="127.0.0.1", PORT=PORT, TIMEOUT="60000", LOG_LEVEL="warning")
    os.environ.update({f"MOSEC_{name}": value for name, value in options.items()})
    server = Server()
    if WORKLOAD == "photo":
        server.append_worker(Decode, num=len(os.sched_getaffinity(0)))
    server.append_worker(Classify, num=int(WORKERS), max_batch_size=int(BATCH), max_wait_time=int(WAIT_MS))
    server.run()
