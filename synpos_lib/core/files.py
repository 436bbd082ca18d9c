"""Files that are complete or absent: atomic writes, a digest in every file, damaged files set aside.

The digests find mistakes: a torn write, a bad disk, a value edited by hand. They are no defence against a forger, who
can compute them too.
"""

import contextlib
import fcntl
import hashlib
import io
import itertools
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, TextIO, TypeVar, cast, get_args, get_origin, get_type_hints, is_typeddict

from synpos_lib.core.errors import Damaged, Problem

Shape = TypeVar("Shape")
PART = ".part"  # how the name of an unfinished file ends


def safe_name(text: str) -> str:
    """Text as part of a file name: `folder:/data/my birds` becomes `folder_data_my_birds`."""
    name = re.sub(r"[^\w.=+-]+", "_", text)
    return name if len(name.encode()) <= 160 else f"{name[:40]}-{digest(name)[:12]}"  # a system takes 255 bytes


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary neighbour, flush it to disk, then rename it over `path`."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise Problem(f"could not write {path}: {error.strerror}; what was there before is unchanged") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def clear_parts(folder: Path, age: float = 0.0) -> None:
    """Remove what killed processes have left half-written; without the folder's lock, only what is some seconds old."""
    for path in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError):  # another process was first
            if time.time() - path.stat().st_mtime >= age:
                path.unlink()


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a mapping, without a key `digest`, as readable JSON with its digest, atomically."""
    if "digest" in value:
        raise ValueError("the key 'digest' is that of the file itself")
    plain = json.loads(json.dumps(value))  # with text for keys, as it will be read
    text = json.dumps({**plain, "digest": digest(plain)}, indent=1, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode(errors="surrogatepass"))  # names of files may be anything


def read_json(path: Path, shape: type[Shape]) -> Shape:
    """What `write_json` has written, as a `TypedDict` says; a damaged, edited or foreign file is set aside."""
    data = read_bytes(path)
    try:
        return parse_json(data, shape)
    except ValueError as error:
        raise damaged(path, error) from error


def try_json(path: Path, shape: type[Shape]) -> Shape | None:
    """What `write_json` has written, or nothing: it is missing, or was damaged and is set aside."""
    with contextlib.suppress(Damaged, FileNotFoundError):
        return read_json(path, shape)
    return None


def parse_json(data: bytes, shape: type[Shape]) -> Shape:
    """What `write_json` has written, from its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if isinstance(value, dict) and value and "digest" not in value:
        raise ValueError("it has no digest: an earlier version has written it")
    if not isinstance(value, dict) or value.pop("digest", None) != digest(value):
        raise ValueError("its contents do not match their digest")
    if where := misfit(value, shape):
        raise ValueError(f"another version has written it: {where}")
    return cast(Shape, value)


def digest(value: object) -> str:
    """Digest of anything that JSON can hold; spelling and order do not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def misfit(value: Any, shape: Any, name: str = "it") -> str:
    """Where a value departs from a type made of TypedDict, dict, list, | and plain types; empty if it does not."""
    kind, parts = get_origin(shape) or shape, get_args(shape)
    if kind is UnionType:
        return "" if any(not misfit(value, part) for part in parts) else f"{name} is {value!r:.40}"
    plain = dict if is_typeddict(kind) else (int, float) if kind is float else kind
    if kind is not Any and (not isinstance(value, plain) or (isinstance(value, bool) and kind is not bool)):
        return f"{name} is {value!r:.40}"
    pairs: Iterable[tuple[str, object, Any]] = ()
    if is_typeddict(kind):
        fields = get_type_hints(kind)
        if missing := kind.__required_keys__ - value.keys():
            return f"{name} lacks {min(missing)}"
        pairs = ((key, each, fields[key]) for key, each in value.items() if key in fields)
    elif parts:
        items = value.items() if kind is dict else enumerate(value)
        pairs = ((str(key), each, parts[-1]) for key, each in items)
    return next(filter(None, (misfit(each, part, key) for key, each, part in pairs)), "")


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bytes(path: Path) -> bytes:
    """The bytes of a file."""
    with _open(path) as file:
        return file.read()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    """A regular file to read; whatever else lies in its place is set aside, unread, since a pipe never ends."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise damaged(path, "it is not a regular file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(path):  # else it is a link
            raise
        raise Problem(f"could not read {path}: {error.strerror}; make it readable, or remove it") from error


def damaged(path: Path, reason: object) -> Problem:
    """Set a file with wrong contents aside, and return the error that reports it."""
    aside = free_name(path.with_name(path.name + ".damaged"))
    try:
        os.replace(path, aside)
    except FileNotFoundError:
        return Damaged(f"{path} is damaged ({reason}) and another process has set it aside: start again")
    except OSError as error:
        return Problem(f"{path} is damaged ({reason}) and cannot be set aside ({error.strerror}): remove it")
    return Damaged(f"{path} is damaged ({reason}); it was set aside as {aside.name}: start again to make a new one")


def lock(file: TextIO, kind: int, message: str) -> None:
    """Lock an open file, LOCK_SH or LOCK_EX; where another process holds it, print the message and wait."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        print(message, flush=True)
        fcntl.flock(file, kind)


def free_name(path: Path) -> Path:
    """The first of NAME, NAME-2, NAME-3, … that is not taken."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def save_tensors(path: Path, state: object) -> None:
    """Store any nest of dicts, lists, tensors, numbers and strings as one safetensors file."""
    from safetensors.torch import save

    tensors: dict[str, Any] = {}
    tree = json.dumps(_pack(state, tensors))
    metadata = {"tree": tree, "sha256": _digest(tensors, tree)}
    write_bytes(path, save(tensors, metadata=metadata))


def load_tensors(path: Path) -> Any:
    """Read what `save_tensors` stored; a truncated or altered file is set aside and refused."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = read_bytes(path)  # once: a run that is under way may put a newer file in its place meanwhile
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        if metadata["sha256"] != _digest(tensors, metadata["tree"]):
            raise ValueError("its contents do not match their digest")
        return _unpack(json.loads(metadata["tree"]), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error


def _digest(tensors: dict[str, Any], tree: str) -> str:
    import torch

    digest = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _pack(value: object, tensors: dict[str, Any]) -> object:
    """Replace each tensor of a nest by its name, so that the rest is JSON."""
    import torch

    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_pack(key, tensors), _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"cannot store a {type(value).__name__} in a checkpoint")


def _unpack(value: Any, tensors: dict[str, Any]) -> Any:
    """Put the tensors back in the place of their names."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
    return (tuple if kind == "tuple" else list)(_unpack(item, tensors) for item in content)
