"""The house: rooms on floors, imports that only lead down, no loose module and no cycle of packages."""

import ast
import re
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "synpos_lib"
FLOORS = (  # from the ground up; a room may use the floors below its own
    {"core"},
    {"data", "methods", "results"},
    {"train", "diffusion"},
    {"evaluate", "mixing"},
    {"lab", "experiments"},
    {"workflow"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.parent != LIBRARY)


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports from, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith(f"{LIBRARY.name}.")}


def test_every_folder_is_a_room_and_no_module_is_loose():
    folders = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FLOOR)
    assert [path.name for path in LIBRARY.glob("*.py")] == ["__init__.py"]
    assert all((LIBRARY / room / "__init__.py").exists() for room in FLOOR)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_lead_down(path):
    room = path.relative_to(LIBRARY).parts[0]
    upward = {other for other in imported_rooms(path) - {room} if FLOOR[other] >= FLOOR[room]}
    assert not upward, f"{room} uses {', '.join(upward)}, which is not below it"


def test_the_guide_has_the_same_floors_in_one_screen():
    lines = (LIBRARY / "README.md").read_text().splitlines()
    assert len(lines) <= 50
    floors = [set(re.findall(r"`(\w+)/`", line)) for line in lines if re.match(r"\| \d", line)]
    assert floors == list(reversed(FLOORS))
