"""The classifier of both servers: decodes request bodies, runs ONNX Runtime, and returns the top predictions."""

import io

import numpy
import onnxruntime
from PIL import Image, ImageOps

RESIZE, CROP, CHANNELS = 256, 224, 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOP_K = 5


def decode_photo(body):
    """Decodes, resizes and crops a photo to u8 pixels [224, 224, 3], like torchvision with Pillow."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB")
    width, height = image.size
    scaled = (RESIZE, RESIZE * height // width) if width <= height else (RESIZE * width // height, RESIZE)
    left, top = (round((side - CROP) / 2) for side in scaled)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    return numpy.asarray(image.crop((left, top, left + CROP, top + CROP)))


def parse_pixels(body):
    """Interprets a body as u8 pixels [224, 224, 3]."""
    return numpy.frombuffer(body, numpy.uint8).reshape(CROP, CROP, CHANNELS)


PARSERS = {"photo": decode_photo, "tensor": parse_pixels}


class Classifier:
    """The network in ONNX Runtime."""

    def __init__(self, onnx, threads, spin):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
        self.session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        # (pixels / 255 - mean) / std as one multiplication and one addition per value.
        self.scale = [numpy.float32(1 / 255 / std) for std in STD]
        self.shift = [numpy.float32(-mean / std) for mean, std in zip(MEAN, STD)]
        # Warm up.
        for batch in (1, 8):
            self([numpy.zeros((CROP, CROP, CHANNELS), numpy.uint8)] * batch)

    def __call__(self, images):
        """Classifies images of u8 pixels [224, 224, 3]."""
        batch = numpy.empty((len(images), CHANNELS, CROP, CROP), numpy.float32)
        for image, normalised in zip(images, batch):
            for channel in range(CHANNELS):
                numpy.multiply(image[..., channel], self.scale[channel], out=normalised[channel])
                normalised[channel] += self.shift[channel]
        return [predictions(logits) for logits in self.session.run(None, {"input": batch})[0]]


def predictions(logits):
    """Returns the top predictions for the logits [classes] of one image."""
    exponentials = numpy.exp(logits - logits.max())
    probabilities = exponentials / exponentials.sum()
    best = numpy.argpartition(-probabilities, TOP_K)[:TOP_K]
    best = best[numpy.argsort(-probabilities[best])]
    return {"predictions": [{"index": int(index), "probability": float(probabilities[index])} for index in best]}
