"""Several processes that train one model together, on one machine or many, as `torchrun` starts them.

Each rank computes the descriptors of its part of a batch and is given those of all others; the loss of the whole batch
is then computed on every rank, and its gradient with respect to a rank's own descriptors is what that rank sends back
through the model. Summed over the ranks this is the gradient of one process that had the whole batch. All ranks hold
the same weights after every step; only the first one writes, validates and reports.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cvgeo.errors import CvgeoError, UsageError

# Set by torchrun: all of them, so that a stray RANK of some other program means nothing.
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# The others wait as long as the first rank validates; whether a process lives is torchrun's to watch.
TIMEOUT = datetime.timedelta(hours=12)


@contextmanager
def _together() -> Iterator[None]:
    """Where ranks meet: one that is gone is told in a line."""
    try:
        yield
    except RuntimeError as error:
        fault = "another process of this run is gone"
        raise CvgeoError(fault, mend="the same call goes on from the last state that was saved") from error


class Ranks:
    """The processes of a run, seen from one of them: `rank` of `size`, `local_size` of them on this machine.

    The defaults are a process alone, for which everything here is a matter of course.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_size: int = 1) -> None:
        self.rank, self.size, self.local_size = rank, size, local_size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, validates and reports."""
        return self.rank == 0

    @property
    def builds(self) -> bool:
        """Whether this is the first one of its machine, which makes what all of it share."""
        return self.rank % self.local_size == 0

    def part(self, count: int) -> slice:
        """Which of `count` rows are this rank's: consecutive ones, as many as the others' or one more or less."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def place(self, count: int) -> tuple[slice, int]:
        """Where this rank's `count` rows stand among the rows of all ranks, and how many those are."""
        counts = self._table([count])[:, 0]
        return self._at(counts), int(counts.sum())

    def _at(self, counts: np.ndarray) -> slice:
        start = int(counts[: self.rank].sum())
        return slice(start, start + int(counts[self.rank]))

    def _table(self, numbers: list[int]) -> np.ndarray:
        """Everybody's numbers (size, n) int64."""
        table = torch.zeros(self.size, len(numbers), dtype=torch.int64)
        table[self.rank] = torch.tensor(numbers)
        return self.summed(table).numpy()

    def largest(self, *numbers: int) -> list[int]:
        """The largest value that any rank gives for each number."""
        return self._table(list(numbers)).max(axis=0).tolist()

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of everybody's tensor, in place."""
        if self.size > 1:
            with _together():
                distributed.all_reduce(tensor)
        return tensor

    def gathered(self, own: Tensor, place: slice, count: int) -> Tensor:
        """The rows (count, ...) of all ranks from this one's, which stand at `place` among them."""
        if self.size == 1:
            return own
        # A sum with zeros: parts may differ in length.
        whole = own.new_zeros(count, *own.shape[1:])
        whole[place] = own
        return self.summed(whole)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give the first rank's values of some tensors to all."""
        for tensor in tensors if self.size > 1 else ():
            # Weights may be stored channels last, which not every backend takes.
            values = tensor.contiguous()
            with _together():
                distributed.broadcast(values, 0)
            tensor.copy_(values)

    def shared(self, values: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The first rank's tensor of this shape and type; the others have none yet."""
        tensor = torch.empty(shape, dtype=dtype) if values is None else values
        self.share([tensor])
        return tensor

    def wait(self) -> None:
        """Until all are here."""
        self.summed(torch.zeros(1))

    def sum_gradients(self, model: nn.Module) -> None:
        """Make the gradients of a model's parameters the sum of all ranks'."""
        self._sum_all([one.grad for one in model.parameters() if one.grad is not None])

    def average_statistics(self, model: nn.Module) -> None:
        """Make running statistics that each rank's batch norm took of its own part the mean of all ranks'."""
        norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.training]
        statistics = [one for norm in norms for one in (norm.running_mean, norm.running_var) if one is not None]
        self._sum_all(statistics)
        for one in statistics if self.size > 1 else ():
            one /= self.size

    def _sum_all(self, tensors: list[Tensor]) -> None:
        if self.size == 1 or not tensors:
            return
        flat = self.summed(torch.cat([one.reshape(-1) for one in tensors]))
        for one, total in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
            one.copy_(total.view_as(one))


def under_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return all(name in os.environ for name in ENVIRONMENT) and int(os.environ["WORLD_SIZE"]) > 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints: the first of those that torchrun started, or alone."""
    return not under_torchrun() or os.environ["RANK"] == "0"


def is_restarted() -> bool:
    """Whether torchrun started this process anew, after another one of the run had died."""
    return under_torchrun() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def own_device(device: torch.device) -> torch.device:
    """The device of this process: of several on a machine with GPUs each takes the one of its number.

    Raises UsageError where there are fewer.
    """
    if not under_torchrun() or device.type != "cuda":
        return device
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        fault = f"{os.environ['LOCAL_WORLD_SIZE']} processes on a machine of {count} CUDA devices"
        raise UsageError(fault, mend=f"torchrun --nproc-per-node {count}, or --device cpu")
    return torch.device("cuda", number)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes of this run: those that torchrun started (gloo on the CPU, NCCL on CUDA), else this one alone."""
    if not under_torchrun():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _together():
        distributed.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))
    finally:
        distributed.destroy_process_group()


def synchronised(model: nn.Module, ranks: Ranks, device: torch.device) -> nn.Module:
    """A model whose batch norm in training takes its statistics over all ranks' pictures where that is possible: CUDA.

    Elsewhere each rank normalises by its own part, as one process with so small a batch does. Names of weights stay.
    """
    if ranks.size == 1 or device.type != "cuda":
        return model
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
