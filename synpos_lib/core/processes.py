"""One process, or one of several that share a training on one or more GPUs."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from synpos_lib.core import runtime


@dataclass
class Processes:
    """This process among those that share the training."""

    rank: int
    count: int
    device: torch.device
    accelerator: Any = None  # accelerate's, where several processes share the training

    @property
    def first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: Any) -> Any:
        """The first process's value, in all of them."""
        values = [value]
        if self.count > 1:
            torch.distributed.broadcast_object_list(values)
        return values[0]

    def average_gradients(self, module: torch.nn.Module) -> None:
        """Give every process the mean of all gradients."""
        if self.count > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count


def processes() -> Processes:
    """This process: alone, or one of several started by `accelerate launch` or torchrun."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Processes(0, 1, runtime.device())
    from accelerate import Accelerator, DistributedDataParallelKwargs

    wrapper = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[wrapper])
    return Processes(accelerator.process_index, accelerator.num_processes, accelerator.device, accelerator)
