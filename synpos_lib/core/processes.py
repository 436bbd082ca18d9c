"""One process, or one of several that share a training on one or more GPUs."""

import os
from dataclasses import dataclass

import torch

from synpos_lib.core import runtime


@dataclass
class Processes:
    """This process among those that share the training."""

    rank: int
    count: int
    device: torch.device
    accelerator: object | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def from_first(self, value: object) -> object:
        """What the first process says, in all of them."""
        said = [value]
        if self.count > 1:
            torch.distributed.broadcast_object_list(said)
        return said[0]

    def average_gradients(self, module: torch.nn.Module) -> None:
        """Give every process the mean of all gradients; nothing to do when there is one."""
        if self.count > 1:
            for parameter in module.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.count


def processes() -> Processes:
    """One process, or one of several when started by `accelerate launch` (or torchrun)."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return Processes(0, 1, runtime.device())
    from accelerate import Accelerator, DistributedDataParallelKwargs

    wrapper = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[wrapper])
    return Processes(accelerator.process_index, accelerator.num_processes, accelerator.device, accelerator)
