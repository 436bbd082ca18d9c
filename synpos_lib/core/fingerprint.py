"""What code means, as short hashes, so that a result depends on the code that computes it and on nothing else.

Covered are the modules that a result names and every library module that these import, wherever the import stands, for
more than a type annotation. The meaning of a module leaves out docstrings, comments, formatting, type annotations,
import statements, the words of errors and what is printed; an imported name counts as what it stands for.
"""

import ast
import hashlib
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

LIBRARY = Path(__file__).resolve().parents[1]
SCIENCE = ("data", "methods", "results", "train", "diffusion", "evaluate", "mixing", "experiments")
SHOWING = (*SCIENCE, "core", "lab")  # the rooms that decide how a notebook looks


class Module(NamedTuple):
    """What is known of one file of code."""

    meaning: str
    imports: frozenset[str]  # library modules
    data: tuple[str, ...]  # patterns of the data files beside it, declared as DATA = ("*.csv",)


def code_fingerprint(*modules: str) -> dict[str, str]:
    """The files of this library that some modules compute with, each with the hash of its meaning."""
    for name in modules:
        if name.split(".")[0] == LIBRARY.name and not _file(name):
            raise ModuleNotFoundError(f"there is no module {name} in {LIBRARY}: correct the name in the run's code")
    paths = [path for name in closure(modules) if (path := _file(name))]
    return {path.relative_to(LIBRARY).as_posix(): _read(path).meaning for path in paths}


def source_fingerprint(source: str, modules: Iterable[str] = (), *, shown: bool = False) -> str:
    """Fingerprint of a piece of code, such as a notebook's cells, and of what it and further modules compute with.

    The data files of these modules count too. With `shown`, so does what the code prints, draws and says.
    """
    tree = ast.parse(source)
    names = closure({*modules, *imports(source)}, SHOWING if shown else SCIENCE)
    digest = hashlib.sha256(repr(_spelled(tree)).encode() if shown else _meaning(tree).encode())
    for path in filter(None, map(_file, names)):
        data = sorted(file for pattern in _read(path).data for file in path.parent.glob(pattern))
        parts = [_read(path).meaning, *(_bytes(file, file.stat().st_mtime_ns) for file in data)]
        digest.update(f"\n{path.relative_to(LIBRARY)} {' '.join(parts)}".encode())
    return digest.hexdigest()[:16]


def imports(source: str) -> frozenset[str]:
    """The library modules that a piece of code imports."""
    return _modules(origin for _, origin in imported(ast.parse(source)))


def closure(modules: Iterable[str], rooms: Collection[str] = SCIENCE) -> list[str]:
    """The modules, and every library module they import, directly or through others, as far as they are in `rooms`."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path and name not in seen and room(name) in rooms:
            seen.add(name)
            waiting.extend(_read(path).imports)
    return sorted(seen)


def room(name: str) -> str:
    """The room that a library module lies in; none for another module."""
    first, _, rest = name.partition(".")
    return rest.split(".")[0] if first == LIBRARY.name else ""


def _file(name: str) -> Path | None:
    """The file of a library module, if there is one of that name."""
    first, *parts = name.split(".")
    path = LIBRARY.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py") if first == LIBRARY.name else ()
    return next((file for file in files if file.is_file()), None)


def _modules(origins: Iterable[str]) -> frozenset[str]:
    """The library modules among imported things, and those that these lie in."""
    return frozenset(name for origin in origins if _file(name := origin) or _file(name := origin.rpartition(".")[0]))


def _read(file: Path) -> Module:
    return _module(file, file.stat().st_mtime_ns)


@cache
def _module(file: Path, stamp: int) -> Module:
    tree = ast.parse(file.read_text(), str(file))
    names, meaning = imported(tree), _meaning(tree)  # which changes the tree
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    origins = [
        origin for name, origin in names if used & {name, origin} or file.name == "__init__.py" or name == origin
    ]
    declared = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_name(node.targets[0], "DATA")]
    data = tuple(pattern for value in declared for pattern in ast.literal_eval(value))
    return Module(hashlib.sha256(meaning.encode()).hexdigest()[:16], _modules(origins), data)


@cache
def _bytes(path: Path, stamp: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def imported(part: ast.AST) -> list[tuple[str, str]]:
    """Every name that code imports, and in full what it stands for; what only a type checker imports is left out."""
    if isinstance(part, ast.Import | ast.ImportFrom):
        origin = f"{part.module}." if isinstance(part, ast.ImportFrom) else ""
        return [(alias.asname or alias.name, origin + alias.name) for alias in part.names]
    return [pair for each in ast.iter_child_nodes(part) if not _for_types(each) for pair in imported(each)]


def _meaning(tree: ast.Module) -> str:
    """Code in one fixed spelling, the same for every version of Python, without what changes no result."""
    origins = {name: origin for name, origin in imported(tree) if not origin.startswith(f"{LIBRARY.name}.core")}
    return repr(_spelled(_Meaning(origins).visit(tree)))


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


def _for_types(node: ast.AST) -> bool:
    """Whether it is an `if TYPE_CHECKING:` block."""
    return isinstance(node, ast.If) and _is_name(node.test, "TYPE_CHECKING") and not node.orelse


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


class _Meaning(ast.NodeTransformer):
    """Takes out of a syntax tree what changes no result."""

    def __init__(self, origins: dict[str, str]):
        self.origins = origins  # what each imported name stands for

    def visit_Import(self, node: ast.stmt) -> None:
        return None

    visit_ImportFrom = visit_Pass = visit_Import

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        printed = isinstance(node.value, ast.Call) and _is_name(node.value.func, "print")
        return None if text or printed else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _for_types(node) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        node.exc = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        for field in node.body:  # of a dataclass: an annotation makes it one, whatever its type
            if isinstance(field, ast.AnnAssign):
                field.annotation = ast.Constant("field")
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if isinstance(node.annotation, ast.Constant) and node.annotation.value == "field":
            return self.generic_visit(node)
        return self.visit(ast.Assign([node.target], node.value)) if node.value else None

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.origins.get(node.id, node.id), node.ctx)
