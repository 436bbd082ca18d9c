"""How large the ellipse of the hand-made view should be: what a judge sees of validation images, size by size.

python tests/benchmarks/cut_and_paste.py [--anchors 600]
"""

import argparse
import tempfile
from pathlib import Path

from synpos_lib.core import runtime
from synpos_lib.data import catalog
from synpos_lib.data.cut_and_paste import cut_and_paste
from synpos_lib.data.pixels import scale, truncate
from synpos_lib.evaluate.judge import get_judge

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--anchors", type=int, default=600)
real = catalog.load("scenes", "val", n=parser.parse_args().anchors)
x = scale(real.images)
with tempfile.TemporaryDirectory() as folder:
    judge = get_judge(Path(folder), "scenes")
for axes in ((0.5, 0.7), (0.6, 0.8), (0.7, 0.9), (0.8, 1.0), (0.9, 1.1)):
    views = truncate(cut_and_paste(x, x.roll(1, 0), runtime.generator(0, "size"), axes))
    kept = {row["kept"]: row["value"] for row in judge.agreement(views, real)}
    difference = kept["what"] - kept["where"]
    print(f"{axes}: what {kept['what']:.1%}, where {kept['where']:.1%}, difference {difference:.1%}", flush=True)
