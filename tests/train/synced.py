"""BatchNorm over several processes without GPUs, which torch's SyncBatchNorm needs: a stand-in for tests."""

import torch
from torch import nn

from synpos_lib.methods.parts import gather, processes


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes."""

    def _check_input_dim(self, x):  # (B, C) and (B, C, H, W) alike
        pass

    def forward(self, x):
        if not self.training or processes() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            rest, total = [0, *range(2, x.dim())], x.numel() // x.shape[1] * processes()
            moments = torch.var_mean(wide, rest, correction=0)
            variances, means = gather(torch.stack(moments)[None]).unbind(1)  # (processes, C)
            mean = means.mean(0)
            variance = (variances + (means - mean).square()).mean(0)  # within the processes and between them
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * total / (total - 1), self.momentum)
                self.num_batches_tracked += 1
            shape = [1, -1, *[1] * (x.dim() - 2)]
            y = (wide - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                y = y * self.weight.view(shape) + self.bias.view(shape)
            return y.to(x.dtype)


def synchronise_batchnorm(module):
    for child in module.modules():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            child.__class__ = SyncedBatchNorm
    return module
