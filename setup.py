"""Packaging of speechbrain_birq; tools are configured in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

DEMO = ["espeakng-loader>=0.2.4", "matplotlib>=3.8"]
TRACK = ["tensorboard>=2.15"]
LARGE = ["lhotse>=1.24", "huggingface_hub>=0.23", "datasets>=4"]
LM = ["kenlm>=0.2", "pygtrie>=2.5"]  # SpeechBrain's scorer imports both
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "transformers>=5",
    "s3prl>=0.4.18",
]

ROOT = Path(__file__).parent
# The repository has these folders beside the package, a wheel has them in it: so
# `birq pretrain birq_tiny` and SpeechEncoder("birq_tiny") work wherever the package is
# installed.
CARRIED = {
    f"speechbrain_birq.{'.'.join(folder.relative_to(ROOT).parts)}": folder
    for top in ("hparams", "recipes", "weights")
    for folder in (ROOT / top, *(ROOT / top).rglob("*"))
    if folder.is_dir() and not folder.name.startswith(("_", "."))
}
CARRIED_FILES = ["*.yaml", "*.md", "*.json", "*.png", "*.safetensors"]

setup(
    name="speechbrain_birq",
    version="0.1.0",
    description="BiRQ and BEST-RQ: self-supervised speech pretraining in SpeechBrain",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[
        *find_packages(include=["speechbrain_birq", "speechbrain_birq.*"]),
        *CARRIED,
    ],
    package_dir={
        name: folder.relative_to(ROOT).as_posix() for name, folder in CARRIED.items()
    },
    package_data={name: CARRIED_FILES for name in CARRIED}
    | {"speechbrain_birq.brains": ["log_config.yaml"]},
    install_requires=[
        # torchaudio 2.11.0 is the last that fits a torch: 2.11.1 does not load beside
        # torch 2.11.0 (undefined symbol), a newer torch breaks `import speechbrain`.
        "torch>=2.7.1,<2.12",
        "torchaudio>=2.7.1,<2.11.1",
        "speechbrain>=1.1.2,<1.2",  # private hooks of its Brain are overridden
        "fsspec>=2023.5",
        "hyperpyyaml>=1.2.2",
        "scipy>=1.10",
        "safetensors>=0.4",
        "sentencepiece>=0.2",
        "soundfile>=0.12",
        "tqdm>=4.60",
    ],
    extras_require={
        "demo": DEMO,
        "track": TRACK,
        "large": LARGE,
        "lm": LM,
        "test": [*DEMO, *LARGE, *TRACK, *TEST],
        "dev": [
            *DEMO,
            *LARGE,
            *TRACK,
            *TEST,
            "ruff>=0.6",
            "mypy>=1.10",
            "pre-commit>=3",
        ],
    },
    entry_points={"console_scripts": ["birq=speechbrain_birq.cli.main:main"]},
)
