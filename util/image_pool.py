"""The history of generated images that a discriminator sees."""

import random
import time
from typing import Any

import torch
from torch import Tensor

from util.errors import UsageError


class ImagePool:
    """Buffer of `pool_size` images: half of the images returned are from the past (Shrivastava et al. 2017, 2.3).

    The images stay on their device. After `hold(n)` they are stored in one tensor, and a query of n images performs the
    same operations at each call, on choices made by `plan`: what a captured step needs.
    """

    def __init__(self, pool_size: int):
        self.pool_size = pool_size
        self._list: list[Tensor] = []
        self._tensor: Any = None             # (pool_size, C, H, W), instead of the list
        self._choices: Any = None            # (n, 3): slot, take the stored image, leave the new one
        self._count = 0                      # images in the tensor
        self.planned = False                 # whether the next query takes choices drawn before it
        self._shape: Any = None              # of the images of the last query
        self.last_query = 0                  # when, in nanoseconds

    @property
    def images(self) -> list[Tensor]:
        """The images, (C, H, W) each."""
        return self._list if self._tensor is None else list(self._tensor[:self._count])

    @images.setter
    def images(self, images: list[Tensor]) -> None:
        if self._tensor is None:
            self._list = images
            return
        for slot, image in enumerate(images):
            self._tensor[slot] = image
        self._count, self.planned = len(images), False

    def query(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W): each image itself or, once the pool is full, maybe an older one it replaces."""
        if self.pool_size == 0:
            return images
        self.last_query, self._shape = time.perf_counter_ns(), images.shape[1:]
        if self._tensor is not None:
            return self._exchange_in_place(images.detach())
        chosen = [self._exchange(image) for image in images.detach()]
        if len({image.shape for image in chosen}) > 1:
            raise UsageError("a batch with images from the pool needs one size; use --batch_size 1, --pool_size 0, or "
                             "--preprocess resize_and_crop")
        return torch.stack(chosen)

    def _exchange(self, image: Tensor) -> Tensor:
        slot, take, leave = self._choose(len(self._list))
        if slot == len(self._list):
            self._list.append(image)
            return image
        older = self._list[slot]
        if leave:
            self._list[slot] = image
        return older if take else image

    def _choose(self, count: int) -> tuple[int, bool, bool]:
        """(slot, take, leave) for one image if `count` images are stored."""
        if count < self.pool_size:
            return count, False, True
        if random.random() < 0.5:
            return 0, False, False
        return random.randrange(self.pool_size), True, True

    def hold(self, n: int, like: Tensor) -> None:
        """From now on keep images (C, H, W) like those of the last query in one tensor, for queries of n images.

        Images of another shape, or beyond the size of the pool, are dropped.
        """
        fitting = [image for image in self.images if image.shape == self._shape][:self.pool_size]
        self._tensor = like.new_zeros((self.pool_size, *self._shape))
        self._choices = torch.zeros(n, 3, dtype=torch.int64, device=like.device)
        self.images, self._list = fitting, []

    def plan(self, n: int) -> None:
        """Draw the choices of the next query, of n images."""
        choices = []
        for _ in range(n):
            choices.append(self._choose(self._count))
            self._count = max(self._count, choices[-1][0] + 1)
        drawn = torch.tensor(choices, dtype=torch.int64, pin_memory=self._choices.is_cuda)
        self._choices[:n].copy_(drawn, non_blocking=True)
        self.planned = True

    def _exchange_in_place(self, images: Tensor) -> Tensor:
        if len(images) > len(self._choices):
            self._choices = self._choices.new_zeros(len(images), 3)
        if not self.planned:
            self.plan(len(images))
        self.planned = False
        chosen = []
        for image, (slot, take, leave) in zip(images[:, None], self._choices, strict=False):
            older = self._tensor.index_select(0, slot[None])
            chosen.append(torch.where(take.bool(), older, image))
            self._tensor.index_copy_(0, slot[None], torch.where(leave.bool(), image, older))
        return torch.cat(chosen)

    def drop_non_finite(self) -> None:
        """Drop images with values that are not finite; waits for the device."""
        self.images = [image.clone() for image in self.images if image.isfinite().all()]
