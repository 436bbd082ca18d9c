"""A real browser and a real JupyterLab. Without a Chromium these tests are skipped; the last lines say so."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browsing import PATIENCE, REPOSITORY, SCREENSHOTS  # noqa: E402 (beside this file)

from synpos_lib.workflow import profiles  # noqa: E402 (after the path is set)

SETTINGS = {  # of JupyterLab: every cell is drawn, wherever one has scrolled to; no question about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven by Playwright; closed before the next module, as its event loop allows no other."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("there is no Chromium here")  # counted in tests/conftest.py
    from playwright.sync_api import sync_playwright

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser):
    """A function that opens an address in a tab of its own; at the end, no script may have complained."""
    opened, complaints, asked = [], [], []

    def open_tab(address: str, **how):
        context = browser.new_context(**how)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        opened.append(context)
        return page

    open_tab.asked = asked
    yield open_tab
    for context in opened:
        context.close()
    assert complaints == []


def with_smoke_parameters(notebooks: Path) -> None:
    """Give every copied notebook the parameters of the smoke profile, where its own are."""
    for name, (block, *_) in profiles.read_profile("smoke").items():
        path = notebooks / f"{name}.ipynb"
        content = json.loads(path.read_text())
        own = next(cell for cell in content["cells"] if cell["id"] == "parameters")
        own["source"] = "".join(own["source"]).replace('profile = "quick"', 'profile = "smoke"')
        for key, value in block.items():
            lines = own["source"].splitlines()
            own["source"] = "\n".join(
                f"{key} = {value!r}  # smoke" if line.startswith(f"{key} = ") else line for line in lines
            )
        path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`./run_all.sh lab`, on copies of the notebooks, without opening a browser by itself."""
    here = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPOSITORY / "notebooks", here / "notebooks")
    with_smoke_parameters(here / "notebooks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = os.geteuid() == 0  # as in a container, where Jupyter wants to be told that this is meant
    server = {"ServerApp": {"open_browser": False, "port": port, "allow_root": root}}
    server |= {"IdentityProvider": {"token": "test"}}
    (here / "config").mkdir()
    (here / "config" / "jupyter_server_config.json").write_text(json.dumps(server))
    for name, values in SETTINGS.items():
        path = here / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {f"JUPYTER_{kind.upper()}_DIR": str(here / kind) for kind in ("config", "data", "runtime")}
    places |= {f"JUPYTERLAB_{kind.upper()}_DIR": str(here / kind) for kind in ("settings", "workspaces")}
    places |= {"SYNPOS_NOTEBOOKS": str(here / "notebooks"), "SYNPOS_OUTPUTS": str(here / "outputs")}
    places |= {"IPYTHONDIR": str(here / "ipython"), "JUPYTER_PREFER_ENV_PATH": "1"}
    with (here / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "synpos_lib.workflow.cli", "lab"],
            env={**os.environ, **places},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process, here / "log")
            yield f"http://127.0.0.1:{port}/lab/workspaces/{{0}}/tree/{{0}}.ipynb?token=test", here
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"JupyterLab ended:\n{log.read_text(encoding='utf-8')}")
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}")
