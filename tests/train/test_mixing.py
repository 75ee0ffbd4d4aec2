"""Mixup and cutmix: pixels and targets are mixed alike."""

from __future__ import annotations

import pytest
import torch

from effnas.train.mixing import mix


def batch(count: int, size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels are all their number, and targets that name them."""
    images = torch.arange(count).float()[:, None, None, None].expand(count, 3, size, size)
    return images.contiguous(), torch.eye(count)


def mixed(
    images: torch.Tensor, targets: torch.Tensor, mixup: float, cutmix: float, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return mix(images, targets, mixup_alpha=mixup, cutmix_alpha=cutmix, generator=generator)


def own_share(targets: torch.Tensor) -> torch.Tensor:
    return targets.diagonal()


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize("cutmix", [0.067, 1.0])
def test_shapes_types_and_sums_stay(count: int, mixup: float, cutmix: float) -> None:
    images, targets = batch(count)
    targets = 0.9 * targets + 0.1 / count
    before = images.clone(), targets.clone()
    global_state = torch.get_rng_state()
    found = mixed(images, targets, mixup, cutmix)
    assert found[0].shape == images.shape
    assert found[1].shape == targets.shape
    assert found[0].dtype == found[1].dtype == torch.float32
    assert torch.allclose(found[1].sum(1), torch.ones(count))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])
    again = mixed(images, targets, mixup, cutmix)
    assert torch.equal(found[0], again[0])
    assert torch.equal(found[1], again[1])
    assert torch.equal(torch.get_rng_state(), global_state)


def test_mixup_averages_pixels_as_it_does_targets() -> None:
    images, targets = batch(64)
    found, mixed_targets = mixed(images, targets, 1.0, 0)
    kept = own_share(mixed_targets)
    assert torch.allclose(mixed_targets.flip(0).diagonal(), (1 - kept).flip(0))
    expected = kept * torch.arange(64) + (1 - kept) * torch.arange(63, -1, -1)
    assert torch.allclose(found, expected[:, None, None, None].expand_as(found), atol=1e-4)
    assert len(kept.unique()) == 64  # one for each image
    assert 0.5 <= float(kept.min()) < 0.6
    assert float(kept.max()) > 0.9


def test_cutmix_gives_targets_the_share_of_the_pixels() -> None:
    images, targets = batch(200, size=20)
    found, mixed_targets = mixed(images, targets, 0, 1.0)
    own = found == images
    assert bool((own | (found == images.flip(0))).all())
    assert torch.allclose(own_share(mixed_targets), own.float().mean((1, 2, 3)), atol=1e-6)
    for image in ~own[:, 0]:
        rows, columns = image.any(1), image.any(0)
        assert torch.equal(image, rows[:, None] & columns)
        assert int(rows.diff().sum()) <= 2  # one box
        assert int(columns.diff().sum()) <= 2
    pasted = 1 - own_share(mixed_targets)
    assert 0.4 < float(pasted.max()) < 0.55
    assert 0.1 < float(pasted.mean()) < 0.25
    centres = torch.stack([torch.nonzero(~o[0]).float().mean(0) for o in own if not o.all()])
    assert bool((centres.mean(0) - 9.5).abs().lt(1.5).all())  # anywhere: as often above as below


def test_with_both_on_each_has_its_half_of_the_batch() -> None:
    images, targets = batch(40)
    found, mixed_targets = mixed(images, targets, 1.0, 1.0)
    averaged = (found == found[:, :1, :1, :1]).flatten(1).all(1)
    assert bool(averaged[:20].all())
    assert int(averaged[20:].sum()) < 4  # but where no pixel was pasted
    partner = images.flip(0)
    assert bool(((found == images) | (found == partner))[20:].all())
    shares = (found - partner)[:, 0].mean((1, 2)) / (images - partner)[:, 0, 0, 0]
    assert torch.allclose(shares, own_share(mixed_targets), atol=1e-5)


def test_an_image_changes_itself_and_its_partner_alone() -> None:
    mixup = cutmix = 1.0
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(9, 3, 8, 8, generator=generator), torch.eye(9)
    other = images.clone()
    other[1] += 1
    changed = mixed(images, targets, mixup, cutmix)[0] != mixed(other, targets, mixup, cutmix)[0]
    assert set(torch.nonzero(changed.flatten(1).any(1)).flatten().tolist()) <= {1, 7}
