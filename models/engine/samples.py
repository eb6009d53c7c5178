"""Several translations of each image: test.py --n_samples."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from models.base_model import BaseModel
from models.engine.validation import add_translations, values_of
from util.html import is_translation
from util.metrics.scores import Scores
from util.notices import notice


def samples_of(model: BaseModel, count: int, images: Sequence[str], scores: Scores | None,
               ) -> tuple[dict[str, Any], dict[str, str]]:
    """Label -> visual, and label -> its domain, of the input that has just been translated, which is scored.

    With a count, it is translated again and again, with other noise: fake_B_2, ... follow fake_B.
    """
    if scores:
        add_translations(scores, model, images)
    shown: dict[str, list[Any]] = {}
    outputs: dict[str, list[torch.Tensor]] = {}
    for first in translated_again(model, count):
        for label, value in model.get_current_visuals().items():
            if first or is_translation(label):
                shown.setdefault(label, []).append(value.detach().cpu() if torch.is_tensor(value) else value)
        for name, (output, _) in model.translations().items() if scores and count > 1 else ():
            if is_translation(name):
                written = values_of(model.opt, model.visual_domain(name)).as_written
                outputs.setdefault(name, []).append(written(output))
    if scores:
        for name, samples in outputs.items():
            scores.add_samples(name, images, samples)
    if count > 1 and not any(differ(samples) for samples in shown.values()):
        notice("samples", f"--n_samples {count}: the translations of an image are all the same; --model "
                          f"{model.opt.model} draws no noise here")
    visuals, domains = {}, {}
    for label, values in shown.items():
        for i, value in enumerate(values, 1):
            name = f"{label}_{i}" if i > 1 else label
            visuals[name], domains[name] = value, model.visual_domain(label)
    return visuals, domains


def translated_again(model: BaseModel, count: int) -> Iterator[bool]:
    """`count` times: True for the translation that is there, then False after each further one."""
    yield True
    for sample in range(2, count + 1):
        model._engine.sample = (sample,)
        model.test()
        yield False
    model._engine.sample = ()


def differ(samples: Sequence[Any]) -> bool:
    """Whether any two pictures, tensors or arrays, are not the same."""
    return any(bool((samples[0] != other).any()) for other in samples[1:])
