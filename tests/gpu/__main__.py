"""python tests/gpu SITTING --minutes M --out FOLDER: a sitting on a rented card; README.md beside this says which."""

import argparse
import importlib
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from clock import GRACE, Clock, looks  # noqa: E402 (from the folder put on the path above)

from synpos_lib.core.errors import Problem  # noqa: E402


class TooLate(BaseException):
    """The time is over, GRACE included; no error, so that nothing takes it for one of its own."""


SITTINGS = {
    "bench": "what the card can do",
    "embedded": "small diffusion models of the embedded images, in equal time",
    "cifar-diffusion": "a diffusion model of CIFAR-10 (needs --data; goes on from --weights)",
    "cifar-ssl": "CLSP with that model's positives (needs --data and --weights)",
}
SHORTEST, LONGEST = 3, 1440  # minutes of a sitting; the bench takes 1
BENCH_SHARE = 1 / 8  # of every sitting, at its head


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python tests/gpu", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="WHAT")
    for name, text in SITTINGS.items():
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--minutes", type=float, default=6.0, help="after which it has ended (default: 6)")
        sub.add_argument("--out", type=Path, required=True, help="an empty folder for what it brings home")
        sub.add_argument("--data", type=Path, help="CIFAR-10: packed parts, or a data root as SYNPOS_DATA")
        sub.add_argument("--weights", type=Path, help="results of an earlier cifar-diffusion, to go on from")
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument(
            "--rehearse",
            action="store_true",
            help="without a card: tiny networks, and a budget of steps instead of minutes",
        )
    sub = commands.add_parser("pack", help="write CIFAR-10 as four files of 25 MB")
    sub.add_argument("--data", type=Path, help="the data root (default: SYNPOS_DATA)")
    sub.add_argument("--out", type=Path, required=True)
    sub = commands.add_parser("record", help="keep what came home in outputs/recorded/NAME")
    sub.add_argument("results", type=Path)
    sub.add_argument("--as", dest="name", required=True)
    arguments = parser.parse_args(words)
    try:
        if arguments.command == "pack":
            import packed

            packed.pack("cifar10", arguments.data, arguments.out)
        elif arguments.command == "record":
            import record

            from synpos_lib.workflow import showcase

            print(f"recorded: {record.record(arguments.results, arguments.name)}")
            showcase.write()
        else:
            sit(arguments)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def sit(arguments: argparse.Namespace) -> None:
    """Check what is needed, then do it until the time is over; what is there by then is saved."""
    clock = Clock(60 * arguments.minutes, looks() if arguments.rehearse else time.monotonic)
    module = _module(arguments.command)
    _check(arguments, module)
    import torch
    from results import Results
    from sitting import Sitting

    from synpos_lib.core import runtime

    runtime.use_threads()
    torch.backends.cudnn.benchmark = True  # the shapes of a training never change
    settings = {name: str(v) for name, v in vars(arguments).items() if v is not None and name != "command"}
    results = Results(arguments.out, arguments.command, **settings)
    with tempfile.TemporaryDirectory() as scratch:
        sitting = Sitting(
            clock, results, Path(scratch), arguments.data, arguments.weights, arguments.seed, arguments.rehearse
        )
        ready = module.prepare(sitting)  # what is missing or damaged is found before a minute is spent
        finished = False
        if not arguments.rehearse:
            signal.signal(signal.SIGALRM, _too_late)
            signal.alarm(int(clock.left()) + GRACE)
        try:
            if arguments.command != "bench":
                _bench(sitting, clock.part(BENCH_SHARE))
            module.run(sitting, *ready)
            finished = True
        except TooLate:
            print("cut short: what was there is saved", flush=True)
        finally:
            signal.alarm(0)
            results.save(finished)
            print(f"{arguments.out}: {len(results.rows)} numbers, {results.about['seconds']:.0f} s", flush=True)


def _bench(sitting, clock: Clock) -> None:
    """Sitting 0, at the head of another one: whatever goes wrong in it, that one goes on."""
    try:
        importlib.import_module("bench").run(sitting, clock)
    except Exception as error:
        print(f"the bench failed ({type(error).__name__}: {error}); the sitting goes on without it", flush=True)
    sitting.results.save()


def _module(command: str):
    try:
        return importlib.import_module(command.replace("-", "_"))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("synpos_lib", command.replace("-", "_"))):
            raise
        raise Problem(
            f"the package '{error.name}' is missing here: pip install {error.name}, or carry its wheel"
        ) from error


def _check(arguments: argparse.Namespace, module) -> None:
    """One sentence before the first minute is spent."""
    import torch

    shortest = 1 if arguments.command == "bench" else SHORTEST
    if not shortest <= arguments.minutes <= LONGEST:
        what = f"{arguments.minutes:g} minutes are not what {arguments.command} can use"
        raise Problem(f"{what}: give from {shortest} to {LONGEST}")
    for name in ("data", "weights"):
        folder = getattr(arguments, name)
        if folder is not None and not folder.is_dir():
            raise Problem(f"there is no folder {folder}: correct --{name}")
    if arguments.rehearse:
        return
    if not torch.cuda.is_available():
        raise Problem("torch sees no card here: rent one, install its driver, or try the sitting with --rehearse")
    free, needed = torch.cuda.mem_get_info()[0] / 1e9, getattr(module, "NEEDS_GB", 4)
    if free < needed:
        raise Problem(
            f"{arguments.command} needs {needed} GB of memory on the card, and {free:.1f} GB are free: "
            "end what else runs there, or take a larger card"
        )


def _too_late(signum: int, frame: object) -> None:
    raise TooLate


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
