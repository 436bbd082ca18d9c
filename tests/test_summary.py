"""The last lines of the test command."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

BROWSER = Path(__file__).parent / "browser"


def test_without_a_browser_the_last_lines_count_what_was_not_tried(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(BROWSER)]
    run = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True)
    words, last = run.stdout.splitlines()[-2:]
    count = last.split(" skipped")[0]
    assert run.returncode == 0 and int(count) > 1
    assert words == f"{count} browser tests were skipped: there is no Chromium here (apt install chromium)"


def test_what_was_skipped_for_other_reasons_is_not_counted(pytestconfig):
    plugins = pytestconfig.pluginmanager.get_plugins()
    ours = next(
        one for one in plugins if getattr(one, "__file__", None) == str(Path(__file__).with_name("conftest.py"))
    )
    lines = []
    reports = [
        SimpleNamespace(longrepr=("file", 1, f"Skipped: {why}")) for why in ("no rights", "there is no Chromium")
    ]
    for skipped in ([], reports[:1], reports):
        ours.pytest_terminal_summary(SimpleNamespace(stats={"skipped": skipped}, write_line=lines.append))
    assert lines == ["1 browser test was skipped: there is no Chromium here (apt install chromium)"]
