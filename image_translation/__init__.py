"""Translate images with a trained run: `load("RUN")(image)`; `train` and `test` take a command line.

    from image_translation import load
    translate = load("horse2zebra")
    picture = translate("photo.jpg")
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from image_translation.translator import Translator

__all__ = ["load", "test", "train"]


def load(
    run: str,                                      # a run in ./checkpoints, a folder, a .pth file, hub:user/name
    *,
    direction: Literal["AtoB", "BtoA"] | None = None,  # which generator of a cycle; the run's own direction
    epoch: str | int | None = None,                # which checkpoint: latest, the default, best or an epoch
    ema: bool = False,                             # the moving average of the weights
    eval: bool = False,                            # no dropout, running statistics of batch norm
    amp: str = "auto",                             # precision: bf16 if it is faster here; off is float32
    device: str = "auto",                          # auto, cpu, cuda, cuda:N or mps
    size: Literal["kept", "trained"] = "kept",     # of the images; trained: resized as test.py does by default
    tile: int | Literal["auto"] | None = "auto",   # side of the tiles that large images are divided into; None: whole
    batch_size: int = 8,                           # images of one size translated at once
    asked: str | None = None,                      # of a run with labels: the attribute to translate into
    masks: str | None = None,                      # of a run that fills holes: the folder of images, white in the holes
    instances: str | None = None,                  # of a run trained with --instances: their folder
    seed: int | None = None,                       # of a run with several outputs for one image: which one
) -> "Translator":
    """Load a trained run; what comes back is called with images. Raises ValueError for a run that can't be loaded."""
    from image_translation.house import enter

    enter()
    from image_translation.translator import Translator, as_value_error

    with as_value_error():
        return Translator(run, direction=direction, epoch=epoch, ema=ema, eval=eval, amp=amp, device=device,
                          size=size, tile=tile, batch_size=batch_size, asked=asked, masks=masks,
                          instances=instances, seed=seed)


def train(argv: Sequence[str]) -> Any:
    """Train as `python train.py ...` does, and return the model. Raises ValueError for bad input."""
    from image_translation.house import script

    module = script("train")
    from image_translation.translator import as_value_error

    with as_value_error():
        return module.train(module.parse(argv))


def test(argv: Sequence[str]) -> int:
    """Translate as `python test.py ...` does; returns 1 if images were left out, else 0. Raises ValueError."""
    from image_translation.house import script

    module = script("test")
    from image_translation.translator import as_value_error

    with as_value_error():
        return int(module.main(argv))


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it
