"""One waiting process for each arm, asked in turn."""

import multiprocessing
import sys
import tempfile


class Workers:
    """Processes that build an arm each and answer what they are asked.

    Arguments
    ---------
    names : list
        Of the arms.
    options : argparse.Namespace
        Of ``step.py``.
    folder : str
        For what a Brain writes.
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
        """Every arm's answer, one after the other; with steps, the device's peak."""
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
    """An arm and what can be asked about it."""

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
        """Sizes, after two steps to warm up."""
        from timing import reset_memory

        self.step()
        reset_memory(self.options.device)
        self.step()
        utterances = len(self.audio.wavs)
        return {
            "M par.": self.made.num_parameters / 1e6,
            "frames": utterances * int(self.made.frames(self.audio.wavs.shape[1])),
            "masked": utterances * len(self.audio.hidden),
        }

    def step(self):
        """Seconds of one step."""
        from timing import timed

        batch = self.made.batch(self.audio)
        return timed(lambda: self.made(batch), self.options.device)

    def memory(self):
        """Peak in GB above that of the process before the arm was built."""
        from timing import peak_memory

        return peak_memory(self.options.device) - self.before

    def operations(self):
        """Of one step, as the eager model makes them."""
        from timing import operations

        batch = self.made.batch(self.audio)
        return operations(lambda: self.made(batch))

    def shares(self):
        """Of one profiled step."""
        from timing import shares

        batch = self.made.batch(self.audio)
        return shares(lambda: self.made(batch), self.made.sections, self.options.device)

    def peak(self):
        """Operations a second of a matrix product."""
        from timing import matrix_product

        kinds = ("fp32", "bf16")
        return {kind: matrix_product(self.options.device, kind) for kind in kinds}
