"""A diffusion model as a thing to have: train it as a run, ship its weights, load it again."""

import copy
import dataclasses
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import torch

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.processes import Processes, processes
from synpos_lib.core.runs import Run, open_run, read_run
from synpos_lib.diffusion import training
from synpos_lib.diffusion.training import PAPER_CONDITIONAL, PAPER_TRAINING, Batch, T, TrainingConfig
from synpos_lib.diffusion.unet import UNet, UNetConfig

RECIPES = {"embedded": TrainingConfig(), "paper": PAPER_TRAINING, "paper-conditional": PAPER_CONDITIONAL}
WEIGHTS = Path(__file__).parent / "weights"
DATA = ("weights/*.safetensors",)  # a change in these runs the notebooks that read them again
SHIPPED_IMAGES = 20_000  # the first of "scenes": what the shipped weights learned from, up to a CPU's last bit
RANGES = 10  # of t, over which the error is logged
CHECK = 100  # steps after which a GPU is asked whether the loss is still a number


def recipe(name: str, *, classes: int | None = None, **changes: object) -> TrainingConfig:
    """The recipe of that name, with changes; with `classes`, its network is conditional on so many of them."""
    if name not in RECIPES:
        raise Problem(f"unknown recipe '{name}' ({suggest(name, RECIPES)})")
    config = dataclasses.replace(RECIPES[name], **changes)
    if config.steps < RECIPES[name].steps:  # a slow average of a short training would still hold its random start
        config = dataclasses.replace(config, ema_warmup=True)
    if classes is None:
        return config
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, classes=classes))


