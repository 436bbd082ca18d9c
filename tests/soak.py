"""A long campaign, not part of the suite: a profile is killed at random moments and must end as if it never was.

    python tests/soak.py --kills 100 --seed 0 --folder /tmp/soak

kills `./run_all.sh smoke` a hundred times, an hour or more: the command line with `kill -9`, or everything at once as
in a power cut, or only one kernel, one job or Snakemake, and sometimes a gentle Ctrl-C. Each time it starts again, at
once. A profile that comes to its end is compared with an uninterrupted one, every table and the results of every run,
and begins anew in an empty folder, until all kills are made; the last round ends uninterrupted. It prints a line per
kill, and the figures; status 1 if anything differs, fails without having been killed, or is left behind.

Stop and start it as you like: what has happened so far stands in FOLDER/events.jsonl.
"""

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
KINDS = {"start": 6, "everything": 4, "kernel": 4, "job": 3, "snakemake": 2, "ctrl-c": 3}  # with how many of 22 each
PARTS = {"kernel": "ipykernel_launcher", "job": "--job", "snakemake": "snakemake"}  # words of their command lines
TIMES = {"seconds", "images per second", "peak memory, MB", "written, MB"}  # columns and results that may differ
STATUS = {"start": [-signal.SIGKILL], "everything": [-signal.SIGKILL], "ctrl-c": [130, -signal.SIGINT]}  # else 1


