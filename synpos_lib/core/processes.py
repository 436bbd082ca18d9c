"""One process, or one of several that share a training on one or more GPUs."""

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from synpos_lib.core import runtime


@dataclass
class Processes:
    """This process among those that share the training."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values)
        return values[0]

    def average_gradients(self, module: torch.nn.Module) -> None:
        """Give every process the mean of all gradients."""
        if self.count > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count


def processes() -> Processes:
    """This process: alone, or one of several that torchrun has started."""
    device, count = runtime.device(), int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        return Processes(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(distributed.get_rank(), count, device)
