"""Photographs made worse: what super-resolution learns to undo."""

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data.transforms import as_depth, resize
from util.errors import UsageError


@dataclass(frozen=True)
class Degradation:
    """Blurred, made smaller by bicubic interpolation, noisy, and stored as JPEG, in this order.

    How much is drawn for each image, between nothing and `blur` and `noise`, and between `jpeg` and 95.
    """

    scale: int
    blur: float = 0.0    # sigma of a Gaussian, in pixels of the photograph
    noise: float = 0.0   # standard deviation, in 1/255 of the range of the values
    jpeg: int = 0        # quality; 0 stores no JPEG

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) -> (H / scale, W / scale, C), the same depth; draws by `random`; raises UsageError."""
        if self.blur:
            image = blurred(image, random.uniform(0, self.blur))
        image = resize(image, (image.shape[1] // self.scale, image.shape[0] // self.scale))
        if self.noise:
            image = noisy(image, random.uniform(0, self.noise))
        return as_jpeg(image, random.randint(self.jpeg, 95)) if self.jpeg else image


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, C), blurred by a Gaussian."""
    from skimage.filters import gaussian

    return as_depth(gaussian(image.astype(np.float64), sigma, channel_axis=2), image.dtype)


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    """(H, W, C) with Gaussian noise; of values without a fixed range, `deviation` is in 1/255 of theirs."""
    span = np.ptp(image) if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    drawn = np.random.default_rng(random.getrandbits(64)).normal(0, deviation / 255 * span, image.shape)
    return as_depth(image + drawn, image.dtype)


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """(H, W, C) as a JPEG file of this quality holds it; raises UsageError for what no JPEG can hold."""
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3):
        raise UsageError(f"JPEG stores 8-bit grey or colour, not {image.shape[2]} channels of {image.dtype}; leave out "
                         f"--jpeg")
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)
