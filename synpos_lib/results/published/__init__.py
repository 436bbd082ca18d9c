"""Numbers from the papers and their code, one CSV for each table, every row with its source.

    published.load("clsp_linear")   # method, dataset, metric, percent as printed, value from 0 to 1, kind, source

`method` and `dataset` are names of this library, `name` is the paper's. `kind` says what kind of number it is.
`data` in claims.csv names the images that a claim is about: all of the paper's where its source names none.
"""

from pathlib import Path

import pandas as pd

from synpos_lib.core.errors import Problem, suggest

FOLDER = Path(__file__).parent
DATA = ("*.csv",)  # a change in these runs the notebooks that read them again


def load(name: str) -> pd.DataFrame:
    """A published table; a row without a source, or a percentage without a kind, is refused."""
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        names = sorted(other.stem for other in FOLDER.glob("*.csv"))
        raise Problem(f"there is no published table '{name}' ({suggest(name, names)})")
    frame = pd.read_csv(path, keep_default_na=False)
    for column in ("source", "kind") if "percent" in frame else ("source",):
        empty = frame.index[frame[column].str.strip() == ""] if column in frame else frame.index
        if len(empty):
            raise Problem(f"line {empty[0] + 2} of {path.name} has no {column}: a published number is not used without")
    return frame.assign(value=frame.percent / 100) if "percent" in frame else frame
