import torch

from neuface_ray.methods.lvd.queries import LONGEST_ROLLOUT, queries, random_subset, rollout


def test_every_sample_walks_its_own_number_of_real_steps():
    start = (torch.zeros(64, 2, 3), torch.ones(64, 1, 3))
    state, guide = rollout(lambda state: (state[0] + state[1], 2 * state[1]), start, torch.Generator().manual_seed(0))
    steps = guide[:, 0, 0].log2().round()
    assert set(steps.tolist()) <= set(range(LONGEST_ROLLOUT))
    assert {0.0, LONGEST_ROLLOUT - 1.0} <= set(steps.tolist())
    assert torch.equal(guide, (2**steps)[:, None, None].expand_as(guide))
    assert torch.equal(state, (2**steps - 1)[:, None, None].expand_as(state))


def test_a_walk_has_no_gradient():
    weight = torch.ones(1, requires_grad=True)
    (state,) = rollout(lambda state: (state[0] * weight + 1,), (torch.zeros(4, 1, 3),), torch.Generator().manual_seed(0))
    assert not state.requires_grad


def test_queries_lie_in_the_box_and_near_the_points():
    around = torch.full((2, 5, 3), 3.0)
    found = queries(around, 9, 0.01, torch.Generator().manual_seed(0))
    assert found.shape == (2, 9, 3)
    assert (found[:, :4].abs() <= 1.2).all()
    assert (found[:, 4:] - 3).abs().max() < 0.06
    assert sorted(random_subset(4, 9, torch.Generator().manual_seed(0)).tolist()) == [0, 1, 2, 3]
