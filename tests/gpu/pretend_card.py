"""A card that is not there: tensors that say `cuda` and have no numbers, and a list of every place that would wait.

    with PretendCard() as card:
        ...                            # code on runtime.device(), which is cuda here
    assert card.waits == []

Use it in a test `@on_a_pretend_card`, which runs in a process of its own: what makes torch believe in a card stays
there.

An operation on two devices is refused as on a real card. Reading a number of the card, and a copy that is not
`non_blocking`, make a processor wait until the card has done all it was given: these are listed, or refused where
there is no number to read.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable
from unittest import mock

import children
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel  # noqa: F401 (not while patched)
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from synpos_lib.core import runtime

CUDA = torch.device("cuda", 0)


def _zero_gradients(optimizer: torch.optim.Optimizer, set_to_none: bool = True) -> None:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)


class PretendCard(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits: list[str] = []
        self.patches = contextlib.ExitStack()

    def __enter__(self):
        real = torch.Generator
        for target, name, stand_in in (
            (torch, "Generator", lambda device="cpu": real()),
            (torch.cuda, "_lazy_init", lambda: None),
            (torch.Tensor, "backward", lambda self: None),  # autograd asks the driver for its streams
            (torch.optim.Optimizer, "zero_grad", _zero_gradients),
            (torch.cuda, "mem_get_info", lambda where=None: (80 * 10**9, 80 * 10**9)),
            (torch.cuda, "get_device_properties", lambda where=None: mock.Mock(total_memory=80 * 10**9)),
            (runtime, "device", lambda: CUDA),
            (runtime, "fast_bf16", lambda kind: True),
            (runtime, "autocast", lambda where: contextlib.nullcontext()),
        ):
            self.patches.enter_context(mock.patch.object(target, name, stand_in))
        torch._C._ensureCUDADeviceGuardSet()  # this and the next line: as FakeTensorMode does it without a driver
        self.patches.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.close()
        return super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = [part for part in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(part, FakeTensor)]
        wanted = kwargs.get("device")
        if not there and (wanted is None or torch.device(wanted).type == "cpu"):
            return operation(*args, **kwargs)
        moved = wanted is not None and there and torch.device(wanted).type == "cpu"
        copied = wanted is not None and not there and operation in (torch.ops.aten._to_copy.default,)
        if (moved or copied) and not kwargs.get("non_blocking"):
            self.waits.append(f"{operation}: a copy {'from' if moved else 'to'} the card")
        with self.fake:
            return operation(*args, **kwargs)


def on_a_pretend_card(test: Callable) -> Callable:
    """A test that runs in a copy of this process; it may take parameters, and no fixtures."""

    def run(tmp_path, **parameters):
        if torch.cuda.is_available():
            pytest.skip("there is a real card here")
        words = tmp_path / "words"
        assert children.run(functools.partial(test, **parameters), said=words) == 0, words.read_text()

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    taken = [inspect.Parameter("tmp_path", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    run.__signature__ = inspect.Signature(taken + list(inspect.signature(test).parameters.values()))
    return run
