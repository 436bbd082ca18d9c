"""What a sitting brought home, as a recording: its tables, its pictures and a manifest, under outputs/recorded."""

import shutil
from pathlib import Path

import pandas as pd
from results import read

from synpos_lib import files, fingerprint, recorded
from synpos_lib.errors import Problem

HERE = Path(__file__).parent


def record(folder: Path, name: str) -> Path:
    """Write outputs/recorded/<name>; weights are not kept there. Refused if that recording is of something else."""
    about = read(folder)
    target = recorded.FOLDER / name
    command = f"python tests/gpu {about['sitting']}"
    if (target / "manifest.json").exists() and files.read_json(target / "manifest.json")["command"] != command:
        raise Problem(f"{target} is a recording of something else: choose another name than '{name}'")
    rows = pd.read_csv(folder / "results.csv", dtype={"t": str})
    beside = target.with_name(f".{name}")
    shutil.rmtree(beside, ignore_errors=True)
    manifest = {
        "profile": "gpu",
        "command": command,
        "time": about["provenance"]["time"],
        "commits": [about["provenance"]["commit"]],
        "hardware": [about["provenance"]["hardware"]],
        "card": about["provenance"].get("card"),
        "seconds": about["seconds"],
        "finished": about["finished"],
        "asked": {key: about[key] for key in ("minutes", "seed", "data", "weights") if key in about},
        "recipes": about["recipes"],
        "sheet": about["sheet"],
        "tables": {},
        "figures": {},
        "runs": {},
        "jobs": {},
    }
    stem = f"gpu_{about['sitting'].replace('-', '_')}"
    for table, part in rows.groupby("table", sort=False):
        data = part.drop(columns="table").dropna(axis=1, how="all").to_csv(index=False).encode()
        _keep(beside, "tables", f"{stem}.{table.replace(' ', '_')}.csv", data, about, manifest)
    for path in sorted(folder.glob("*.png")):
        _keep(beside, "figures", f"{stem}.{path.name}", path.read_bytes(), about, manifest)
    files.write_json(beside / "manifest.json", manifest)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)
    return target


def _keep(target: Path, kind: str, name: str, data: bytes, about: dict, manifest: dict) -> None:
    files.write_bytes(target / kind / name, data)
    made = about["provenance"]
    manifest[kind][name] = {
        "text": f"{about['sitting']}: {name.split('.')[1].replace('_', ' ')}",
        "notebook": None,
        "runs": [],
        "sha256": files.sha256(target / kind / name),
        "code": code(about["sitting"]),
        "made": made["time"],
        "hardware": made["hardware"],
        "commit": made["commit"],
        "versions": made["versions"],
    }


def code(sitting: str) -> str:
    """Fingerprint of the code that a sitting's numbers come from."""
    names = ("sitting", "bench", sitting.replace("-", "_"))
    return fingerprint.source_fingerprint("\n".join((HERE / f"{name}.py").read_text() for name in dict.fromkeys(names)))
