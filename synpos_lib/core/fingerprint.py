"""Fingerprints of code: short hashes that change when a computation changes.

A fingerprint covers the modules that a result names and every library module that these import for more than a type
annotation. It leaves out docstrings, comments, formatting, type annotations, import statements, error messages and
printed text; an imported name counts as its full origin.
"""

import ast
import hashlib
import inspect
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from synpos_lib.core.errors import Problem
from synpos_lib.core.files import sha256

if TYPE_CHECKING:
    from torch import nn

Value = TypeVar("Value")

LIBRARY = Path(__file__).resolve().parents[1]
SCIENCE = ("data", "methods", "results", "train", "diffusion", "evaluate", "mixing", "experiments")
DISPLAY = (*SCIENCE, "core", "lab", "workflow")  # the rooms that decide how a notebook looks


class Module(NamedTuple):
    """One source file, as far as fingerprints need it."""

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


def source_fingerprint(source: str, modules: Iterable[str] = (), *, display: bool = False) -> str:
    """Fingerprint of a piece of code, such as a notebook's cells, and of what it and further modules compute with.

    The data files of these modules count too. With `display`, so does all that decides what the code shows.
    """
    tree = ast.parse(source)
    names = closure({*modules, *imports(source)}, DISPLAY if display else SCIENCE)
    digest = hashlib.sha256(repr(_spelling(tree)).encode() if display else _meaning(tree).encode())
    for path in filter(None, map(_file, names)):
        data = sorted(file for pattern in _read(path).data for file in path.parent.glob(pattern))
        parts = [_read(path).meaning, *(_digest(file) for file in data)]
        digest.update(f"\n{path.relative_to(LIBRARY)} {' '.join(parts)}".encode())
    return digest.hexdigest()[:16]


def identity(function: Callable) -> tuple[str, str]:
    """The module of a function or class, and its full name, with a digest of its code if that is not the library's."""
    function = getattr(function, "func", function)  # of a partial
    function = function if hasattr(function, "__qualname__") else type(function)
    module, name = function.__module__, f"{function.__module__}.{function.__qualname__}"
    if module.split(".")[0] == LIBRARY.name:
        return module, name
    try:
        return module, f"{name} {hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]}"
    except (OSError, TypeError) as error:
        raise Problem(f"the code of {name} cannot be read: define it in a file or in a notebook's cell") from error


def weights_fingerprint(network: "nn.Module") -> str:
    """Which weights these are."""
    import torch

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def imports(source: str) -> frozenset[str]:
    """The library modules that a piece of code imports."""
    return _modules(origin for _, origin in aliases(ast.parse(source)))


def closure(modules: Iterable[str], rooms: Collection[str] = SCIENCE) -> list[str]:
    """The modules, and every library module they import, directly or through others, as far as they are in `rooms`."""
    names: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if path and name not in names and room(name) in rooms:
            names.add(name)
            waiting.extend(_read(path).imports)
    return sorted(names)


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


def _until_edited(compute: Callable[[Path], Value]) -> Callable[[Path], Value]:
    """Compute something from a file once, and again when the file is written: a kernel that lives on sees an edit."""

    @cache
    def value(file: Path, *stamp: int) -> Value:
        return compute(file)

    def current(file: Path) -> Value:
        about = file.stat()
        return value(file, about.st_mtime_ns, about.st_size)

    return current


_digest = _until_edited(sha256)


@_until_edited
def _read(file: Path) -> Module:
    code = file.read_bytes()
    try:
        tree = ast.parse(code.decode(), str(file))
    except UnicodeDecodeError as error:
        raise SyntaxError(str(error), (str(file), 1 + code.count(b"\n", 0, error.start), None, None)) from error
    names, meaning = aliases(tree), _meaning(tree)  # in this order: the second changes the tree
    uses = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    reexports = file.name == "__init__.py"
    if reexports:  # which names it hands on is part of its meaning
        meaning += repr(sorted(pair for pair in names if room(pair[1]) in SCIENCE))
    origins = [origin for name, origin in names if reexports or uses & {name, origin} or name == origin]
    data = [node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DATA"]
    patterns = tuple(pattern for value in data for pattern in ast.literal_eval(value))
    return Module(hashlib.sha256(meaning.encode()).hexdigest()[:16], _modules(origins), patterns)


def aliases(part: ast.AST) -> list[tuple[str, str]]:
    """Every imported name with its full origin; imports for the type checker alone are left out."""
    match part:
        case ast.Import():
            return [(alias.asname or alias.name, alias.name) for alias in part.names]
        case ast.ImportFrom():
            return [(alias.asname or alias.name, f"{part.module}.{alias.name}") for alias in part.names]
        case ast.If(ast.Name("TYPE_CHECKING"), orelse=[]):
            return []
    return [pair for each in ast.iter_child_nodes(part) for pair in aliases(each)]


def _meaning(tree: ast.Module) -> str:
    """Code in one fixed spelling, the same in every version of Python, without the parts that change no result."""
    origins = {name: origin for name, origin in aliases(tree) if not origin.startswith(f"{LIBRARY.name}.core")}
    return repr(_spelling(_Meaning(origins).visit(tree)))


def _spelling(part: object) -> object:
    """A syntax tree as nested lists, without the empty parts that only some versions of Python name."""
    if isinstance(part, list):
        return [_spelling(each) for each in part]
    if not isinstance(part, ast.AST):
        return part
    if isinstance(part, ast.JoinedStr):
        part.values = [value for value in part.values if getattr(value, "value", None) != ""]
    fields = [(name, _spelling(value)) for name, value in ast.iter_fields(part) if name != "kind"]
    return [type(part).__name__, *((name, value) for name, value in fields if value not in (None, []))]


class _Meaning(ast.NodeTransformer):
    """Removes the parts of a syntax tree that change no result."""

    def __init__(self, origins: dict[str, str]):
        self.origins = origins  # of the imported names

    def visit(self, node: ast.AST) -> ast.AST | None:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.If(ast.Name("TYPE_CHECKING"), orelse=[]):
                return None
            case ast.Expr(ast.Constant(str())) | ast.Expr(ast.Call(ast.Name("print"))):
                return None
            case ast.Raise(exc=ast.Call(func=kind)):
                node.exc = kind
            case ast.FunctionDef():
                node.returns = None
            case ast.arg():
                node.annotation = None
            case ast.ClassDef():  # of a dataclass: an annotation makes a field, whatever its type
                for field in (each for each in node.body if isinstance(each, ast.AnnAssign)):
                    field.annotation = ast.Constant("field")
            case ast.AnnAssign(annotation=ast.Constant("field")):
                pass
            case ast.AnnAssign(target=target, value=value):
                return self.visit(ast.Assign([target], value)) if value else None
            case ast.Name():
                node.id = self.origins.get(node.id, node.id)
        return self.generic_visit(node)
