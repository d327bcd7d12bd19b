import numpy as np
import pytest

from reverie.core.errors import BadInput
from reverie.evaluation.pictures import (
    frechet,
    frechet_distance,
    kernel_difference,
    kernel_distance,
    memorisation,
    moments,
    power_spectrum,
    precision_recall_density_coverage,
    sharpness,
)

GROUPS = np.repeat(np.arange(8), 5)


def people(random: np.random.Generator, dims: int = 5) -> np.ndarray:
    """(40, dims) standard normal, five examples for each of 8 people, who explain 80% of the variance."""
    return np.sqrt(0.8) * random.normal(size=(8, dims))[GROUPS] + np.sqrt(0.2) * random.normal(size=(40, dims))


def close(value: float, truth: float, errors: list[float] | np.ndarray) -> bool:
    """Whether a mean over independent trials is the truth within three standard errors."""
    return abs(value - truth) < 3 * np.std(errors) / len(errors) ** 0.5


def test_kernel_distance_is_unbiased_and_its_error_covers_zero():
    random = np.random.default_rng(0)
    found = [kernel_distance(random.normal(size=(40, 5)), random.normal(size=(60, 5))) for _ in range(100)]
    values = np.array([e.value for e in found])
    assert close(values.mean(), 0, values)
    assert np.mean([abs(e.value) < 3 * e.error for e in found]) > 0.95


def test_kernel_distance_has_its_closed_form_and_a_calibrated_error():
    # In one dimension (xy + 1)^3 compares 3 Δm1² + 3 Δm2² + Δm3² of the raw moments:
    # N(0, 1) has 0, 1, 0 and N(1, 1) has 1, 2, 4.
    random = np.random.default_rng(1)
    found = [kernel_distance(random.normal(size=(200, 1)), random.normal(size=(200, 1)) + 1) for _ in range(100)]
    values, errors = (np.array(column) for column in zip(*((e.value, e.error) for e in found), strict=True))
    assert close(values.mean(), 3 + 3 + 16, values)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.25)
    assert np.mean(np.abs(values - 22) < 3 * errors) > 0.95


def test_kernel_distance_is_unbiased_for_people_with_many_pictures_each():
    random = np.random.default_rng(2)
    sets = [(people(random), random.normal(size=(60, 5))) for _ in range(100)]
    found = [kernel_distance(real, fake, GROUPS) for real, fake in sets]
    values = np.array([e.value for e in found])
    assert close(values.mean(), 0, values)
    assert np.mean([abs(e.value) < 3 * e.error for e in found]) > 0.95
    blind = np.mean([kernel_distance(real, fake).value for real, fake in sets])
    assert blind > 10 * values.std() / 100**0.5  # without the groups it would be far from 0


def test_kernel_difference_knows_more_than_either_distance():
    random = np.random.default_rng(3)
    found, alone = [], []
    for _ in range(60):
        real, a, b = people(random), random.normal(size=(80, 5)) * 1.3, random.normal(size=(80, 5))
        found.append(kernel_difference(real, a, b, GROUPS))
        alone.append(kernel_distance(real, a, GROUPS))
        assert found[-1].value == pytest.approx(alone[-1].value - kernel_distance(real, b, GROUPS).value)
    values = np.array([e.value for e in found])
    assert np.mean([e.error for e in found]) < 0.9 * np.mean([e.error for e in alone])
    assert np.mean([abs(e.value - values.mean()) < 3 * e.error for e in found]) > 0.95


def test_frechet_of_exact_moments_is_exact():
    random = np.random.default_rng(4)
    basis = np.linalg.qr(random.normal(size=(6, 6)))[0]
    a, b = random.uniform(0.1, 3, size=(2, 6))
    shift = random.normal(size=6)
    # Commuting covariances: the distance is the sum over axes.
    truth = shift @ shift + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    found = frechet(np.zeros(6), basis * a @ basis.T, shift, basis * b @ basis.T)
    assert found == pytest.approx(truth, rel=1e-10)


def test_frechet_of_two_by_two_matrices_that_do_not_commute():
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    # tr (A B)^1/2 = sqrt(tr A B + 2 sqrt(det A B)) in two dimensions.
    overlap = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    assert frechet(np.zeros(2), a, np.zeros(2), b) == pytest.approx(np.trace(a + b) - 2 * overlap, rel=1e-12)


def test_frechet_of_singular_covariances_is_sound():
    x = np.random.default_rng(5).normal(size=(10, 50))
    assert frechet(*moments(x), *moments(x)) == pytest.approx(0, abs=1e-8)
    assert frechet(*moments(x), *moments(x + 1)) == pytest.approx(50, rel=1e-8)
    flat = np.zeros((10, 50))
    assert frechet(*moments(x), *moments(flat)) == pytest.approx(
        np.trace(moments(x)[1]) + np.square(moments(x)[0]).sum(), rel=1e-9
    )


def test_frechet_of_samples_is_near_the_truth_with_a_calibrated_error():
    random = np.random.default_rng(6)
    scale, shift = np.array([1.0, 2.0, 0.5]), np.eye(3)[0]
    truth = (1 + np.square(scale - 1).sum()) / 3  # over the three features
    draws = [(random.normal(size=(400, 3)), random.normal(size=(400, 3)) * scale + shift) for _ in range(60)]
    found = [frechet_distance(real, fake) for real, fake in draws]
    assert np.mean([e.value for e in found]) == pytest.approx(truth, rel=0.05)
    # First-order variances: 4 |shift|^2 (1 + 1)/n for the means, (2 (s - 1))^2 (s^2 + 1)/(2 n) for each scale s.
    variance = 8 / 400 + np.sum((2 * (scale - 1)) ** 2 * (scale**2 + 1)) / 800
    assert np.mean([e.error for e in found]) == pytest.approx(np.sqrt(variance) / 3, rel=0.1)


