# How Snakemake runs one job of the plan. `./run_all.sh` starts this; see notebooks/README.md.

import json
import os
import sys
from pathlib import Path

from synpos_lib.workflow.graph import end_with_parent

end_with_parent(int(os.environ.pop("SYNPOS_PARENT", os.getppid())))
PLAN = json.loads(Path("../plan.json").read_bytes())  # every job: its parameters, and what it comes after


rule notebook:
    input:
        lambda job: PLAN["jobs"][job.name]["waits_for"],
    output:
        touch("{name}"),  # the job's own mark of success is jobs/NAME.json
    params:
        python=lambda job: sys.executable,
    priority: lambda job: len(PLAN["jobs"]) - list(PLAN["jobs"]).index(job.name)  # reading order, where there is a choice
    threads: PLAN["threads"]
    shell:
        "exec {params.python:q} -m synpos_lib.workflow.cli --job ../plan.json {wildcards.name:q} {threads} $PPID"
