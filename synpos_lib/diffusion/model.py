"""The diffusion model of a dataset: its recipe, and its weights, shipped or trained here."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import Run, read_run
from synpos_lib.data.images import Images
from synpos_lib.data.pixels import tile
from synpos_lib.diffusion.generators import draw_freely
from synpos_lib.diffusion.training import PAPER_CONDITIONAL, PAPER_TRAINING, TrainingConfig
from synpos_lib.diffusion.unet import UNet, UNetConfig

RECIPES = {"embedded": TrainingConfig(), "paper": PAPER_TRAINING, "paper-conditional": PAPER_CONDITIONAL}
WEIGHTS = Path(__file__).parent / "weights"
RECORDED = ("images", "labels", "init", "code")  # what a run adds to its recipe
DATA = ("weights/*.safetensors",)  # a change in these runs the notebooks that read them again
SHIPPED_IMAGES = 5_000  # the first of "scenes": what the shipped weights learned from, up to rounding


def recipe(name: str, *, classes: int | None = None, **changes: Any) -> TrainingConfig:
    """The recipe of that name, with changes; with `classes`, its network is conditional on so many of them."""
    if name not in RECIPES:
        raise Problem(f"unknown recipe '{name}' ({suggest(name, RECIPES)})")
    config = dataclasses.replace(RECIPES[name], **changes)
    if config.steps < RECIPES[name].steps:  # a slow average of a short training would still hold its random start
        config = dataclasses.replace(config, ema_warmup=True)
    if classes is None:
        return config
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, classes=classes))


def draw_samples(folder: Path) -> Callable[[int, UNet], None]:
    """For `on_save`: a picture of 16 samples in the run's folder at each checkpoint, always from the same noise."""

    def draw(step: int, ema: UNet) -> None:
        sheet = Image.fromarray(tile(draw_freely(ema, 16), columns=8))
        png = io.BytesIO()
        sheet.resize((4 * sheet.width, 4 * sheet.height), Image.Resampling.NEAREST).save(png, "png")
        files.write_bytes(folder / f"samples-{step:06d}.png", png.getvalue())

    return draw


# ------------------------------------------------------------------------------------------------ weights


def ship(run: Run, path: Path) -> None:
    """Write the averaged weights of a finished run as fp16, with their recipe and provenance in the same file."""
    weights = {name: value.half() for name, value in run.final()["ema"].items()}
    files.save_tensors(path, {"weights": weights, **about(run.folder)})


def run_name(dataset: str) -> str:
    """The name of the run that trains the model of a dataset."""
    return "diffusion-" + files.safe_name(dataset)


def shipped(dataset: str) -> Path:
    """Where the weights of a dataset's model are, if the library carries any."""
    return WEIGHTS / f"{dataset}.safetensors"


def find(dataset: str, folder: Path) -> Path:
    """Where the weights are that every notebook uses: in the finished run in `folder`, else in the shipped file."""
    run = folder / "runs" / run_name(dataset)
    if (run / "done.json").exists():
        return run
    if shipped(dataset).exists():
        return shipped(dataset)
    known = [path.stem for path in WEIGHTS.glob("*.safetensors")]
    raise Problem(
        f"there is no diffusion model of '{dataset}', neither a finished run {run} nor shipped weights "
        f"({suggest(dataset, known)}): train it with notebook 01"
    )


def load(dataset: str, folder: Path) -> UNet:
    """The model of a dataset, ready to sample: trained in `folder` by notebook 01, else shipped with the library."""
    place = find(dataset, folder)
    if place == shipped(dataset):
        print(f"diffusion model: the weights shipped for '{dataset}'")
        return read(place)
    back = "; to use the shipped weights again, delete that folder" if shipped(dataset).exists() else ""
    print(f"diffusion model: trained here, in {place}{back}")
    return read(place)


def read(place: Path) -> UNet:
    """A model from a finished run or a weights file; one that does not fit its own description is refused."""
    if place.is_dir():
        run = read_run(place)
        return _build(run.config, run.final()["ema"], place)
    stored: Any = files.load_tensors(place)
    if not isinstance(stored, dict) or not {"weights", "recipe"} <= stored.keys():
        raise Problem(f"{place} holds no diffusion weights: make some with notebook 01")
    return _build(stored["recipe"], stored["weights"], place)


def about(place: Path) -> dict:
    """How the weights in a file, or those of a run, were made: recipe, results, provenance."""
    if place.is_dir():
        run = read_run(place)
        results = {**run.results, "by_t": run.metrics()[-1]["by_t"]}
        return {"recipe": run.config, "results": results, "provenance": run.provenance}
    stored: Any = files.load_tensors(place)
    return {key: value for key, value in stored.items() if key != "weights"}


def coverage(place: Path, images: Images) -> str:
    """How many of the images that the weights in `place` learned from are among these, in words."""
    count, total = len(images), SHIPPED_IMAGES
    if place.is_dir():
        if read_run(place).config["images"] != images.fingerprint:
            return f"{count:,} images, which are not exactly those that the model learned from"
        total = count
    known = "all" if count >= total else f"{count:,} of the"
    return f"{known} {total:,} images that the model learned from"


def differs_from_paper(config: dict) -> list[dict]:
    """Every setting of a recipe that is not the paper's, side by side."""
    paper = dataclasses.asdict(PAPER_TRAINING)
    pairs = {key: (config["unet"][key], value) for key, value in paper.pop("unet").items()}
    pairs |= {key: (config[key], value) for key, value in paper.items() if key in config}
    rows = [{"setting": key, "here": str(ours), "paper": str(theirs)} for key, (ours, theirs) in pairs.items()]
    return [row for row in rows if row["here"].strip("[]()") != row["paper"].strip("[]()")]


def _build(recipe: dict, weights: dict, origin: Path) -> UNet:
    known = {"unet", *RECORDED, *(field.name for field in dataclasses.fields(TrainingConfig))}
    config: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in recipe["unet"].items()
    }
    foreign = recipe.keys() - known | config.keys() - {field.name for field in dataclasses.fields(UNetConfig)}
    if foreign:  # such as second_view, a help that a plain model does not have
        raise Problem(
            f"the model in {origin} was made with settings that no model has here ({', '.join(sorted(foreign))}), so "
            "its numbers would not be those of a plain one: train one with notebook 01"
        )
    unet = UNet(UNetConfig(**config))
    try:
        unet.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise Problem(
            f"the weights in {origin} fit another architecture ({first}): retrain with notebook 01"
        ) from error
    return unet.to(runtime.device()).eval().requires_grad_(False)
