# Which notebook comes after which, and how Snakemake runs one. `./run_all.sh` starts this; see notebooks/README.md.

AFTER = {
    "00_start_here": [],
    "01_diffusion": [],
    "02_latent_tsne": ["01_diffusion"],
    "03_zeroed_features": ["01_diffusion"],
    "04_interpolation_gallery": ["01_diffusion"],
    "05_synthetic_positives": ["01_diffusion"],
    "06_ssl_methods": ["05_synthetic_positives"],
    "07_ssl_training": ["05_synthetic_positives"],
    "08_linear_and_knn": ["07_ssl_training"],
    "09_transfer": ["07_ssl_training"],
    "10_ablations": ["07_ssl_training"],
    "11_mixdiff": ["05_synthetic_positives"],
    "12_diffusemix": ["07_ssl_training"],
    "13_report": [
        "00_start_here",
        "02_latent_tsne",
        "03_zeroed_features",
        "04_interpolation_gallery",
        "06_ssl_methods",
        "07_ssl_training",
        "08_linear_and_knn",
        "11_mixdiff",
        "12_diffusemix",
        "09_transfer",
        "10_ablations",
    ],
}

import json
import os
import sys
from pathlib import Path

from synpos_lib.workflow import end_with_parent

end_with_parent(int(os.environ.pop("SYNPOS_PARENT", os.getppid())))
PLAN = json.loads(Path("plan.json").read_text())  # every job: its parameters and what it comes after


rule notebook:
    input:
        lambda job: [f"jobs/{name}.json" for name in PLAN["jobs"][job.name]["after"]],
    output:
        "jobs/{name}.json",
    params:
        python=lambda job: sys.executable,
    priority: lambda job: len(PLAN["jobs"]) - list(PLAN["jobs"]).index(job.name)  # reading order, where there is a choice
    threads: PLAN["threads"]
    shell:
        "exec {params.python:q} -m synpos_lib.cli --job plan.json {wildcards.name:q} {threads} $PPID"