def test_shares_on_sets_with_known_answers():
    random = np.random.default_rng(7)
    left, right = random.normal(size=(50, 2)), random.normal(size=(50, 2)) + 100
    both = np.concatenate([left, right])

    def values(real, fake):
        return {name: e.value for name, e in precision_recall_density_coverage(real, fake, k=5).items()}

    assert values(left, right) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    half = values(both, left)  # every dream is real, half of what is real is dreamt
    assert (half["precision"], half["recall"], half["coverage"]) == (1, 0.5, 0.5)
    loose = values(left, both)
    assert (loose["precision"], loose["recall"], loose["coverage"]) == (0.5, 1, 1)
    # An example lies in its own ball and, on average, in those of the k who have it among their k nearest.
    assert values(both, both)["density"] == pytest.approx(1 + 1 / 5)


def test_coverage_of_one_distribution_is_what_theory_says():
    # Naeem et al. 2020, lemmas 1 and 2: E[coverage] = 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), and E[density] = 1.
    random = np.random.default_rng(18)
    found = [
        precision_recall_density_coverage(random.normal(size=(60, 3)), random.normal(size=(60, 3)), k=3)
        for _ in range(50)
    ]
    n = m = 60
    truth = 1 - np.prod([(n - i) / (m + n - i) for i in (1, 2, 3)])
    coverage = np.array([e["coverage"].value for e in found])
    density = np.array([e["density"].value for e in found])
    assert close(coverage.mean(), truth, coverage)
    assert close(density.mean(), 1, density)
    claimed = np.mean([e["coverage"].error for e in found])
    assert 0.7 * coverage.std() < claimed < 2 * coverage.std()


def test_too_few_neighbours_are_refused():
    x = np.zeros((6, 2))
    with pytest.raises(BadInput, match="no 5-th neighbour"):
        precision_recall_density_coverage(x, x, k=5)


def test_memorisation_is_0_for_copies_and_1_for_new_examples():
    random = np.random.default_rng(9)
    train, held = random.normal(size=(300, 1, 4, 4)), random.normal(size=(200, 1, 4, 4))
    fresh = memorisation(train, held, random.normal(size=(200, 1, 4, 4)))
    assert abs(fresh.value - 1) < 3 * fresh.error < 0.2
    assert memorisation(train, held, train[:50]).value == 0
    assert memorisation(train, held, held).value == 1
    near = memorisation(train, held, train[:50] + 0.1 * random.normal(size=(50, 1, 4, 4)))
    assert near.value < 0.3
    with pytest.raises(BadInput, match="training examples too"):
        memorisation(train, train[:5], held)


def test_memorisation_sees_mirrored_copies():
    random = np.random.default_rng(10)
    train, held = random.normal(size=(100, 1, 4, 4)), random.normal(size=(50, 1, 4, 4))
    copies = train[:20, :, :, ::-1]
    assert memorisation(train, held, copies, mirror=True).value == 0
    assert memorisation(train, held, copies).value > 0.5


def test_memorisation_error_is_calibrated():
    random = np.random.default_rng(11)
    found = [memorisation(*(random.normal(size=(n, 3)) for n in (100, 40, 40))) for _ in range(30)]
    values = np.array([e.value for e in found])
    assert 0.7 * values.std() < np.mean([e.error for e in found]) < 1.5 * values.std()


@pytest.mark.parametrize("shape", [(3, 16, 20), (1, 9, 7), (1, 1, 12)], ids=str)
def test_white_noise_has_the_same_power_in_every_ring(shape):
    x = np.random.default_rng(0).normal(size=(4000, *shape)) * 2 + 5
    found = power_spectrum(x, 2)
    there = found.any(0)
    np.testing.assert_allclose(found[:, there].mean(0)[1:], 4, rtol=0.05)  # the innermost gives up what the mean takes


def test_a_wave_lies_in_the_ring_of_its_frequency():
    row, column = np.mgrid[:48, :40]
    for cycles, ring in (
        ((0.05, 0.0), 0),
        ((0.0, 0.15), 1),
        ((0.2, 0.15), 2),
        ((0.0, 0.35), 3),
        ((0.36, 0.27), 4),
        ((0.5, 0.0), 4),
        ((0.0, 0.5), 4),
    ):
        wave = np.cos(2 * np.pi * (cycles[0] * row + cycles[1] * column))[None, None]
        power = power_spectrum(wave)[0]
        assert power.argmax() == ring
    with pytest.raises(BadInput, match="no fine detail"):
        sharpness(np.ones((4, 1, 8, 8)), np.random.default_rng(0).normal(size=(4, 1, 8, 8)))


def test_blurring_costs_the_power_that_the_filter_has():
    """White noise through [1, 2, 1] / 4 across: at frequency f its amplitude becomes (1 + cos 2 pi f) / 2."""
    x = np.random.default_rng(1).normal(size=(2000, 1, 32, 34))
    blurred = (x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]) / 4
    frequency = np.hypot(np.fft.fftfreq(32)[:, None], np.fft.fftfreq(32))
    kept = ((1 + np.cos(2 * np.pi * np.fft.fftfreq(32))) / 2) ** 2 * np.ones((32, 1))
    expected = kept[(frequency >= 0.25) & (frequency <= 0.5)].mean()
    found = sharpness(x[..., 1:-1], blurred)
    assert abs(found.value - expected) < 0.01
    assert found.error < 0.01