def train(
    folder: Path,
    images,
    config: TrainingConfig,
    *,
    labels: torch.Tensor | None = None,  # of a network with classes: what or where; by default the images' labels
    init: UNet | None = None,  # start from these weights; the classes they lack start at zero, so nothing is lost
    save_every: int = 500,  # steps between checkpoints
    on_save: Callable[[int, UNet], None] | None = None,
) -> Run | None:
    """Train, continue or reuse the model of this recipe on these images; `on_save(step, ema)` at each checkpoint."""
    here = processes()
    if config.batch % here.count:
        raise Problem(f"a batch of {config.batch} cannot be shared by {here.count} processes: choose a multiple")
    described = {**dataclasses.asdict(config), "images": images.fingerprint}
    if classes := config.unet.classes:
        labels = images.labels if labels is None else labels
        if labels is None:
            raise Problem(
                f"a network with {classes} classes needs labels, and these images have none: set classes to 0"
            )
        training.check_labels(labels, len(images.images), classes)
        described["labels"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
    elif labels is not None:
        raise Problem("labels were given to a network without classes: set unet.classes, or leave them out")
    if init is not None:
        from synpos_lib.diffusion.generators import fingerprint

        _check_init(init.config, config.unet)
        described["init"] = fingerprint(init)
    if not here.first:
        if not here.from_first(None):
            _loop(None, images.images, labels, config, here, save_every, None, init)
        return None
    with open_run(folder, described, ("synpos_lib.diffusion.training",)) as run:
        if not here.from_first(run.done):
            _loop(run, images.images, labels, config, here, save_every, on_save, init)
    return run


def _check_init(given: UNetConfig, wanted: UNetConfig) -> None:
    """Weights to start from must be of the same network; only classes may be added, and dropout changed."""
    fit = given.classes in (0, wanted.classes)
    if not fit or dataclasses.replace(given, classes=wanted.classes, dropout=wanted.dropout) != wanted:
        raise Problem(f"init is a network with {given}, and this recipe trains one with {wanted}: give one that fits")


def _with_weights_of(init: UNet, unet: UNet) -> None:
    """Copy all weights of init; what it lacks, the embedding of the classes, becomes zero."""
    zeros = {name: torch.zeros_like(value) for name, value in unet.state_dict().items()}
    unet.load_state_dict(zeros | init.state_dict())


def _loop(run: Run | None, images, labels, config: TrainingConfig, here: Processes, save_every, on_save, init) -> None:
    torch.manual_seed(config.seed)
    unet = UNet(config.unet).to(here.device)
    if init is not None:
        _with_weights_of(init, unet)
    ema = copy.deepcopy(unet).requires_grad_(False).eval()
    optimizer = training.make_optimizer(unet, config)
    first = _restore(run, here, {"unet": unet, "ema": ema, "optimizer": optimizer})
    if runtime.fits(images.numel(), here.device):
        images, labels = images.to(here.device), None if labels is None else labels.to(here.device)
    errors = torch.compile(training.squared_errors) if runtime.compile_pays(config.steps, here.device) else None
    sums = torch.zeros(2, RANGES, device=here.device)  # of the error, and of how often, in ranges of t
    bad = torch.full((), -1, device=here.device)  # the first step whose loss was not a number
    unet.train()
    steps = range(first, config.steps)
    for step in runtime.progress(steps, f"{run.name}: steps") if run else steps:
        torch.manual_seed(runtime.derive(config.seed, "dropout", step, here.rank))
        batch = _drawn(images, labels, step, config, here)
        error = training.train_step(unet, ema, optimizer, batch, step, config, here, errors=errors)
        if not run:
            continue
        sums.index_add_(1, batch.t * RANGES // T, torch.stack([error, torch.ones_like(error)]))
        bad = torch.where((bad < 0) & ~error.isfinite().all(), step, bad)
        saving = (step + 1) % save_every == 0 or step + 1 == config.steps
        if (saving or (step + 1) % CHECK == 0) and bad >= 0:
            raise Problem(
                f"the loss was no longer a number at step {bad.item() + 1} of run '{run.name}' (learning rate "
                f"{training.learning_rate(bad.item(), config):.2g}): lower it; the last checkpoint is kept"
            )
        if saving:
            by_t = (sums[0] / sums[1].clamp_min(1)).tolist()
            row = {"step": step + 1, "loss": round(float(sums[0].sum() / sums[1].sum()), 5)}
            run.log(**row, by_t=[round(value, 5) for value in by_t])
            if runtime.in_batch():
                print(f"{run.name}: step {step + 1}/{config.steps}  loss {row['loss']:.4f}", flush=True)
            sums.zero_()
            parts = {"unet": unet.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict()}
            run.save({"step": step + 1, **parts})
            if on_save:
                on_save(step + 1, ema)
    if run:
        run.finish(loss=run.metrics()[-1]["loss"], steps=config.steps, images_seen=config.steps * config.batch)


def _restore(run: Run | None, here: Processes, parts: dict) -> int:
    """Go on from the checkpoint of the first process, if there is one; the step to start with."""
    saved = here.from_first(run.load() if run else None)
    if not saved:
        return 0
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    for weight, state in parts["optimizer"].state.items():  # the fused optimiser needs the weights' memory order
        for name, value in state.items():
            if value.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(value)
    return saved["step"]


def _drawn(images, labels, step: int, config: TrainingConfig, here: Processes) -> Batch:
    """This process's share of the batch of a step, on its device."""
    batch = training.share(training.draw(images, step, config, labels=labels), here.rank, here.count)
    return Batch(*(None if field is None else field.to(here.device, non_blocking=True) for field in batch))


def draw_samples(folder: Path, *, n: int = 16, steps: int = 10) -> Callable[[int, UNet], None]:
    """For `on_save`: a picture of n samples in the run's folder at each checkpoint, always from the same noise."""
    from PIL import Image

    from synpos_lib.data.pixels import tile
    from synpos_lib.diffusion.generators import draw_freely

    def draw(step: int, ema: UNet) -> None:
        sheet = Image.fromarray(tile(draw_freely(ema, n, steps=steps), columns=-(-n // 2)))
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
    """What the training on a dataset is called among the runs."""
    return "diffusion-" + re.sub(r"\W+", "_", dataset).strip("_")


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
        return read_weights(place)
    back = "; to use the shipped weights again, delete that folder" if shipped(dataset).exists() else ""
    print(f"diffusion model: trained here, in {place}{back}")
    run = read_run(place)
    return _build(run.config["unet"], run.final()["ema"], place)


def read_weights(path: Path) -> UNet:
    """A model from a weights file; one that does not fit its own description is refused."""
    stored = files.load_tensors(path)
    if not isinstance(stored, dict) or not {"weights", "recipe"} <= stored.keys():
        raise Problem(f"{path} holds no diffusion weights: make some with notebook 01")
    return _build(stored["recipe"]["unet"], stored["weights"], path)


def about(place: Path) -> dict:
    """How the weights in a file, or those of a run, were made: recipe, results, provenance."""
    if place.is_dir():
        run = read_run(place)
        results = {**run.results, "by_t": run.metrics()[-1]["by_t"]}
        return {"recipe": run.config, "results": results, "provenance": run.provenance}
    return {key: value for key, value in files.load_tensors(place).items() if key != "weights"}


def coverage(place: Path, images) -> str:
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


def _build(config: dict, weights: dict, origin: Path) -> UNet:
    config = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    unet = UNet(UNetConfig(**config))
    try:
        unet.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise Problem(
            f"the weights in {origin} fit another architecture ({first}): retrain with notebook 01"
        ) from error
    return unet.to(runtime.device()).eval().requires_grad_(False)
