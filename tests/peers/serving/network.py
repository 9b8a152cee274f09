"""What both servers compute: a request's body to pixels, pixels to logits by ONNX Runtime, logits to an answer."""

import io

import numpy
import onnxruntime
from PIL import Image, ImageOps

RESIZE, CROP, CHANNELS = 256, 224, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOP_K = 5


def photo(body):
    """u8 pixels [224, 224, 3] of a photo, as torchvision makes them on Pillow."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    width, height = image.size
    scaled = (RESIZE, RESIZE * height // width) if width <= height else (RESIZE * width // height, RESIZE)
    left, top = (round((side - CROP) / 2) for side in scaled)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    return numpy.asarray(image.crop((left, top, left + CROP, top + CROP)))


def tensor(body):
    """u8 pixels [224, 224, 3] that came as they are."""
    return numpy.frombuffer(body, numpy.uint8).reshape(CROP, CROP, CHANNELS)


READERS = {"photo": photo, "tensor": tensor}


class Network:
    def __init__(self, onnx, threads, spin):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        # (pixels / 255 - mean) / std in one multiplication and one addition a value.
        self.scale = [numpy.float32(1 / 255 / std) for std in STD]
        self.shift = [numpy.float32(-mean / std) for mean, std in zip(MEAN, STD)]
        for batch in (1, 8):
            self([numpy.zeros((CROP, CROP, CHANNELS), numpy.uint8)] * batch)

    def __call__(self, images):
        """An answer for each of the pixels [224, 224, 3]."""
        batch = numpy.empty((len(images), CHANNELS, CROP, CROP), numpy.float32)
        for image, normalised in zip(images, batch):
            for channel in range(CHANNELS):
                numpy.multiply(image[..., channel], self.scale[channel], out=normalised[channel])
                normalised[channel] += self.shift[channel]
        return [answer(logits) for logits in self.session.run(None, {"input": batch})[0]]


def answer(logits):
    exponentials = numpy.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    best = numpy.argpartition(-probabilities, TOP_K)[:TOP_K]
    best = best[numpy.argsort(-probabilities[best])]
    return {"predictions": [{"index": int(index), "probability": float(probabilities[index])} for index in best]}
