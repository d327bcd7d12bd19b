"""What lies behind a series, said at once: it begins as a smoothed inverse, and heeds what it should alone."""

import torch

from reverie.nets.observations import observation
from reverie.nets.recogniser import SURE, Recogniser
from reverie.nets.smoothing import parabolas

S, T, B, N, M, L = 2, 20, 3, 5, 3, 4


def moved(inputs=0):
    recogniser = Recogniser(S, M, N, inputs, L).double()
    for p in recogniser.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return recogniser


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def test_it_begins_as_the_smoothed_inverse_of_what_is_seen():
    for kind, latent in (("real", 3), ("count", 3), ("real", 6)):
        seen = observation("auto", kind, S, latent, N)
        x = torch.poisson(torch.full((T, 1, B, N), 2.0)) if kind == "count" else torch.randn(T, 1, B, N)
        seen.prepare(x.squeeze(1).transpose(0, 1), None)
        recogniser = Recogniser(S, latent, N, 0, L)
        recogniser.prepare(seen, 3)
        q = recogniser(seen.linked(x))
        assert torch.equal(q.scale, torch.full((T, S, B, latent), SURE).log().exp())
        raw = (
            seen.start(x.reshape(1, T * B, N), None)[..., : seen.reach].view(-1, T, B, seen.reach).expand(S, -1, -1, -1)
        )
        wanted = torch.einsum("ts,ksbm->tkbm", parabolas(T, 3), raw)
        inside = slice(L, T - L)
        torch.testing.assert_close(q.mean[inside, ..., : seen.reach], wanted[inside], atol=1e-5, rtol=1e-4)


def test_it_heeds_steps_near_by_and_no_others():
    recogniser, x = moved(), draw(T, 1, B, N)
    other = x.clone()
    other[10] += 1
    changed = (recogniser(x).mean != recogniser(other).mean).flatten(1).any(1)
    assert changed.tolist() == [abs(t - 10) <= L for t in range(T)]
    within = recogniser(x[3:17])
    torch.testing.assert_close(within.mean[L:-L], recogniser(x).mean[3 + L : 17 - L])
    assert not torch.allclose(within.mean[0], recogniser(x).mean[3])


def test_what_was_not_seen_is_not_heeded_but_that_it_was_not_is():
    recogniser, x = moved(), draw(T, 1, B, N)
    observed = torch.rand(T, 1, B, N) < 0.6
    a, b = (recogniser(torch.where(observed, x, behind), observed) for behind in (0.0, 7.0))
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(a.log_scale, b.log_scale)
    whole = recogniser(x, torch.ones_like(observed))
    torch.testing.assert_close(whole.mean, recogniser(x).mean)
    assert not torch.allclose(whole.mean, a.mean)


def test_members_do_not_touch_each_other():
    recogniser, x, inputs = moved(2), draw(T, S, B, N), draw(T, S, B, 2)
    both = recogniser(x, None, inputs)
    for i in range(S):
        alone = Recogniser(1, M, N, 2, L).double()
        alone.load_state_dict({k: v[i : i + 1] for k, v in recogniser.state_dict().items()})
        one = alone(x[:, i : i + 1], None, inputs[:, i : i + 1])
        torch.testing.assert_close(one.mean, both.mean[:, i : i + 1])
        torch.testing.assert_close(one.log_scale, both.log_scale[:, i : i + 1])
