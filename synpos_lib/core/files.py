"""Files that are complete or absent: atomic writes, safetensors with a digest, damaged files set aside."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from synpos_lib.core.errors import Problem


def safe_name(text: str) -> str:
    """Text as part of a file name: `folder:/data/my birds` becomes `folder_data_my_birds`."""
    return re.sub(r"[^\w.=+-]+", "_", text)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to a temporary neighbour, flush it to disk, then rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise Problem(f"could not write {path}: {error.strerror}; what was there before is unchanged") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON; a damaged file is set aside and refused."""
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise damaged(path, error) from error


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(path: Path, reason: object) -> Problem:
    """Set a file with wrong contents aside, and return the error that reports it."""
    aside = path.with_name(path.name + ".damaged")
    os.replace(path, aside)
    return Problem(f"{path} is damaged ({reason}); it was set aside as {aside.name}: start again to make a new one")


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

    data = path.read_bytes()  # once: a run that is under way may put a newer file in its place meanwhile
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise damaged(path, error) from error
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    if metadata.get("sha256") != _digest(tensors, metadata.get("tree", "")):
        raise damaged(path, "its contents do not match their digest")
    return _unpack(json.loads(metadata["tree"]), tensors)


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
