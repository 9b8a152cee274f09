"""Writes the seeds of the fuzz targets to `corpus/`: python3 seeds.py (requires Pillow 13; the files are committed).

The seeds are small files of every supported kind, complete or truncated, so that the fuzzer need not guess container
formats.
"""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def write_seed(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def picture(mode="RGB", size=(19, 13)):
    """An image whose colours change from pixel to pixel."""
    image = Image.new("RGBA", size)
    colours = lambda x, y: (x * 13 % 256, y * 19 % 256, x * y % 256, 255 - x * y % 200)
    image.putdata([colours(x, y) for y in range(size[1]) for x in range(size[0])])
    return image.convert(mode)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def jpegs():
    def jpeg(name, image=None, **options):
        data = encoded(image or picture(), "JPEG", **{"quality": 60} | options)
        write_seed("image", f"jpeg-{name}", data)
        return data

    for name, subsampling in [("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0")]:
        jpeg(name, subsampling=subsampling)
        jpeg(f"progressive-{name}", subsampling=subsampling, progressive=True)
    baseline = jpeg("optimised", optimize=True)
    jpeg("restart", restart_marker_blocks=1)
    jpeg("progressive-restart", restart_marker_blocks=1, progressive=True)
    jpeg("grey", picture("L"))
    jpeg("progressive-grey", picture("L"), progressive=True)
    jpeg("cmyk", picture("CMYK"))
    jpeg("progressive-cmyk", picture("CMYK"), progressive=True)
    jpeg("rgb", keep_rgb=True)
    jpeg("pixel", picture(size=(1, 1)))
    # Wide and tall enough that columns and rows are left out when decoding a part.
    jpeg("wide", picture(size=(200, 9)))
    jpeg("tall", picture(size=(9, 200)))
    jpeg("comment", comment=b"a comment")
    for orientation in (3, 6):
        jpeg(f"orientation-{orientation}", exif=exif(orientation))
    write_seed("image", "jpeg-truncated", baseline[: len(baseline) * 3 // 4])
    # Sampling factors that Pillow does not write: the frame header of a 1x1-sampled image is changed.
    plain = encoded(picture(size=(8, 8)), "JPEG", quality=30, subsampling="4:4:4")
    frame = plain.index(b"\xff\xc0")
    for name, factors in [
        ("410", (0x42, 0x11, 0x11)),
        ("440", (0x12, 0x11, 0x11)),
        ("odd", (0x31, 0x21, 0x13)),
        ("chroma", (0x11, 0x22, 0x22)),
    ]:
        changed = bytearray(plain)
        for component, factor in enumerate(factors):
            changed[frame + 11 + 3 * component] = factor
        write_seed("image", f"jpeg-{name}", bytes(changed))
    # Declared as arithmetic coding; the data is Huffman-coded.
    write_seed("image", "jpeg-arithmetic", plain.replace(b"\xff\xc0", b"\xff\xc9"))
    progressive = encoded(picture(), "JPEG", quality=60, progressive=True)
    write_seed("image", "jpeg-arithmetic-progressive", progressive.replace(b"\xff\xc2", b"\xff\xca"))
    write_seed("image", "jpeg-lossless", plain.replace(b"\xff\xc0", b"\xff\xc3"))
    write_seed("image", "jpeg-12-bit", plain.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, interlaced=0, before=b""):
    """A PNG of the raw `rows` of all passes, each preceded by its filter type."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = zlib.compress(b"".join(rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def pngs():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = picture("L").convert("I;16") if mode == "I;16" else picture(mode)
        write_seed("image", f"png-{mode.lower().replace(';', '-')}", encoded(image, "PNG", optimize=True))
    write_seed("image", "png-transparent", encoded(picture("P"), "PNG", transparency=3, bits=4))
    write_seed("image", "png-orientation", encoded(picture(), "PNG", exif=exif(8)))
    write_seed("image", "png-text", encoded(picture(), "PNG", icc_profile=b"no profile", dpi=(72, 72)))
    frames = [picture(), picture().rotate(180)]
    write_seed("image", "png-animated", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50))
    # Adam7: first column, first row, horizontal and vertical step of each pass.
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for name, depth, colour, samples in [("rgb", 8, 2, 3), ("grey-2", 2, 0, 1), ("rgba-16", 16, 6, 4)]:
        rows = []
        for left, top, right, down in passes:
            columns = len(range(left, 9, right))
            for row in range(top, 7, down):
                length = -(-columns * samples * depth // 8)
                if columns:
                    rows.append(bytes([row % 5]) + bytes((row * 40 + at * 7) % 256 for at in range(length)))
        write_seed("image", f"png-interlaced-{name}", png(9, 7, depth, colour, rows, 1))
    rows = [b"\x04" + bytes(range(row, row + 4 * 6)) for row in range(4)]
    whole = png(4, 4, 16, 2, rows)
    write_seed("image", "png-16-bit", whole)
    write_seed("image", "png-truncated", whole[:-20])


def others():
    frames = [picture("P"), picture("P").rotate(180), picture("P").rotate(90)]
    animation = {"save_all": True, "append_images": frames[1:], "duration": 50}
    write_seed("image", "gif", encoded(picture("P"), "GIF", interlace=False))
    write_seed("image", "gif-interlaced", encoded(picture("P"), "GIF", interlace=True))
    write_seed("image", "gif-transparent", encoded(picture("P"), "GIF", transparency=3))
    write_seed("image", "gif-animated", encoded(frames[0], "GIF", **animation, disposal=2))
    small_frame = bytearray(encoded(picture("P"), "GIF", interlace=False))
    small_frame[6:10] = struct.pack("<HH", 40, 30)
    write_seed("image", "gif-frame-within-screen", bytes(small_frame))
    # A screen of one pixel with a frame of more pixels than the target's limit.
    large_frame = bytearray(small_frame)
    large_frame[6:10] = struct.pack("<HH", 1, 1)
    at = large_frame.index(b",\0\0\0\0") + 5
    large_frame[at : at + 4] = struct.pack("<HH", 800, 800)
    write_seed("image", "gif-frame-beyond-screen", bytes(large_frame))

    frames = [picture("RGBA"), picture("RGBA").rotate(180)]
    animation = {"save_all": True, "append_images": frames[1:], "duration": 50}
    write_seed("image", "webp-lossy", encoded(picture(), "WEBP", quality=30))
    write_seed("image", "webp-lossy-alpha", encoded(picture("RGBA"), "WEBP", quality=30))
    write_seed("image", "webp-lossless", encoded(picture(), "WEBP", lossless=True))
    write_seed("image", "webp-lossless-palette", encoded(picture("1").convert("RGB"), "WEBP", lossless=True))
    write_seed("image", "webp-orientation", encoded(picture(), "WEBP", quality=30, exif=exif(6)))
    write_seed("image", "webp-animated", encoded(frames[0], "WEBP", quality=30, **animation))
    # Frames larger than the canvas or the animation frame, which the decoder detects only after decoding them.
    alpha = encoded(picture("RGBA"), "WEBP", quality=30)
    animated = encoded(frames[0], "WEBP", quality=30, **animation)
    for name, data, size in [
        ("frame-beyond-canvas", alpha, (0x3FFF, 0x3FFF)),
        ("animated-frame-beyond-place", animated, (32, 16)),
    ]:
        at = data.index(b"\x9d\x01\x2a") + 3
        write_seed("image", f"webp-{name}", data[:at] + struct.pack("<HH", *size) + data[at + 4 :])
    write_seed("image", "webp-animated-lossless", encoded(frames[0], "WEBP", lossless=True, **animation))

    for mode in ("1", "L", "P", "RGB", "RGBA"):
        write_seed("image", f"bmp-{mode.lower()}", encoded(picture(mode, (9, 7)), "BMP"))
    layout = "<IiiHHIIiiII"
    header = lambda bits, compression, colours, size: struct.pack(
        layout, 40, 8, 2, 1, bits, compression, size, 0, 0, colours, 0
    )

    def bmp(name, bits, compression, palette, data):
        offset = 14 + 40 + len(palette)
        file = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset)
        described = header(bits, compression, len(palette) // 4, len(data))
        write_seed("image", f"bmp-{name}", file + described + palette + data)

    palette = bytes(range(64))
    bmp("rle-8", 8, 1, palette, b"\x04\x01\x00\x04\x01\x02\x03\x04\x00\x00\x08\x05\x00\x02\x00\x00\x00\x01")
    bmp("rle-4", 4, 2, palette, b"\x08\x12\x00\x00\x00\x05\x12\x34\x50\x00\x03\x67\x00\x01")
    bmp("bit-fields", 16, 3, struct.pack("<III", 0xF800, 0x7E0, 0x1F), bytes(range(32)))
    write_seed("image", "nothing", b"")
    write_seed("image", "tiff", b"II\x2a\0\x08\0\0\0")


def framed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def checkpoints():
    """The header of the bundled ResNet-18 with a little data, since whole networks are too large for a corpus."""
    bundled = (HERE.parent / "checkpoints/resnet18-imagenette.safetensors").read_bytes()
    length = struct.unpack("<Q", bundled[:8])[0]
    header = json.loads(bundled[8 : 8 + length])
    document = json.loads(header["__metadata__"]["shortcut"])
    brief = {key: document[key] for key in ("version", "architecture", "classes", "labels", "preprocessing")}
    number = b"\x01\0\0\0\x01\0\0\x3f"
    described = header | {"__metadata__": {"format": "pt", "shortcut": json.dumps(brief)}}
    plain = {name: entry for name, entry in header.items() if name != "__metadata__"}
    write_seed("safetensors", "resnet18", framed(header, number))
    write_seed("safetensors", "resnet18-described-in-brief", framed(described, number))
    write_seed("safetensors", "resnet18-not-described", framed(plain, number))
    write_seed("safetensors", "resnet18-not-finite", framed(plain, b"\xff" * 8))
    write_seed("safetensors", "resnet18-header-cut", framed(plain)[:300])

    small = {
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "b.scale": {"dtype": "F32", "shape": [3], "data_offsets": [8, 20]},
        "b": {"dtype": "I8", "shape": [3, 1], "data_offsets": [20, 23]},
    }
    write_seed("safetensors", "small", framed(small, bytes(23)))
    write_seed("safetensors", "small-truncated", framed(small, bytes(9)))
    write_seed("safetensors", "nothing", b"")
    write_seed("safetensors", "no-tensors", framed({"__metadata__": {"format": "pt"}}))
    for dtype, size in [("F16", 2), ("BF16", 2), ("F64", 8), ("I64", 8), ("F8_E4M3", 1), ("F4", 0.5)]:
        table = {"fc.weight": {"dtype": dtype, "shape": [2, 4], "data_offsets": [0, int(8 * size)]}}
        write_seed("safetensors", f"classifier-{dtype.lower()}", framed(table, bytes(int(8 * size))))
    shape = {"fc.weight": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 2**63]}}
    write_seed("safetensors", "huge-shape", framed(shape))
    write_seed("safetensors", "metadata-of-another-version", framed({"__metadata__": {"shortcut": '{"version":2}'}}))
    write_seed("safetensors", "deep", framed(b'{"__metadata__":' + b"[" * 300))
    write_seed("safetensors", "zip", b"PK\x03\x04" + bytes(8))


def pickles():
    """The files of `model/tests/pth`: legacy files as they are, and only the pickles of archives."""
    for file in sorted((HERE.parent / "model/tests/pth").glob("*.pth")):
        data = file.read_bytes()
        if not zipfile.is_zipfile(file):
            write_seed("pickle", file.stem, data)
            continue
        with zipfile.ZipFile(file) as archive:
            name = next((name for name in archive.namelist() if name.endswith("/data.pkl")))
            write_seed("pickle", file.stem, archive.read(name))
    for name in ("zip", "compressed", "big_endian"):
        write_seed("pickle", f"archive-{name}", (HERE.parent / f"model/tests/pth/{name}.pth").read_bytes())
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n("
    tensor += b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQ"
    for name, rest in [
        ("strides", b"K\x02K\x03K\x02\x86K\x01K\x03\x86"),
        ("expanded", b"K\x02K\x03K\x04\x86K\x00K\x00\x86"),
        ("no-sides", b"K\x02))"),
        ("beyond", b"K\x02K\x64\x85K\x01\x85"),
    ]:
        write_seed("pickle", f"tensor-{name}", b"\x80\x02}X\x09\0\0\0fc.weight" + tensor + rest + b"\x89}tRs.")
    # Six hundred names of one tensor, which is a single number expanded to 65,536 elements.
    expanded = tensor + b"K\x02J\0\0\1\0\x85K\x00\x85\x89}tRq\x01s"
    names = b"".join(b"X\3\0\0\0%03dh\x01s" % number for number in range(600))
    write_seed("pickle", "tensors-beyond-the-file", b"\x80\x02}X\x09\0\0\0fc.weight" + expanded + names + b".")
    every = (
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0]\x94(NI01\nI-12\nL-12L\nJ\xff\xff\xff\xffK\1M\1\2\x8a\2\1\2\x8b\1"
        b"\0\0\0\1\x88\x89G\x3f\xf8\0\0\0\0\0\0U\1aT\1\0\0\0b\x8c\1cX\1\0\0\0d\x8d\1\0\0\0\0\0\0\0eC\1aB\1"
        b"\0\0\0b\x8e\1\0\0\0\0\0\0\0c\x96\1\0\0\0\0\0\0\0d)K\1\x85q\1K\1K\2\x86r\2\0\0\0K\1K\2K\3\x87p3\n"
        b"h\1j\2\0\0\0g3\n(tN2(l(d\x8f(\x90(\x91e(K\1K\2u."
    )
    write_seed("pickle", "every-opcode", every)
    write_seed("pickle", "deep", b"]" * 60 + b"a" * 59 + b".")


def varint(number):
    number &= 2**64 - 1
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes(encoded) + bytes([number])


def field(number, value):
    """A field of a protobuf message: an integer, or text or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_files():
    """A ResNet-18 whose values are in a file that does not exist, since whole networks are too large, and parts of it."""

    def attribute(name, value):
        if isinstance(value, int):
            return field(5, field(1, name) + field(3, value) + field(20, 2))
        return field(5, field(1, name) + b"".join(field(8, number) for number in value) + field(20, 7))

    def node(kind, inputs, output, **attributes):
        links = b"".join(field(1, name) for name in inputs) + field(2, output)
        return field(1, links + field(4, kind) + b"".join(attribute(*pair) for pair in attributes.items()))

    def tensor(name, shape, values=None, data_type=1):
        sizes = b"".join(field(1, size) for size in shape) + field(2, data_type) + field(8, name)
        elsewhere = field(13, field(1, "location") + field(2, "values")) + field(13, field(1, "offset") + field(2, "64"))
        return field(5, sizes + (elsewhere + field(14, 1) if values is None else field(9, values)))

    def convolution(name, source, channels, size, stride, norm):
        pads = [size // 2] * 4
        weights = tensor(name + "w", [channels[1], channels[0], size, size])
        made = node("Conv", [source, name + "w"], name, kernel_shape=[size] * 2, strides=[stride] * 2, pads=pads)
        if not norm:
            return weights + made, name
        tensors = [tensor(name + letter, [channels[1]]) for letter in "gbmv"]
        inputs = [name, *(name + letter for letter in "gbmv")]
        return weights + made + b"".join(tensors) + node("BatchNormalization", inputs, name + "n"), name + "n"

    def resnet18(norm):
        graph, value = convolution("s", "x", (3, 64), 7, 2, norm)
        graph += node("Relu", [value], "r")
        graph += node("MaxPool", ["r"], "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        value, channels = "p", 64
        for stage, planes in enumerate([64, 128, 256, 512]):
            for block in range(2):
                name = f"{stage}{block}"
                stride = 2 if stage and not block else 1
                one, out = convolution(name + "a", value, (channels, planes), 3, stride, norm)
                two, end = convolution(name + "c", name + "r", (planes, planes), 3, 1, norm)
                graph += one + node("Relu", [out], name + "r") + two
                if stride == 2:
                    projection, value = convolution(name + "d", value, (channels, planes), 1, 2, norm)
                    graph += projection
                graph += node("Add", [end, value], name + "s") + node("Relu", [name + "s"], name)
                value, channels = name, planes
        graph += node("GlobalAveragePool", [value], "g") + node("Flatten", ["g"], "f", axis=1)
        graph += tensor("fw", [2, 512]) + tensor("fb", [2]) + node("Gemm", ["f", "fw", "fb"], "y", transB=1)
        return graph + field(11, field(1, "x")) + field(12, field(1, "y"))

    def model(name, graph, more=b"", opset=17):
        versions = field(1, 8) + field(8, field(2, opset))
        write_seed("onnx", name, versions + field(7, graph) + more)

    whole = resnet18(False)
    model("resnet18", whole)
    model("resnet18-batch-norms", resnet18(True))
    model("resnet18-cut", whole[: len(whole) // 2])
    stem, _ = convolution("s", "x", (3, 64), 7, 2, False)
    model("stem", stem + field(11, field(1, "x")))
    shortcut = json.dumps({"version": 1, "architecture": {"name": "resnet18", "classes": 2}})
    model("metadata", whole, field(14, field(1, "shortcut") + field(2, shortcut)))
    copies = node("Identity", ["x"], "a") + node("Dropout", ["a"], "b") + node("Cast", ["b"], "c", to=10)
    model("copies", copies + field(11, field(1, "x")) + node("Conv", ["c", "w"], "d") + tensor("w", [1, 1, 1, 1], bytes(4)))
    model("typed", tensor("w", [2], struct.pack("<2d", 1, 2), 11) + field(5, field(1, 2) + field(2, 16) + field(5, bytes(2))))
    model("huge-shape", tensor("w", [2**62, 2**62, 1, 1]) + node("Conv", ["x", "w"], "d", group=2**62) + field(11, field(1, "x")))
    model("empty-nodes", field(1, b"") * 2000)
    model("old", b"", opset=6)
    write_seed("onnx", "nothing", b"")
    write_seed("onnx", "group", b"\x08\x08\x3b\x3c")


def forms():
    """Bodies of type `multipart/form-data`; the first line of a file is the content type with the boundary."""
    photo = encoded(picture(size=(4, 4)), "GIF")

    def part(data, name="file", more=""):
        return b'Content-Disposition: form-data; name="' + name.encode() + b'"' + more.encode() + b"\r\n\r\n" + data

    def form(name, *parts, kind="multipart/form-data; boundary=x", boundary=b"x", before=b"", end=b"--\r\n"):
        body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
        write_seed("multipart", name, kind.encode() + b"\n" + before + body + b"--" + boundary + end)

    file = '; filename="cat.gif"\r\nContent-Type: image/gif'
    form("photo", part(photo, more=file))
    form("several", part(photo, more=file), part(b"a cat", "comment"), part(b"", more=file), part(photo[:20]))
    form("too-many", *[part(b"one")] * 5)
    form("too-long", part(b"x" * 513), part(b"one"))
    # Each part is within the limit, but all parts together exceed it.
    form("too-much", part(b"x" * 300), part(b"x" * 300))
    form("beyond-the-limit", part(b"x" * 1500, "comment"), part(b"x" * 1500))
    form("no-parts")
    form("other-fields", part(b"a cat", "comment"))
    form("preamble", part(b"one"), before=b"This is a form.\r\n")
    form("epilogue", part(b"one"), end=b"--\r\nThat was all.\r\n--x\r\n")
    form("padding", part(b"one"), end=b"-- \t\r\n")
    form("no-end", part(photo), end=b"")
    # Data that resembles the boundary.
    form("nearly-boundaries", part(b"\r\n--\r\n-x\r--x\n--x\r\r\n--y\r\n\r\n--"))
    form("boundary-of-dashes", part(b"--\r\n----"), kind="multipart/form-data; boundary=--", boundary=b"--")
    form("boundary-quoted", part(b"one"), kind='multipart/form-data; boundary="x y"', boundary=b"x y")
    form("boundary-empty", part(b"one"), kind='multipart/form-data; boundary=""', boundary=b"")
    form("no-boundary", part(b"one"), kind="multipart/form-data")
    form("escaped-name", part(b"one", 'fi\\"le'), part(b"two", "file\\\\"))
    form("name-not-quoted", b"content-disposition:form-data;filename=name=file;name=file\r\n\r\none")
    form("no-name", b"\r\n\r\none", b"Content-Disposition: form-data\r\n\r\none")
    form("many-headers", part(b"one", more="".join(f"\r\nX-{number}: a" for number in range(40))))
    form("headers-without-end", part(b"one")[:30])
    form("bare-line-feeds", part(photo).replace(b"\r\n", b"\n"))
    write_seed("multipart", "nothing", b"")
    write_seed("multipart", "empty", b"multipart/form-data; boundary=x\n")
    write_seed("multipart", "no-form", b"multipart/form-data; boundary=x\n" + photo)


def documents():
    """JSON documents with photos in base64."""
    base64 = "R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs="

    def document(name, value):
        text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        write_seed("json", name, text)

    document("image", {"image": base64})
    document("images", {"images": [base64, "b25l", "", "?"]})
    document("data-url", {"image": "data:image/gif;base64," + base64})
    document("data-urls", {"images": ["data:,", "data:;base64,", "data:;base64,;base64,b25l", "data:image/gif;base64"]})
    document("padding", {"images": ["b24", "b24=", "b25=", "bw=="]})
    document("alphabets", {"images": ["+/+/", "-_-_", "b2 5l", "b25l\n"]})
    document("too-many", {"images": ["b25l"] * 5})
    document("far-too-many", {"images": [""] * 2000})
    document("both", {"image": "", "images": [""]})
    document("nulls", {"image": None, "images": None})
    document("null-and-images", {"image": None, "images": ["b25l"]})
    document("no-photos", {"images": []})
    document("nothing", b"")
    document("empty", {})
    document("list", ["b25l", None])
    document("number", {"image": 1})
    document("unknown", {"photo" * 20: base64})
    document("twice", b'{"image":"b25l","image":"dHdv"}')
    document("escapes", b'{"im\\u0061ge":"b\\u00325l\\/\\/"}')
    document("surrogates", b'{"images":["\\ud83d\\ude00","\\ud800"]}')
    document("byte-order-mark", b'\xef\xbb\xbf{"image":""}')
    document("not-utf-8", b'{"image":"\xff"}')
    document("trailing-brace", b'{"image":"b25l"}}')
    document("deep", b'{"images":' + b"[" * 300)


def requests():
    """Inference requests; the first two bytes of a file are the length of the JSON."""
    pixels = list(range(48))
    images = {"name": "images", "shape": [1, 4, 4, 3], "datatype": "UINT8"}
    floats = {"name": "input", "shape": [1, 3, 4, 4], "datatype": "FP32"}
    half = floats | {"datatype": "FP16"}

    def request(name, value, binary=None, length=None):
        text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
        length = length or (0xFFFF if binary is None else len(text))
        write_seed("tensors", name, struct.pack("<H", length) + text + (binary or b""))

    def sized(tensor, size):
        return tensor | {"parameters": {"binary_data_size": size}}

    request("pixels", {"id": "mine", "inputs": [images | {"data": pixels}]})
    nested = [[pixels[at : at + 3] for at in range(row, row + 12, 3)] for row in range(0, 48, 12)]
    request("pixels-nested", {"inputs": [images | {"data": [nested]}]})
    request("pixels-binary", {"inputs": [sized(images | {"shape": [2, 4, 4, 3]}, 96)]}, bytes(range(96)))
    request("floats", {"inputs": [floats | {"data": [number / 8 - 1 for number in range(48)]}]})
    numbers = [0, -0.0, -1, 1e-46, 1e38, 2**53 + 1, 2**64 - 1, -(2**63), 2**64] + [0] * 39
    request("floats-of-all-kinds", {"inputs": [floats | {"data": numbers}]})
    request("floats-beyond", {"inputs": [floats | {"data": [1e39] + [0] * 47}]})
    request("floats-binary", {"inputs": [sized(floats, 192)]}, struct.pack("<48f", *range(48)))
    request("halves-binary", {"inputs": [sized(half, 96)]}, struct.pack("<48e", *range(48)))
    request("not-finite", {"inputs": [sized(floats, 192)]}, b"\0\0\x80\x7f" * 48)
    request("halves-not-finite", {"inputs": [sized(half, 96)]}, b"\0\x7e" * 48)
    request("halves-in-json", {"inputs": [half | {"data": pixels}]})
    outputs = [{"name": "logits", "parameters": {"classification": 3, "binary_data": True}}]
    whole = {"parameters": {"binary_data_output": True}, "inputs": [images | {"data": pixels}], "outputs": outputs}
    request("outputs", whole)
    request("two-outputs", whole | {"outputs": outputs * 2})
    request("two-inputs", {"inputs": [images | {"data": pixels}] * 2})
    request("too-many-images", {"inputs": [images | {"shape": [9, 4, 4, 3], "data": pixels}]})
    request("huge-shape", {"inputs": [images | {"shape": [2**64 - 1, 4, 4, 3], "data": pixels}]})
    request("long-shape", {"inputs": [images | {"shape": [1] * 3000, "data": []}]})
    request("many-inputs", {"inputs": [{"name": "", "shape": [], "datatype": ""}] * 200})
    request("many-outputs", {"inputs": [images | {"data": pixels}], "outputs": [{"name": ""}] * 500})
    request("no-images", {"inputs": [images | {"shape": [0, 4, 4, 3], "data": []}]})
    request("too-few", {"inputs": [images | {"data": pixels[1:]}]})
    request("too-many", {"inputs": [images | {"data": pixels + [0]}]})
    request("pixels-beyond", {"inputs": [images | {"data": [256] * 48}]})
    request("binary-of-another-size", {"inputs": [sized(images, 47)]}, bytes(48))
    request("unexpected-binary", {"inputs": [images | {"data": pixels}]}, bytes(3))
    request("binary-twice", {"inputs": [sized(images, 48) | {"data": pixels}]}, bytes(48))
    request("length-beyond", {"inputs": []}, length=4000)
    head = b'{"inputs":[{"name":"images","shape":[1,4,4,3],"datatype":"UINT8","data":'
    request("deep", head + b"[" * 200 + b"]" * 200 + b"}]}")
    request("lists", [None, [False], [["images", [1, 4, 4, 3], "UINT8", [None], pixels]], []])
    request("unknown-field", b'{"inputs":[],"more":' + b"[" * 300 + b"]" * 300 + b"}")
    request("nothing", b"")
    request("empty", {})


if __name__ == "__main__":
    jpegs()
    pngs()
    others()
    checkpoints()
    pickles()
    onnx_files()
    forms()
    documents()
    requests()
