"""What a sitting brought home, as a recording: its tables, its sheet and a manifest, under outputs/recorded."""

from pathlib import Path

import pandas as pd
from results import read, sources

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import recorded


def record(folder: Path, name: str) -> Path:
    """Write outputs/recorded/<name>, weights left out; a recording of something else is not replaced."""
    about = read(folder)
    if "rehearse" in about and about["rehearse"] != "False":
        raise Problem(f"{folder} is a rehearsal, whose numbers mean nothing: record what a card has measured")
    target = recorded.FOLDER / name
    command = f"python tests/gpu {about['sitting']}"
    origin = about["provenance"]
    if origin["commit"] == "unknown" and about["code"] == recorded.sources_code(sources(about["sitting"])):
        origin["commit"] = runtime.commit()  # the code travelled without its history, and is the same
    manifest = {
        "profile": "gpu",
        "command": command,
        "time": origin["time"],
        "commits": [origin["commit"]],
        "hardware": [origin["hardware"]],
        **{key: about[key] for key in ("seconds", "finished", "recipes", "sheet")},
        "asked": {key: about[key] for key in ("minutes", "seed", "weights") if key in about},
        "provenance": origin,
        "tables": {},
        "figures": {},
        "runs": {},
        "jobs": {},
    }
    stem = f"gpu_{about['sitting'].replace('-', '_')}"
    with recorded.replacing(target, command) as beside:
        for table, part in pd.read_csv(folder / "results.csv", dtype={"t": str}).groupby("table", sort=False):
            data = part.drop(columns="table").dropna(axis=1, how="all").to_csv(index=False).encode()
            manifest["tables"] |= _keep(beside / "tables" / f"{stem}.{table.replace(' ', '_')}.csv", data, about)
        if (folder / "sheet.png").exists():
            sheet = (folder / "sheet.png").read_bytes()
            manifest["figures"] = _keep(beside / "figures" / f"{stem}.sheet.png", sheet, about)
        files.write_json(beside / "manifest.json", manifest)
    return target


def _keep(path: Path, data: bytes, about: dict) -> dict:
    """Write a table or a picture; what the manifest says of it."""
    files.write_bytes(path, data)
    origin = about["provenance"]
    entry = {
        "text": f"{about['sitting']}: {path.name.split('.')[1].replace('_', ' ')}",
        "notebook": None,
        "sources": sources(about["sitting"]),
        "runs": [],
        "sha256": files.sha256(path),
        "code": about["code"],
        "made": origin["time"],
        **{key: origin[key] for key in ("hardware", "commit", "versions")},
    }
    return {path.name: entry}
