"""Package metadata; `pip install -e .` makes models, networks, data, options and util importable."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "visdom": ["visdom>=0.2.4"],
    "tensorboard": ["tensorboard>=2.15"],
    "wandb": ["wandb>=0.17"],
    "metrics": ["torch-fidelity>=0.4", "torchmetrics>=1.4"],  # Inception and LPIPS, and the loading of their weights
}

setup(
    name="image-translation",
    version="0.1.0",
    description="Image-to-image translation in PyTorch: CycleGAN, pix2pix and your own model from one command line",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["models*", "networks*", "data*", "options*", "util*"]),
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",  # what plugins of the reference import
        "pillow>=10.3",
        "numpy>=1.26",
        "dominate>=2.9",
        "scikit-image>=0.24",
        "scipy>=1.15",  # which scikit-image brings
        "tifffile>=2024.1",
        "tqdm>=4.66",
        "PyYAML>=6.0",
    ],
    extras_require={
        **EXTRAS,
        "test": ["pytest>=8.0", "hypothesis>=6.100", "ruff>=0.5", *EXTRAS["visdom"], *EXTRAS["tensorboard"],
                 *EXTRAS["metrics"]],
    },
)
