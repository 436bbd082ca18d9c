"""What was tried on the way to the shipped model: one row for each that was trained, as measured on validation images.

`tests/benchmarks/mechanism.py` makes a row from a model; a try that led nowhere stays in the table.
"""

from pathlib import Path

import pandas as pd

FILE = Path(__file__).parent / "tries.csv"
DATA = ("tries.csv",)


def read() -> pd.DataFrame:
    """One row per try: what was seen in training, what the bottleneck holds, what silencing it and mixing it change."""
    return pd.read_csv(FILE, index_col="try")
