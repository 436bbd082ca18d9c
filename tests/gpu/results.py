"""What a sitting brings home: one folder with numbers, pictures, weights and where they are from.

results.csv               one number a row; `table` says which table it belongs to
sitting.json              what was asked, on which card, from which code and data, how long, with a digest of every file
weights-1.safetensors …   fp16, in files of at most 16 MiB, 64 MiB in all; names are VARIANT/PARAMETER
sheet.png                 rows of images; sitting.json says what each row is

Every file is whole or absent, and a sitting that is cut short leaves what it had at the last full minute. Weights that
would be too much are left out, in whole files from the last one on.
"""

import csv
import io
import time
from pathlib import Path

import torch
from torch import Tensor

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import recorded

HERE = Path(__file__).resolve().parent
MIB = 2**20
FILE_LIMIT, ALL_LIMIT, FILES = 16 * MIB, 64 * MIB, 8
ROW = 20  # images in a row of the sheet


class Results:
    def __init__(self, folder: Path, sitting: str, **settings: object):
        if folder.exists() and any(folder.iterdir()):
            raise Problem(f"{folder} is not empty: name another folder for the results of this sitting")
        self.folder = folder
        self.rows: list[dict] = []
        self.since = time.monotonic()
        self.weights: dict[str, Tensor] = {}
        self.sheet: list[Tensor] = []
        self.about = {
            "sitting": sitting,
            **settings,
            "finished": False,
            "code": recorded.sources_code(sources(sitting)),
            "provenance": provenance(),
            "recipes": {},
            "sheet": [],
        }

    def add(self, table: str, **row: object) -> None:
        """One number of a table, such as add("kept", variant="plain", w=0.1, factor="what", value=0.3, n=1000)."""
        self.rows.append({"table": table, **row})
        shown = "  ".join(f"{key} {round(v, 4) if isinstance(v, float) else v}" for key, v in row.items())
        print(f"{table}: {shown}", flush=True)

    def keep(self, variant: str, network: torch.nn.Module, recipe: dict) -> None:
        """Hold the weights of a network, in place of those held under that name before."""
        self.weights = {name: value for name, value in self.weights.items() if not name.startswith(f"{variant}/")}
        self.weights |= {f"{variant}/{name}": value.half().cpu() for name, value in network.state_dict().items()}
        self.about["recipes"][variant] = recipe

    def show(self, text: str, images: Tensor) -> None:
        """A row of the sheet: up to ROW uint8 images."""
        row = images.new_full((ROW, *images.shape[1:]), 255)
        row[: len(images)] = images[:ROW]
        self.sheet.append(row)
        self.about["sheet"].append(text)

    def save(self, finished: bool = False) -> None:
        """Write all that is there; what is written is what `read` believes."""
        contents = {"results.csv": self._table()} | ({"sheet.png": self._picture()} if self.sheet else {})
        room = ALL_LIMIT - MIB - sum(map(len, contents.values()))
        for name, data in in_files(self.weights).items():
            if len(contents) + 2 > FILES or len(data) > room:
                print(f"no weights from {name} on: they would be more than {FILES} files or 64 MiB", flush=True)
                break
            contents[name] = data
            room -= len(data)
        self.about["seconds"] = round(time.monotonic() - self.since, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            files.write_bytes(self.folder / name, data)
        digests = {name: files.sha256(self.folder / name) for name in contents}
        files.write_json(self.folder / "sitting.json", {**self.about, "finished": finished, "files": digests})

    def _picture(self) -> bytes:
        from PIL import Image

        from synpos_lib.data.pixels import tile

        png = io.BytesIO()
        Image.fromarray(tile(torch.cat(self.sheet), ROW)).save(png, "png")
        return png.getvalue()

    def _table(self) -> bytes:
        columns = list(dict.fromkeys(key for row in self.rows for key in row)) or ["table"]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue().encode()


def sources(sitting: str) -> list[str]:
    """The files that a sitting's numbers come from, beside the library; in the repository."""
    names = dict.fromkeys(("sitting", "bench", "cifar", "clock", sitting.replace("-", "_"), "../benchmarks/ssl_step"))
    return [str((HERE / f"{name}.py").resolve().relative_to(runtime.REPOSITORY)) for name in names]


def provenance() -> dict:
    """Of the library, with the card."""
    origin = runtime.provenance()
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        origin["card"] = {"name": card.name, "memory_gb": round(card.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return origin


def in_files(weights: dict[str, Tensor]) -> dict[str, bytes]:
    """The weights as the contents of as few safetensors files as fit, in order."""
    from safetensors.torch import save

    parts: list[dict[str, Tensor]] = []
    room = 0
    for name, value in weights.items():
        size = value.nbytes + 200  # its line in the header
        if size > room:
            parts.append({})
            room = FILE_LIMIT - 4096
        parts[-1][name] = value.contiguous()
        room -= size
    return {f"weights-{i}.safetensors": save(part) for i, part in enumerate(parts, 1)}


def read(folder: Path) -> dict:
    """What sitting.json says, once every file is found to be what it says."""
    if not (folder / "sitting.json").is_file():
        raise Problem(f"{folder} holds no results of a sitting: name the folder that was given with --out")
    about = files.read_json(folder / "sitting.json", dict)
    for name, digest in about["files"].items():
        if not (folder / name).is_file() or files.sha256(folder / name) != digest:
            raise Problem(f"{folder / name} is missing or is not what sitting.json says: fetch the results again")
    return about


def read_weights(folder: Path, variant: str) -> tuple[dict[str, Tensor], dict]:
    """The weights of one network that an earlier sitting brought home, and its recipe."""
    from safetensors.torch import load_file

    about = read(folder)
    if variant not in about["recipes"]:
        raise Problem(
            f"{folder} holds no weights of '{variant}', as it is of the sitting {about['sitting']}: name another"
        )
    stored: dict[str, Tensor] = {}
    for name in about["files"]:
        if name.endswith(".safetensors"):
            stored |= load_file(folder / name)
    start = f"{variant}/"
    weights = {name.removeprefix(start): value.float() for name, value in stored.items() if name.startswith(start)}
    return weights, about["recipes"][variant]
