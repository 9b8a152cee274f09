"""Writes train-000000.tar with WebDataset's ShardWriter: two red photos of class 0, two blue ones of class 1.

    python3 trainer/tests/golden/shards.py      # webdataset 1.0.2, Pillow 13.0.0
"""

from pathlib import Path

import webdataset
from PIL import Image

COLOURS = [(200, 30, 20), (20, 30, 200)]

with webdataset.ShardWriter(str(Path(__file__).parent / "train-%06d.tar"), encoder=True, mtime=0.5) as shards:
    for index in range(4):
        photo = Image.new("RGB", (12, 8), COLOURS[index % 2])
        extension = ["jpg", "png"][index // 2]
        sample = {"__key__": f"photos/{index:04}", extension: photo, "cls": index % 2}
        if index == 0:
            sample["json"] = {"index": index}
        shards.write(sample)
