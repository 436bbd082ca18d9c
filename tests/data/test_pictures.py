"""What notebooks/README.md says is read, and how: every row of its table is a case here, and the other way round."""

import os
import re
import struct
import threading
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synpos_lib.core.errors import Problem
from synpos_lib.core.runtime import REPOSITORY
from synpos_lib.data import pictures
from synpos_lib.data.catalog import load

CASES: dict[str, Callable[[Path], object]] = {}  # by row: makes a set in a folder, and gives what is to be seen of it
GUIDE = (REPOSITORY / "notebooks" / "README.md").read_text(encoding="utf-8")
SECTION = GUIDE.partition("## What is read, and how")[2].partition("\n## ")[0]
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", SECTION, flags=re.MULTILINE)[1:])
RED, BLUE = (200, 40, 10), (20, 60, 220)
CORNER = np.full((8, 8, 3), 250, np.uint8)  # no two of its turns look the same
CORNER[:3, :2] = RED


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "data"))


def row(given: str):
    def keep(case: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES[given] = case
        return case

    return keep


@pytest.mark.parametrize("given", ROWS)
def test_a_row_of_the_guide_is_true(tmp_path, given):
    folder, result = tmp_path / "set", ROWS[given]
    (folder / "train" / "one").mkdir(parents=True)
    seen = CASES[given](folder)
    split = seen if isinstance(seen, str) else "train+val"
    if result.startswith("refused"):
        with pytest.raises(Problem) as error:
            load(f"folder:{folder}", split, size=8)
        sentence = str(error.value)
        assert re.findall("`(.+?)`", result)[-1] in sentence and sentence.encode() and "\n" not in sentence
        return
    images = load(f"folder:{folder}", split, size=8)
    if isinstance(seen, tuple):
        assert images.classes == seen and images.labels.unique().tolist() == [*range(len(seen))]
    else:
        assert [image.tolist() for image in images.images] == [np.moveaxis(np.asarray(seen), 2, 0).tolist()]


def test_every_case_is_a_row_of_the_guide():
    assert set(CASES) == set(ROWS) and len(ROWS) > 25


# ----------------------------------------------------------------------------------------- pictures


def x(folder: Path, suffix: str = ".png") -> Path:
    return folder / "train" / "one" / f"x{suffix}"


def grey(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, np.uint8)


def steps(*values: float, kind: str) -> np.ndarray:
    """Stripes of these values: (8, 8)."""
    return np.repeat(np.array(values, kind), 8 // len(values))[None].repeat(8, 0)


def rgb(stripes: np.ndarray) -> np.ndarray:
    return stripes.astype(np.uint8)[..., None].repeat(3, 2)


def write_png(path: Path, pixels: np.ndarray, colour: int, key: bytes = b"", bits: int = 16) -> None:
    """A PNG of 16 bits or fewer, byte by byte, as the specification has it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, values = pixels.shape
    head = struct.pack(">IIBBBBB", values // (3 if colour == 2 else 1), height, bits, colour, 0, 0, 0)
    digits = (pixels.astype(int)[..., None] >> np.arange(bits)[::-1]) & 1  # the highest first
    body = zlib.compress(b"".join(b"\0" + np.packbits(line).tobytes() for line in digits.astype(np.uint8)))
    parts = [(b"IHDR", head), *([(b"tRNS", key)] if key else []), (b"IDAT", body), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


def write_tiff(path: Path, data: bytes, bits: int, kind: int, photometric: int = 1) -> None:
    """A grey TIFF of 8 × 8 pixels, byte by byte; kind 1: unsigned, 2: signed, 3: floating-point."""
    entries = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 8 + 2 + 10 * 12 + 4, 277: 1, 278: 8}
    entries |= {279: len(data), 339: kind}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4) + data)


@row("PNG of 8 or fewer bits, grey, in colour or with a palette")
def _(folder):
    Image.new("RGB", (8, 8), RED).quantize(4).save(x(folder))
    return np.full((8, 8, 3), RED)


@row("PNG or TIFF of 16 bits, grey")
def _(folder):
    write_png(x(folder), steps(0, 5000, 60000, 65535, kind=">u2"), 0)
    return rgb(steps(0, 19, 233, 255, kind="u1"))


@row("PNG or TIFF of 16 bits, in colour")
def _(folder):
    write_png(x(folder), steps(0, 5000, 60000, 65535, kind=">u2").repeat(3, 1), 2)
    return rgb(steps(0, 19, 234, 255, kind="u1"))


@row("PGM of 16 bits")
def _(folder):
    x(folder, ".pgm").write_bytes(b"P5 8 8 65535 " + steps(5000, 60000, kind=">u2").tobytes())
    return rgb(steps(19, 233, kind="u1"))


@row("TIFF of 12 bits")
def _(folder):
    write_tiff(x(folder, ".tif"), bytes.fromhex("000000800800ffffff321321") * 8, 12, 1)
    return rgb(steps(0, 128, 255, 50, kind="u1"))


@row("TIFF whose 0 is white")
def _(folder):
    write_tiff(x(folder, ".tif"), steps(0, 60000, kind="<u2").tobytes(), 16, 1, photometric=0)
    return rgb(steps(255, 22, kind="u1"))


@row("TIFF of floating-point values from 0 to 1")
def _(folder):
    Image.fromarray(steps(0, 0.2, 0.5, 1, kind="f4")).save(x(folder, ".tif"))
    return rgb(steps(0, 51, 128, 255, kind="u1"))


@row("TIFF of other floating-point values")
def _(folder):
    Image.fromarray(steps(0, 0.5, np.nan, 1, kind="f4")).save(x(folder, ".tif"))


@row("TIFF of signed or 32-bit integers")
def _(folder):
    Image.fromarray(steps(0, 60000, kind="i4")).save(x(folder, ".tif"))


@row("photograph with an orientation (EXIF)")
def _(folder):
    note = Image.Exif()
    note[0x0112] = 6  # the camera's top is on the right: turn clockwise
    Image.fromarray(CORNER).save(x(folder, ".webp"), lossless=True, exif=note)
    return np.rot90(CORNER, -1)


@row("transparent pixels")
def _(folder):
    Image.fromarray(np.dstack([CORNER, steps(0, 255, kind="u1")])).save(x(folder))
    return np.where(steps(0, 1, kind="u1")[..., None], CORNER, 255)


@row("a transparent colour of a palette")
def _(folder):
    image = Image.fromarray(steps(0, 1, kind="u1"), "P")
    image.putpalette([*RED, *BLUE])
    image.save(x(folder), transparency=0)
    return np.where(steps(0, 1, kind="u1")[..., None], np.uint8(BLUE), 255)


@row("a transparent grey of 16 bits")
def _(folder):
    write_png(x(folder), steps(5000, 5001, kind=">u2"), 0, struct.pack(">H", 5000))
    return rgb(steps(255, 19, kind="u1"))


@row("one transparent colour of 16 bits")
def _(folder):
    write_png(x(folder), steps(5000, 5001, kind=">u2").repeat(3, 1), 2, struct.pack(">HHH", 5000, 5000, 5000))


@row("animation, or several pages")
def _(folder):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE))
    first.save(x(folder, ".gif"), save_all=True, append_images=[second])
    return np.full((8, 8, 3), RED)


@row("JPEG in CMYK")
def _(folder):
    Image.new("CMYK", (8, 8), (0, 0, 0, 255 - 77)).save(x(folder, ".jpg"), quality=100)
    return grey(77)


@row("colour profile")
def _(folder):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    Image.fromarray(CORNER).save(x(folder), icc_profile=profile.tobytes())
    return CORNER


@row("wrong suffix, such as a PNG named `.jpg`")
def _(folder):
    Image.fromarray(CORNER).save(x(folder, ".jpg"), format="png")
    return CORNER


@row("anything else that is named like a picture")
def _(folder):
    Image.new("RGB", (8, 8)).save(x(folder), format="eps")  # Pillow would start Ghostscript


@row("HEIC, AVIF, camera raw")
def _(folder):
    x(folder, ".HEIC").write_bytes(b"\0\0\0\x18ftypheic")


@row("empty file")
def _(folder):
    x(folder, ".jpg").touch()


@row("file of another kind, or without a suffix")
def _(folder):
    Image.fromarray(CORNER).save(x(folder))
    x(folder, ".txt").write_text("about the picture")
    x(folder, "").write_text("about the picture")
    return CORNER


@row("a transparent grey of 1, 2 or 4 bits")
def _(folder):
    write_png(x(folder), steps(0, 1, 2, 3, kind="u1"), 0, struct.pack(">H", 1), bits=2)
    return rgb(steps(0, 255, 170, 255, kind="u1"))


@pytest.mark.parametrize("bits, value", [(1, 0), (1, 1), (2, 0), (2, 2), (4, 0), (4, 7), (8, 9)])
def test_the_transparent_grey_is_white_and_no_other(tmp_path, bits, value):
    greys = steps(0, 1, kind="u1") if bits == 1 else steps(0, value, 3, 1, kind="u1")
    write_png(tmp_path / "x.png", greys, 0, struct.pack(">H", value), bits=bits)
    wanted = np.where(greys == value, 255, np.round(greys * (255 / (2**bits - 1))))
    assert pictures.read(tmp_path / "x.png", 8)[0].tolist() == wanted.tolist()


def test_black_as_the_one_transparent_colour_of_16_bits_is_refused_too(tmp_path):
    write_png(tmp_path / "x.png", steps(200, 60000, kind=">u2").repeat(3, 1), 2, struct.pack(">HHH", 0, 0, 0))
    with pytest.raises(ValueError, match="save it with an alpha channel"):
        pictures.read(tmp_path / "x.png", 8)


@row("truncated file")
def _(folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), "u1")).save(x(folder))
    x(folder).write_bytes(x(folder).read_bytes()[:150])


# -------------------------------------------------------------------------------------- odd entries


@row("pipe, socket or device")
def _(folder):
    os.mkfifo(x(folder))
    writer = os.open(x(folder), os.O_RDWR)  # whoever reads it waits,
    threading.Timer(3, os.close, [writer]).start()  # but not for ever


@row("link to a picture")
def _(folder):
    Image.fromarray(CORNER).save(folder / "elsewhere.png")
    x(folder).symlink_to(folder / "elsewhere.png")
    return CORNER


@row("link that leads nowhere")
def _(folder):
    x(folder).symlink_to(folder / "elsewhere.png")


@row("link to a folder")
def _(folder):
    (folder / "elsewhere").mkdir()
    Image.fromarray(CORNER).save(folder / "elsewhere" / "x.png")
    (folder / "train" / "one" / "more").symlink_to(folder / "elsewhere")
    (folder / "elsewhere" / "back").symlink_to(folder)
    return CORNER


@row("folder named like a picture")
def _(folder):
    x(folder).mkdir()
    Image.fromarray(CORNER).save(x(folder) / "x.png")
    return CORNER


@row("hidden file or folder, `.NAME`")
def _(folder):
    Image.fromarray(CORNER).save(x(folder))
    for name in (".x.png", ".ipynb_checkpoints/x.png", "../.hidden/x.png"):
        (x(folder).parent / name).parent.mkdir(exist_ok=True)
        (x(folder).parent / name).write_text("no picture")
    return CORNER


# --------------------------------------------------------------------------------------------- sets


def fill(folder: Path, *names: str | bytes, images: int = 4) -> None:
    for name in names:
        place = folder / os.fsdecode(name)
        place.mkdir(parents=True, exist_ok=True)
        for i in range(images):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(place / f"{i}.png")


@row("class folder without a picture")
def _(folder):
    fill(folder / "train", "b", "c")
    return "b", "c"


@row("class of `test/` without a picture in `train/`")
def _(folder):
    fill(folder / "train", "b", "c")
    fill(folder / "test", "b", "one")
    return "test"


@row("no picture in any class folder")
def _(folder):
    (folder / "train" / "one" / "notes.txt").write_text("later")


@row("one or two pictures in all")
def _(folder):
    fill(folder / "train", "one", images=1)
    return "val"


@row("only one picture of each class")
def _(folder):
    (folder / "train" / "one").rmdir()
    (folder / "train").rmdir()
    fill(folder, *"abcdefghij", images=1)


@row("class name with bytes that are no UTF-8, a line break or another control character")
def _(folder):
    fill(folder / "train", b"caf\xe9")


@row("class name in two spellings of its accents (NFC, NFD)")
def _(folder):
    for form in ("NFC", "NFD"):
        fill(folder / "train", unicodedata.normalize(form, "Vögel"), "b")
    return "Vögel", "b"


@row("any other class name, however long, with spaces or a dash in front")
def _(folder):
    names = "- 1", "-r", "n" * 255, "two  words "
    fill(folder / "train", *names)
    return names


@row("file name with any bytes")
def _(folder):
    Image.fromarray(CORNER).save(x(folder))
    x(folder).rename(x(folder).parent / os.fsdecode(b"-caf\xe9\n 1.png"))
    return CORNER


# ------------------------------------------------------------------------------- beside the table


def test_the_names_of_unreadable_files_keep_to_the_line(tmp_path):
    place = tmp_path / "train" / "one"
    place.mkdir(parents=True)
    (place / os.fsdecode(b"caf\xe9\n.png")).write_text("no picture")
    with pytest.raises(Problem, match=r"1 of 1 images .*caf\\udce9\\n\.png' \(not a picture") as error:
        load(f"folder:{tmp_path}")
    assert "\n" not in str(error.value) and str(error.value).encode()


def test_a_folder_whose_own_name_cannot_be_printed_is_refused(tmp_path):
    fill(tmp_path / os.fsdecode(b"caf\xe9") / "train", "b")
    with pytest.raises(Problem, match=r"caf\\udce9' has a name that cannot be printed"):
        load(f"folder:{tmp_path}/" + os.fsdecode(b"caf\xe9"))


def test_a_long_folder_name_makes_a_cache_file(tmp_path):
    fill(tmp_path / ("ö" * 120) / "train", "b")
    assert len(load(f"folder:{tmp_path / ('ö' * 120)}", "train+val")) == 4


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    fill(tmp_path / "train", "a", "b")
    scan = os.scandir

    def closed(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)  # root may read everything
    with pytest.raises(Problem, match=r"cannot read .*/train/a \(Permission denied\): make it readable"):
        load(f"folder:{tmp_path}")


def test_grey_of_16_bits_is_rounded_and_colour_is_at_most_one_level_off(tmp_path):
    every = np.arange(65536).reshape(256, 256)
    wanted = np.rint(every / 257)
    for colour, shape, off in ((0, every, 0), (2, every.repeat(3, 1), 1)):
        write_png(tmp_path / "x.png", shape, colour)
        made = pictures.read(tmp_path / "x.png", 256)[1]
        assert np.abs(made - wanted).max() == off


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_every_orientation_is_turned_once(tmp_path, kind):
    turned = {1: CORNER, 2: CORNER[:, ::-1], 3: CORNER[::-1, ::-1], 4: CORNER[::-1]}
    turned |= {5: CORNER.swapaxes(0, 1), 6: np.rot90(CORNER, -1), 7: np.rot90(CORNER, 2).swapaxes(0, 1)}
    turned |= {8: np.rot90(CORNER)}
    for orientation, wanted in turned.items():
        note = Image.Exif()
        note[0x0112] = orientation
        Image.fromarray(CORNER).save(tmp_path / "x", kind, exif=note, lossless=True)
        assert np.array_equal(pictures.read(tmp_path / "x", 8).transpose(1, 2, 0), wanted)


@pytest.mark.parametrize("note", [b"Exif\0\0no EXIF", b"Exif\0\0II*\0", b"Exif\0\0"])
def test_damaged_metadata_turn_nothing(tmp_path, note):
    Image.fromarray(CORNER).save(tmp_path / "x.png", exif=note)
    assert np.array_equal(pictures.read(tmp_path / "x.png", 8).transpose(1, 2, 0), CORNER)


@pytest.mark.filterwarnings("ignore")  # Pillow's, about what is damaged
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm"])
def test_a_damaged_file_is_a_picture_or_a_sentence(tmp_path, kind):
    path, random = tmp_path / "x", np.random.default_rng(0)
    note = Image.Exif()
    note[0x0112] = 6
    Image.fromarray(CORNER).save(path, kind, **({} if kind in ("gif", "bmp", "ppm") else {"exif": note}))
    whole, refused = path.read_bytes(), 0
    for _ in range(100):
        data = bytearray(whole)
        for place in random.integers(len(data), size=2):
            data[place] = random.integers(256)
        path.write_bytes(data[: random.integers(len(data) // 2, 2 * len(data))])
        try:
            assert pictures.read(path, 8).shape == (3, 8, 8)
        except ValueError as error:
            refused += bool(str(error))
    assert refused > 5


def test_links_that_lead_back_end(tmp_path):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.png").touch()
    (tmp_path / "set" / "a" / "to b").symlink_to(tmp_path / "set" / "b")
    (tmp_path / "set" / "b" / "to a").symlink_to(tmp_path / "set" / "a")
    (tmp_path / "set" / "b" / "up").symlink_to(tmp_path)
    assert [path.name for path in pictures.below(tmp_path / "set")] == ["x.png", "x.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len([*pictures.walk(tmp_path / "set")]) == 5
