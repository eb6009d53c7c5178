"""The history of generated images that a discriminator sees."""

import random

import torch

from util.errors import UsageError


class ImagePool:
    """Buffer of `pool_size` images: half of what is asked for comes from the past (Shrivastava et al. 2017, 2.3)."""

    def __init__(self, pool_size: int):
        self.pool_size = pool_size
        self.images: list[torch.Tensor] = []

    def query(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W): each image itself or, once the pool is full, maybe an older one it replaces."""
        if self.pool_size == 0:
            return images
        chosen = [self._exchange(image) for image in images.detach()]
        if len({image.shape for image in chosen}) > 1:
            raise UsageError("a batch with images from the pool needs one size; use --batch_size 1, --pool_size 0, or "
                             "--preprocess resize_and_crop")
        return torch.stack(chosen)

    def _exchange(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.pool_size:
            self.images.append(image)
            return image
        if random.random() < 0.5:
            return image
        index = random.randrange(self.pool_size)
        older, self.images[index] = self.images[index], image
        return older

    def drop_non_finite(self) -> None:
        """Forget images with values that are not finite; waits for the device."""
        self.images = [image for image in self.images if image.isfinite().all()]
