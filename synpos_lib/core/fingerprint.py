"""What code means, as a short hash: comments, docstrings, formatting and file dates do not count.

A module's fingerprint covers every module of this library that it imports, wherever the import stands, and the
data files beside them that their code names. So a result depends on what made it and on nothing else.
"""

import ast
import hashlib
from collections.abc import Container
from functools import cache
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1]


def code_fingerprint(*modules: str) -> str:
    """Fingerprint of modules (`synpos_lib.train.pretrain`, or `pretrain` for short) and of all they import."""
    names = [name if name.split(".")[0] == LIBRARY.name else f"{LIBRARY.name}.{name}" for name in modules]
    missing = [name for name in names if not _file(name)]
    if missing:
        raise ModuleNotFoundError(f"there is no module {missing[0]} in {LIBRARY}")
    return _fingerprint("", names)


def source_fingerprint(source: str, without: Container[str] = ()) -> str:
    """Fingerprint of a piece of code, such as a notebook's cells, and of the library modules it imports, save some."""
    tree = ast.parse(source)
    return _fingerprint(_meaning(tree), sorted(_imports(tree, "")), without)


def closure(modules: list[str], without: Container[str] = ()) -> list[str]:
    """The modules, and every library module they import, directly or through others; some may be left out."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen and name not in without and _file(name):
            seen.add(name)
            waiting.extend(_module(name, _stamp(name))[1])
    return sorted(seen)


def _fingerprint(start: str, modules: list[str], without: Container[str] = ()) -> str:
    digest = hashlib.sha256(start.encode())
    for name in closure(modules, without):
        meaning, _, data = _module(name, _stamp(name))
        digest.update(f"\n{name}\n{meaning}".encode())
        for path in data:
            digest.update(f"\n{path.relative_to(LIBRARY)}\n{_bytes(path, path.stat().st_mtime_ns)}".encode())
    return digest.hexdigest()[:16]


def _file(name: str) -> Path | None:
    """The file of a library module; a folder without `__init__.py` has none of its own."""
    parts = name.split(".")
    if parts[0] != LIBRARY.name:
        return None
    path = LIBRARY.joinpath(*parts[1:])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _stamp(name: str) -> int:
    return _file(name).stat().st_mtime_ns


@cache
def _module(name: str, stamp: int) -> tuple[str, frozenset[str], tuple[Path, ...]]:
    """A module's meaning, what it imports, and the data files that it names."""
    file = _file(name)
    tree = ast.parse(file.read_text(), str(file))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return _meaning(tree), frozenset(_imports(tree, package)), tuple(_data_files(tree, file.parent))


@cache
def _bytes(path: Path, stamp: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _meaning(tree: ast.Module) -> str:
    """Code without docstrings and comments, in one fixed spelling, the same for every version of Python."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]
    return repr(_spelled(tree))


def _spelled(part: object) -> object:
    """A syntax tree as nested lists, without the empty parts that only some versions of Python name."""
    if isinstance(part, list):
        return [_spelled(each) for each in part]
    if not isinstance(part, ast.AST):
        return part
    if isinstance(part, ast.JoinedStr):
        part.values = [value for value in part.values if getattr(value, "value", None) != ""]
    fields = [(name, _spelled(value)) for name, value in ast.iter_fields(part) if name != "kind"]
    return [type(part).__name__, *((name, value) for name, value in fields if value not in (None, []))]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.Module, package: str) -> set[str]:
    """The library modules named by any import statement, and the packages that they lie in."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names.update([origin, *(f"{origin}.{alias.name}" for alias in node.names)])
    inside = {name for name in names if name.split(".")[0] == LIBRARY.name}
    parents = {name.rsplit(".", i)[0] for name in inside for i in range(1, name.count(".") + 1)}
    return {name for name in inside | parents if _file(name)}


def _data_files(tree: ast.Module, folder: Path) -> list[Path]:
    """Files beside a module, not Python, that one of its strings names: by name, by ending or by their folder."""
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    words = {word for text in strings if isinstance(text, str) for word in text.split("/")}
    beside = [path for path in folder.iterdir() if path.is_file()]
    for inner in folder.iterdir():
        if inner.is_dir() and inner.name != "__pycache__" and not any(inner.glob("*.py")):
            beside += [path for path in inner.rglob("*") if path.is_file()]
    data = [path for path in beside if path.suffix not in (".py", ".pyc")]
    return sorted(path for path in data if words & {*path.relative_to(folder).parts, path.stem, f"*{path.suffix}"})
