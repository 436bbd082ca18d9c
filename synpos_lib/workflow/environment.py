"""Check that this Python meets pyproject.toml; nothing but the standard library is needed, so it runs anywhere."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def requirements(*extras: str) -> dict[str, str]:
    """Package name → lowest version, from pyproject.toml."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return dict(line.split(">=") for line in lines)


def unmet_requirements(*extras: str) -> list[str]:
    """The requirements that this Python does not meet, as text."""
    lines = []
    for name, lowest in requirements(*extras).items():
        try:
            version = metadata.version(name)
            if _numbers(version) < _numbers(lowest):
                lines.append(f"{name}>={lowest} (has {version})")
        except metadata.PackageNotFoundError:
            lines.append(name)
    return lines


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0]))


if __name__ == "__main__":
    lines = unmet_requirements(*sys.argv[1:])
    print("\n".join(lines))
    sys.exit(1 if lines else 0)