class Campaign:
    """The folder of a campaign, and what has happened in it."""

    def __init__(self, folder: Path, profile: str):
        self.folder, self.profile = folder, profile
        self.events_file = folder / "events.jsonl"
        self.places = {name: folder / name for name in ("reference", "outputs", "tmp", "runtime")}
        for place in self.places.values():
            place.mkdir(parents=True, exist_ok=True)
        lines = self.events_file.read_text().splitlines() if self.events_file.exists() else []
        self.events = [json.loads(line) for line in lines]

    def note(self, text: str, **event: object) -> None:
        """Print a line and keep the event."""
        self.events.append(event)
        with self.events_file.open("a") as file:
            file.write(json.dumps(event) + "\n")
        print(f"{time.strftime('%T')} {text}", flush=True)

    def all(self, name: str) -> list:
        return [event[name] for event in self.events if name in event]

    def start(self, outputs: str) -> subprocess.Popen:
        """Start the profile, with temporary files where nobody else's are."""
        places = {"SYNPOS_OUTPUTS": self.places[outputs], "TMPDIR": self.places["tmp"]}
        places |= {"JUPYTER_RUNTIME_DIR": self.places["runtime"], "VIRTUAL_ENV": Path(sys.prefix)}
        environment = os.environ | {name: str(path) for name, path in places.items()}
        with (self.folder / "start.log").open("w") as log:
            streams: dict = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            command = [str(REPOSITORY / "run_all.sh"), self.profile]
            return subprocess.Popen(command, env=environment, start_new_session=True, **streams)

    def processes(self) -> dict[int, list[str]]:
        """Every process that works for the campaign, with its command line."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if f"TMPDIR={self.folder}/".encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_text().split("\0")
            except OSError:  # gone meanwhile
                continue
        return {process: words for process, words in found.items() if words != [""]}  # a dead one has no words

    def running(self) -> list[str]:
        """The jobs at work."""
        words = [words for words in self.processes().values() if "--job" in words and "-c" not in words]
        return sorted({line[line.index("--job") + 2] for line in words})

    def kill(self, kind: str, process: subprocess.Popen, draw: random.Random) -> bool:
        """Kill one part of a start; False if there is none to kill."""
        if kind in ("start", "ctrl-c"):
            os.killpg(process.pid, signal.SIGINT if kind == "ctrl-c" else signal.SIGKILL)
            return True
        every = self.processes()
        chosen = sorted(every)
        if kind in PARTS:
            fitting = [each for each in chosen if PARTS[kind] in every[each]]
            chosen = draw.sample(fitting, min(1, len(fitting)))
        for each in chosen:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(each, signal.SIGKILL)
        return bool(chosen)

    def litter(self) -> list[str]:
        """What a finished profile should not have left: unfinished, damaged or temporary files, and processes."""
        here = self.places["outputs"]
        names = ("*.part", "*.damaged*", ".start", ".snakemake", ".new", ".old", "*.running", "*.failed")
        found = [str(path.relative_to(here)) for name in names for path in here.rglob(name)]
        found += [str(path) for name in ("tmp", "runtime") for path in self.places[name].iterdir()]
        deadline = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found + [f"process {process}: {' '.join(words)[:100]}" for process, words in left.items()]


def contents(folder: Path) -> dict[str, object]:
    """Every table, and the results of every run, apart from times and the commit."""
    found: dict[str, object] = {}
    for path in folder.glob("*/tables/*.csv"):
        head, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        kept = [i for i, name in enumerate(head) if name not in TIMES]
        plain = [[row[i] for i in kept] for row in rows if row[0] != "commit"]
        timed = (len(plain), len(kept)) != (len(rows), len(head))
        found[str(path.relative_to(folder))] = plain if timed else path.read_bytes()
    for path in folder.glob("*/runs/*/done.json"):
        results = json.loads(path.read_bytes())["results"]
        found[str(path.relative_to(folder))] = {key: results[key] for key in results if key not in TIMES}
    return found


def differences(reference: Path, folder: Path) -> list[str]:
    """The files that are not as in the reference."""
    ours, theirs = contents(folder), contents(reference)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def make_reference(campaign: Campaign) -> float:
    """Run the profile uninterrupted, and return the seconds that it takes on these cores."""
    if campaign.start("reference").wait() != 0:
        sys.exit((campaign.folder / "start.log").read_text())
    marks = campaign.places["reference"].glob("*/jobs/*.json")
    return sum(json.loads(path.read_bytes())["seconds"] for path in marks) / len(os.sched_getaffinity(0))


def end_round(campaign: Campaign) -> None:
    """Compare a profile that has come to its end, and make room for the next."""
    wrong = differences(campaign.places["reference"], campaign.places["outputs"])
    litter = campaign.litter()
    number = len(campaign.all("round")) + 1
    campaign.note(
        f"round {number} ended: {len(wrong)} differences {wrong}, {len(litter)} left behind {litter}",
        round={"differences": wrong, "litter": litter},
    )
    if wrong:
        shutil.move(campaign.places["outputs"], campaign.folder / f"differs-{number}")
    for name in ("outputs", "tmp", "runtime"):
        shutil.rmtree(campaign.places[name], ignore_errors=True)
        campaign.places[name].mkdir()


def watch(campaign: Campaign, seed: int, kills: int, whole: float) -> None:
    """One start: kill it, or parts of it, until it ends."""
    process, begin = campaign.start("outputs"), time.monotonic()
    made: list[str] = []
    while process.poll() is None:
        number = len(campaign.all("kill"))
        if number >= kills or (made and made[-1] not in PARTS):
            process.wait()
            break
        draw = random.Random(f"{seed}/{number}")
        kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5 + draw.random() ** 2 * whole / 3)
        jobs, killed = campaign.running(), False
        while process.poll() is None and not killed:
            if not (killed := campaign.kill(kind, process, draw)):
                time.sleep(0.2)  # until there is a kernel, a job, …
        if killed:
            made.append(kind)
            event = {"kind": kind, "running": jobs, "after": round(time.monotonic() - begin, 1)}
            text = f"kill {number + 1}: {kind}, {event['after']} s after the start, {', '.join(jobs) or 'no job'}"
            campaign.note(text, kill=event)
    expected = {0} | {status for kind in made for status in STATUS.get(kind, [1])}
    log, status = (campaign.folder / "start.log").read_text(errors="replace"), process.returncode
    if status not in expected or "Traceback" in log:
        text = f"a start ended with status {status} after {', '.join(made) or 'no kill'}"
        campaign.note(f"FINDING: {text}:\n{log}", finding={"text": text, "log": log[-4000:]})
        if len(campaign.all("finding")) > 20:
            sys.exit("too many findings: stopped")
    if status == 0:
        end_round(campaign)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--profile", default="smoke")
    request = arguments.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell has it ignored, starts would ignore it too
    campaign = Campaign(request.folder.resolve(), request.profile)
    for left in campaign.processes():  # of a campaign that was stopped
        os.kill(left, signal.SIGKILL)
    begin = time.monotonic()
    whole = make_reference(campaign)
    print(f"the profile takes about {whole:.0f} s; {len(campaign.all('kill'))} of {request.kills} kills are made")
    try:
        while len(campaign.all("kill")) < request.kills or any(campaign.places["outputs"].iterdir()):
            watch(campaign, request.seed, request.kills, whole)
    finally:
        campaign.note("stopped", seconds=round(time.monotonic() - begin))
    kills, rounds = campaign.all("kill"), campaign.all("round")
    wrong, litter = (Counter(name for each in rounds for name in each[part]) for part in ("differences", "litter"))
    notebooks = Counter(name.split("-")[0] for kill in kills for name in kill["running"] or ["no job"])
    print(f"{len(kills)} kills in {len(rounds)} rounds, {sum(campaign.all('seconds'))} s")
    print("by kind:", dict(Counter(kill["kind"] for kill in kills)))
    print("while it ran:", dict(sorted(notebooks.items())))
    print(f"differences: {wrong.total()} {dict(wrong)}")
    print(f"left behind: {litter.total()} {dict(litter)}")
    print(f"failed without a kill: {len(campaign.all('finding'))}")
    return 1 if wrong or litter or campaign.all("finding") else 0


if __name__ == "__main__":
    sys.exit(main())
