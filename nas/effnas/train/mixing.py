"""Mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019) as EfficientNetV2 uses them."""

from __future__ import annotations

import numpy as np
import torch


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix every image with its partner, the image at its place in the reversed batch.

    An image keeps a share λ = max(x, 1 - x) of itself; x is drawn from Beta(α, α) for each image.
    Mixup averages pixels. Cutmix pastes the partner's pixels in a box at the same place: its area
    is 1 - λ and its centre anywhere; λ then becomes the share that it left, since the border may
    clip it and its sides are whole pixels. Targets are averaged by λ. With both on, the first half
    of the batch gets mixup and the other half cutmix.

    A result depends on the image, its partner, and what is drawn for it.

    Args:
        images: Normalized float images [N, 3, H, W] on any device.
        targets: Probabilities of classes, float [N, C] on the same device; rows sum to 1.
        mixup_alpha: α of mixup, 0 or more; 0 is off.
        cutmix_alpha: α of cutmix, 0 or more; 0 is off.
        generator: The source of randomness, on the CPU; not drawn from if both are off.

    Returns:
        Images and targets of the same shapes; the given ones if both are off.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, targets
    count, _, height, width = images.shape
    averaged = count if not cutmix_alpha else count // 2 if mixup_alpha else 0
    # NumPy's Beta stays within 0..1 for α near 0, where Gamma variates would all underflow.
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    alpha = np.where(np.arange(count) < averaged, mixup_alpha, cutmix_alpha)
    share = rng.beta(alpha, alpha)
    kept = torch.from_numpy(np.maximum(share, 1 - share)).float()

    weights = kept[:, None, None, None]
    if averaged < count:
        centres = torch.from_numpy(rng.random((count, 2))).float()
        side = (1 - kept[averaged:]).sqrt()
        rows = _span(centres[averaged:, 0], side, height)
        columns = _span(centres[averaged:, 1], side, width)
        pasted = rows.float().mean(1) * columns.float().mean(1)
        kept[averaged:] = 1 - pasted
        left = ~(rows[:, None, :, None] & columns[:, None, None, :])
        weights = torch.cat([weights[:averaged].expand(-1, 1, height, width), left.float()])
    weights = weights.to(images.device, images.dtype, non_blocking=True)
    kept = kept[:, None].to(targets.device, targets.dtype, non_blocking=True)
    # lerp gives either end to the bit where a weight is 0 or 1.
    return images.flip(0).lerp(images, weights), targets.flip(0).lerp(targets, kept)


def _span(centre: torch.Tensor, share: torch.Tensor, side: int) -> torch.Tensor:
    """Return which of `side` pixels lie in spans about centres, shares of the side: bool [N, side].

    A span has round(share * side) pixels.
    """
    length = (share * side).round()
    first = (centre * side).floor() - (length / 2).floor()
    pixels = torch.arange(side)
    return (pixels >= first[:, None]) & (pixels < (first + length)[:, None])
