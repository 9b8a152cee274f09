"""Classifies photos with a running server, using only Python's standard library.

    python3 examples/predict.py samples/cat.jpg samples/coffee.jpg
"""

import json
import os
import sys
import urllib.error
import urllib.request

SERVER = os.environ.get("SERVER", "http://127.0.0.1:8080")


def predict(photo: bytes, top_k: int = 3) -> dict:
    request = urllib.request.Request(f"{SERVER}/predict?top_k={top_k}", data=photo)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{error.code}: {json.load(error)['error']['message']}") from None


for path in sys.argv[1:]:
    with open(path, "rb") as file:
        answer = predict(file.read())
    classes = ", ".join(f"{best['label']} {best['probability']:.1%}" for best in answer["predictions"])
    print(f"{path}: {classes} ({answer['model']} on {answer['backend']})")
