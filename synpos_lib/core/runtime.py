"""Where and how a result is computed: device, precision, threads, seeds, progress, provenance.

No run is computed again for a change in this file, so tests/core/test_runtime.py pins what results depend on: the
derived seeds, the generators' streams and the choice of precision.
"""

import contextlib
import functools
import hashlib
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sized
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(__file__).resolve().parents[2]


def outputs() -> Path:
    """The folder that all results go to (`SYNPOS_OUTPUTS`, else `outputs/` beside the library)."""
    return Path(os.environ.get("SYNPOS_OUTPUTS") or REPOSITORY / "outputs").expanduser()


def in_batch() -> bool:
    """Whether nobody watches: a papermill job, or output that goes to neither a terminal nor a notebook."""
    return "SYNPOS_JOB" in os.environ or ("ipykernel" not in sys.modules and not sys.stderr.isatty())


def device() -> "torch.device":
    """The GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.cache
def fast_bf16(kind: str) -> bool:
    """Whether bfloat16 arithmetic is a gain on this kind of device, not an emulation."""
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capable = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return capable and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # not below what ONEDNN_MAX_CPU_ISA allows


def autocast(where: "torch.device | str") -> "torch.autocast":
    """bf16 autocast where the hardware has it, else full precision."""
    import torch

    kind = torch.device(where).type
    return torch.autocast(kind, torch.bfloat16, enabled=fast_bf16(kind))


def memory_format(where: "torch.device | str", norm: str = "batch") -> "torch.memory_format":
    """The memory order of images and convolutions, where they are followed by this kind of normalisation.

    Channels last is the faster one, with AVX2 as with AVX-512, but not with GroupNorm on a processor: in bfloat16
    PyTorch's is many times slower that way, and copies around it cost what the convolutions gain.
    """
    import torch

    first = norm == "group" and torch.device(where).type == "cpu"
    return torch.contiguous_format if first else torch.channels_last


DATA_SHARE = 0.5  # of the free memory of a GPU; the rest is for the network, its activations and the optimiser
COMPILE_FROM = 5000  # steps of a training: compiling takes about a minute and makes a step up to a third faster


def fits(size: int, where: "torch.device | str") -> bool:
    """Whether data of `size` bytes may stay on the GPU: at most DATA_SHARE of its free memory."""
    import torch

    if torch.device(where).type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(where)
    if size <= DATA_SHARE * free:
        return True
    print(f"{size / 1e9:.1f} GB stay in main memory: {free / 1e9:.1f} GB are free on the GPU", flush=True)
    return False


def compile_pays(steps: int, where: "torch.device | str") -> bool:
    """Whether a training of so many steps should be compiled: a long one, on a GPU."""
    import torch

    return torch.device(where).type == "cuda" and steps >= COMPILE_FROM


def use_threads() -> int:
    """Set torch to this job's share of the cores (`SYNPOS_THREADS`, else all) and return it."""
    import torch

    torch.set_num_threads(_threads())
    return _threads()


def _threads() -> int:
    return int(os.environ.get("SYNPOS_THREADS") or len(os.sched_getaffinity(0)))


def derive(seed: int, *names: object) -> int:
    """An independent 63-bit seed for each use of one seed: `derive(0, "views", epoch)`."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object, where: "torch.device | str" = "cpu") -> "torch.Generator":
    """A torch random generator for one use of a seed."""
    import torch

    return torch.Generator(where).manual_seed(derive(seed, *names))


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    import numpy
    import torch

    random.seed(derive(seed, "python"))
    numpy.random.seed(derive(seed, "numpy") % 2**32)
    torch.manual_seed(derive(seed, "torch"))


def random_state() -> dict[str, Any]:
    """The global random state, in a form that a checkpoint can hold."""
    import numpy
    import torch

    kind, keys, *rest = numpy.random.get_state(legacy=True)
    numpy_state = [kind, torch.tensor(keys, dtype=torch.int64), *rest]
    state = {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set the global random state to a stored one."""
    import numpy
    import torch

    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def align(optimizer: "torch.optim.Optimizer") -> None:
    """Give a restored state the weights' memory order: a fused optimiser needs it, and a checkpoint forgets it."""
    import torch

    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight).copy_(value)


@contextlib.contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Run a block from its own seed and leave the global random state as it was (for evaluation)."""
    before = random_state()
    seed_all(seed)
    try:
        yield
    finally:
        restore_random_state(before)


def progress(items: Iterable, label: str, total: int | None = None) -> Iterator:
    """Iterate and show the remaining time: a bar in a live session, a line every half minute in batch."""
    total = len(items) if total is None and isinstance(items, Sized) else total
    if not in_batch():
        from tqdm.auto import tqdm

        yield from tqdm(items, desc=label, total=total, leave=False, delay=1)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last > 30:
            last = now
            left = f", {minutes((now - start) / done * (total - done))} left" if total else ""
            print(f"{label}: {done} of {total or '?'}{left}", flush=True)


def minutes(seconds: float) -> str:
    """A duration for people: '41 s', '3.5 min', '2.1 h', '12 days'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} days"


@functools.cache
def hardware() -> str:
    """The machine as text: GPU or processor, the cores that this process may use, and their instruction set."""
    cores = len(os.sched_getaffinity(0))
    if shutil.which("nvidia-smi") and device().type == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, {cores} CPU cores"
    name, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            name = value.strip() if key.startswith("model name") else name
            flags = value if key.startswith("flags") else flags
    return ", ".join(filter(None, (name, f"{cores} core{'s' * (cores > 1)}", instructions(flags.split()))))


INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2"}


def instructions(flags: Collection[str]) -> str:
    """The best instruction set for the networks' arithmetic that the processor has and torch may use."""
    narrow = "avx2" in (os.environ.get(name, "").lower() for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"))
    return next((name for flag, name in INSTRUCTIONS.items() if flag in flags and not (narrow and flag != "avx2")), "")


def busy(seconds: float, used: float) -> bool:
    """Whether work of so many seconds, and seconds of processor time, had to share the cores with other programs."""
    return used < seconds / 2 or os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)


class Origin(TypedDict):
    """The code, machine and time of a result."""

    commit: str
    hardware: str
    time: str


class Provenance(Origin):
    """All that a result may depend on beside its configuration."""

    python: str
    versions: dict[str, str]
    instructions: str
    precision: str
    threads: int


def provenance() -> Provenance:
    """The origin of a result: commit, versions, hardware, precision, time."""
    import torch

    kind = device().type
    packages = ("torch", "torchvision", "diffusers", "numpy", "scikit-learn")
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "hardware": hardware(),
        "instructions": torch.backends.cpu.get_cpu_capability(),  # of the processor, as far as torch uses them
        "precision": "bfloat16 autocast" if fast_bf16(kind) else "float32",
        "threads": _threads(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


@functools.cache
def commit() -> str:
    """The repository's commit, with '+changes' when the library or a notebook differs from it."""

    def git(*words: str) -> str:
        with contextlib.suppress(OSError):  # where there is no git
            return subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, text=True).stdout.strip()
        return ""

    changed = git("status", "--porcelain", "--", "synpos_lib", "notebooks")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if changed else "")
