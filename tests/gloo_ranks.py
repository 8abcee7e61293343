"""Two processes for tests of ranks; a server that they fork from has the imports."""

import multiprocessing

from torch.multiprocessing import start_processes

# torch imports the latter with its first optimizer: seconds in every process.
IMPORTS = ["speechbrain_birq.experiment", "torch._dynamo"]


def on_two_ranks(work, *arguments):
    """Call work(rank, *arguments) in two processes; raise what one of them raises."""
    multiprocessing.set_forkserver_preload(IMPORTS)
    start_processes(work, arguments, nprocs=2, start_method="forkserver")
