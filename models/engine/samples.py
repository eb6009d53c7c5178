"""Several translations of each image: test.py --n_samples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.base_model import BaseModel
from models.engine.validation import add_translations, values_of
from util.html import is_translation
from util.metrics.scores import Scores


def visuals_of(model: BaseModel) -> dict[str, Any]:
    """What the model shows, on the CPU."""
    return {label: value.detach().cpu() if torch.is_tensor(value) else value
            for label, value in model.get_current_visuals().items()}


def outputs_of(model: BaseModel) -> dict[str, Tensor]:
    """Name -> translations, rounded as in their files."""
    return {name: values_of(model.opt, model.visual_domain(name)).as_written(output)
            for name, (output, _) in model.translations().items() if is_translation(name)}


def samples_of(model: BaseModel, count: int, images: Sequence[str], scores: Scores | None,
               ) -> tuple[dict[str, Any], dict[str, str]]:
    """Label -> visual, and label -> its domain, of the input that has just been translated, which is scored.

    With a count, it is translated again and again, with other noise: fake_B_2, ... follow fake_B.
    """
    shown = {label: [value] for label, value in visuals_of(model).items()}
    domains = {label: model.visual_domain(label) for label in shown}
    if scores:
        add_translations(scores, model, images)
    outputs = [outputs_of(model)] if scores and count > 1 else []
    for sample in range(2, count + 1):
        model._engine.sample = (sample,)
        model.test()
        for label, value in visuals_of(model).items():
            if is_translation(label):
                shown[label].append(value)
        outputs += [outputs_of(model)] if outputs else []
    model._engine.sample = ()
    for name in outputs[0] if scores and outputs else ():
        scores.add_samples(name, images, [output[name] for output in outputs])
    named = {f"{label}_{i}" if i > 1 else label: (value, domains[label])
             for label, values in shown.items() for i, value in enumerate(values, 1)}
    return {name: value for name, (value, _) in named.items()}, {name: domain for name, (_, domain) in named.items()}
