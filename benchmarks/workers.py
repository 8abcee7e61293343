"""A process for each arm, which answers requests in turn."""

import multiprocessing
import sys
import tempfile


class Workers:
    """Processes that each build an arm and answer requests.

    Arguments
    ---------
    names : list
        Names of the arms.
    options : argparse.Namespace
        Options of ``step.py``.
    folder : str
        Folder for the files that a Brain writes.
    """

    def __init__(self, names, options, folder):
        context = multiprocessing.get_context("spawn")
        self.names, self.pipes, self.processes = names, {}, []
        for name in names:
            mine, theirs = context.Pipe()
            arguments = (name, options, folder, theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.pipes[name], self.processes = mine, [*self.processes, process]

    def __enter__(self):
        return self

    def __exit__(self, *caught):
        for pipe in self.pipes.values():
            pipe.close()
        for process in self.processes:
            process.join()

    def ask_all(self, what) -> dict:
        """Ask every arm in turn; with ``step``, also measure the peak of the device."""
        answers = {name: self._ask(name, what) for name in self.names}
        if what == "step":
            answers["peak"] = self._ask(self.names[0], "peak")
        return answers

    def _ask(self, name, what):
        self.pipes[name].send(what)
        try:
            return self.pipes[name].recv()
        except EOFError:
            sys.exit(f"the arm {name} failed at {what!r}: see above")


def _serve(name, options, folder, pipe):
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        bench = _Bench(name, options, own)
        while True:
            try:
                what = pipe.recv()
            except EOFError:
                return
            pipe.send(getattr(bench, what)())


class _Bench:
    """An arm, with a method for each request."""

    def __init__(self, name, options, folder):
        from arms import ARMS, SIZES, build, make_audio
        from timing import peak_memory

        self.options = options
        self.before = peak_memory(options.device)
        self.audio = make_audio(options.batch, options.seconds)
        self.made = build(
            ARMS[name], SIZES[options.size], folder, options.device, options.peer_recipe
        )

    def build(self):
        """Run two warm-up steps and return the sizes."""
        from timing import reset_memory

        self.step()
        reset_memory(self.options.device)
        self.step()
        utterances = len(self.audio.wavs)
        return {
            "M par.": self.made.num_parameters / 1e6,
            "frames": utterances * int(self.made.frames(self.audio.wavs.shape[1])),
            "masked": utterances * len(self.audio.masked),
        }

    def step(self):
        """Return the seconds of one step."""
        from timing import timed

        batch = self.made.batch(self.audio)
        return timed(lambda: self.made(batch), self.options.device)

    def memory(self):
        """Return the peak in GB minus the memory before the arm was built."""
        from timing import peak_memory

        return peak_memory(self.options.device) - self.before

    def operations(self):
        """Count the operations of one step of the eager model."""
        from timing import operations

        batch = self.made.batch(self.audio)
        return operations(lambda: self.made(batch))

    def shares(self):
        """Return the shares of one profiled step."""
        from timing import shares

        batch = self.made.batch(self.audio)
        return shares(lambda: self.made(batch), self.made.sections, self.options.device)

    def peak(self):
        """Return the operations a second of a matrix product, for each precision."""
        from timing import matrix_product

        kinds = ("fp32", "bf16")
        return {kind: matrix_product(self.options.device, kind) for kind in kinds}
