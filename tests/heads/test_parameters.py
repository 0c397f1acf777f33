import torch

from neuface_ray.heads.parameters import HeadParameters


def some(count: int, calibrated: bool) -> HeadParameters:
    sizes = (5, 4, 15, 3, 3)[: 5 if calibrated else 4]
    return HeadParameters(*(torch.randn(count, size) for size in sizes))


def test_batches_are_joined_and_split_field_by_field():
    for calibrated in (False, True):
        parts = [some(2, calibrated), some(4, calibrated)]
        whole = HeadParameters.cat(parts)
        assert torch.equal(whole.pose[2:], parts[1].pose)
        split = whole.unflatten(3, 2)
        assert split.identity.shape == (3, 2, 5)
        assert torch.equal(split.camera[1, 1], whole.camera[3])
        assert (split.translation is None) != calibrated
        assert len(split.tensors) == 4 + calibrated


def test_map_touches_every_tensor_and_leaves_the_original():
    before = some(3, True)
    doubled = before.map(lambda value: 2 * value)
    assert all(torch.equal(new, 2 * old) for new, old in zip(doubled.tensors, before.tensors, strict=True))
    assert doubled is not before
