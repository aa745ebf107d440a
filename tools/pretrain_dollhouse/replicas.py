"""Data parallelism on a CPU: one single-threaded process per core, gradients averaged over gloo.

Four processes of one thread train about a quarter faster than one process of four threads on these small
shapes. Knows nothing about models or stages.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn


class Replica:
    """This process's place among its peers.

    Attributes:
        rank: 0 for the one that logs and saves.
        count: how many processes train together; >= 1.
    """

    def __init__(self, rank: int, count: int) -> None:
        self.rank = rank
        self.count = count

    @property
    def leads(self) -> bool:
        """Whether this process logs and saves."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat.div_(self.count)
        averages = flat.split([gradient.numel() for gradient in gradients])
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view_as(gradient))

    def wait(self) -> None:
        """Block until every process is here."""
        if self.count > 1:
            dist.barrier()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _enter(rank: int, count: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=count)
    try:
        work(Replica(rank, count), *arguments)
    finally:
        dist.destroy_process_group()


def run_replicas(work: Callable[..., None], *arguments: Any, processes: int) -> None:
    """Call `work(replica, *arguments)` in every process and wait for all of them.

    Args:
        work: a module-level function; with one process it runs here.
        arguments: picklable.
        processes: >= 1.
    """
    if processes == 1:
        torch.set_num_threads(1)
        work(Replica(0, 1), *arguments)
        return
    spawn(_enter, args=(processes, _free_port(), work, arguments), nprocs=processes, join=True)
