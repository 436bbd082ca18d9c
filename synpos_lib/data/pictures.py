"""Picture files: where they lie below a folder, and each of them as 8-bit RGB or a reason why not.

notebooks/README.md lists what is read, and how.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from synpos_lib.core.errors import Problem

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}
FOREIGN = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".psd"}  # refused
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM", "TIFF")  # whatever the suffix says; no other code of Pillow runs
GROUND = "white"  # what shows through transparent pixels
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF tags: bits per sample; 0: white is zero; 2: signed integers


def below(folder: Path) -> list[Path]:
    """Every path below a folder that is named like a picture, sorted; `read` refuses what is none."""
    return sorted(Path(path) for path in walk(folder) if os.path.splitext(path)[1].lower() in SUFFIXES | FOREIGN)


def walk(folder: Path) -> Iterator[str]:
    """Every path below a folder but hidden ones and folders, in a fixed order.

    Linked folders are followed, and none is entered twice: a link back is a path like that of a file.
    """
    entered = {_identity(parent) for parent in folder.resolve().parents}
    for place, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        if (identity := _identity(place)) in entered:
            folders.clear()
            yield place
            continue
        entered.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(names) if not name.startswith("."))


def _identity(path: str | Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_dev, about.st_ino


def _fail(error: OSError) -> NoReturn:
    raise Problem(f"cannot read {error.filename} ({error.strerror}): make it readable for you") from error


def read(path: Path, size: int) -> np.ndarray:
    """A picture file as (3, size, size) uint8; a ValueError has the reason why it cannot be read."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if not path.is_file():
            raise ValueError("not a regular file, or a link that leads to none")
        with Image.open(path, formats=FORMATS) as image:
            raw = image.tile[0][3] if image.format == "PNG" and image.tile else ""
            image.load()
            _unpack_transparency(image, raw)
            with contextlib.suppress(Exception):  # metadata that Pillow cannot read turn nothing
                ImageOps.exif_transpose(image, in_place=True)
            return fit(_rgb(image), size)
    except UnidentifiedImageError:
        raise ValueError(f"not a picture of a kind that is read: {', '.join(FORMATS)}") from None
    except Exception as error:  # on a damaged file, Pillow raises errors of many kinds
        raise ValueError(str(error) or type(error).__name__) from error


def fit(image: "Image", size: int) -> np.ndarray:
    """The shorter side resized (bilinear, antialiased), the centre cropped: (3, size, size) uint8."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _unpack_transparency(image: "Image", raw: object) -> None:
    """Bring the one transparent value of a PNG to the range of its pixels, which Pillow has brought to 8 bits."""
    value = image.info.get("transparency")
    if raw == "RGB;16B" and value is not None:  # the lower bits are lost, by which it differs from its neighbours
        raise ValueError("one transparent colour of 16 bits: save it with an alpha channel")
    if isinstance(value, int):
        image.info["transparency"] = value * {"1": 255, "L;2": 85, "L;4": 17}.get(str(raw), 1)


def _rgb(image: "Image") -> "Image":
    from PIL import Image

    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    if image.mode.startswith(("I", "F")) or 2 in tags.get(SAMPLE_FORMAT, ()):
        return Image.fromarray(_grey(image, tags)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, GROUND)
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")


def _grey(image: "Image", tags: dict) -> np.ndarray:
    """Grey values of more than 8 bits, rescaled by the range of their type: (H, W) uint8."""
    values = np.asarray(image)
    if image.mode == "F":
        white = 1
        if not (values.min() >= 0 and values.max() <= white):  # nor if one is not a number
            raise ValueError("floating-point values outside 0, black, to 1, white: rescale them")
    elif image.mode.startswith("I;16") or image.format in ("PNG", "PPM"):  # these have 16 bits, even in mode I
        white = 2 ** tags.get(BITS, (16,))[0] - 1
    else:
        raise ValueError("signed or 32-bit integers, which do not say how bright white is: save it with 8 or 16 bits")
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255  # GROUND
    return grey
