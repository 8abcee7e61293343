"""Files of an s3prl upstream: ``expert.py`` and ``hubconf.py``."""

from pathlib import Path

from speechbrain_birq.checkpoints import files
from speechbrain_birq.inference.export.finished_run import FinishedRun
from speechbrain_birq.inference.export.transformers_files import (
    write_config,
    write_weights,
)

EXPERT = '''\
"""The upstream of this folder, for s3prl; its code is in speechbrain_birq."""

from pathlib import Path

from speechbrain_birq.inference import UpstreamExpert as _UpstreamExpert


class UpstreamExpert(_UpstreamExpert):
    """Waveforms to the states of all layers; ``ckpt`` is this folder by default."""

    def __init__(self, ckpt=None, model_config=None, **options):
        super().__init__(ckpt or Path(__file__).parent, model_config, **options)
'''

HUBCONF = '''\
"""Entries of torch.hub: ``torch.hub.load(folder, "birq", source="local")``."""

from pathlib import Path

from speechbrain_birq.inference import UpstreamExpert as _UpstreamExpert


def birq_local(ckpt, model_config=None, **options):
    """Load an exported folder."""
    return _UpstreamExpert(ckpt, model_config, **options)


def birq(**options):
    """Load this folder."""
    options["ckpt"] = options.get("ckpt") or Path(__file__).parent
    return birq_local(**options)
'''


def write_s3prl(run: FinishedRun, folder: Path) -> None:
    """Write ``expert.py`` and ``hubconf.py``, with config and weights.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    write_config(run, folder)
    write_weights(run, folder)
    files.write(folder / "expert.py", EXPERT)
    files.write(folder / "hubconf.py", HUBCONF)
