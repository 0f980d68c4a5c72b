"""Recent prompts against curated ones: silent where nothing changed, loud where something did."""

import numpy as np

from tamis.evaluate.drift import drift, mix, nearest


def prompts(rng, n, topics=12, shift=0.0):
    """Vectors round a few topics; with a shift, so large a share of them is about something else."""
    centres = np.random.default_rng(1).normal(size=(topics + 1, 32))
    topic = np.where(rng.random(n) < shift, topics, rng.integers(0, topics, n))
    return centres[topic] + rng.normal(scale=0.4, size=(n, 32))


def test_an_unshifted_log_raises_a_false_alarm_in_at_most_one_of_twenty_draws():
    curated = prompts(np.random.default_rng(0), 150)
    alarms = [
        drift(prompts(np.random.default_rng(seed + 9), 60), curated, seed, alpha=0.05).p <= 0.05 for seed in range(200)
    ]
    assert sum(alarms) <= 0.05 * 200 + 2 * (0.05 * 0.95 * 200) ** 0.5  # the rate is 5 % by construction
    strict = [drift(prompts(np.random.default_rng(s + 9), 60), curated, s).drifted for s in range(200)]
    assert sum(strict) <= 0.05 * 200


def test_a_shifted_log_is_flagged_and_what_is_new_in_it_is_named():
    curated = prompts(np.random.default_rng(0), 150)
    recent = prompts(np.random.default_rng(2), 60, shift=0.4)
    found = drift(recent, curated, 7)
    assert found.drifted
    new = np.random.default_rng(1).normal(size=(13, 32))[12]
    assert all(np.linalg.norm(recent[i] - new) < 4 for i in found.farthest)


def test_too_few_prompts_say_nothing():
    found = drift(prompts(np.random.default_rng(2), 5), prompts(np.random.default_rng(0), 150), 7)
    assert (found.p, found.drifted, found.n) == (None, False, 5)


def test_an_unchanged_mix_of_languages_raises_few_alarms_and_a_changed_one_does():
    def spoken(rng, n, vietnamese=0.1):
        return ["vi" if rng.random() < vietnamese else "en" if rng.random() < 0.9 else "fr" for _ in range(n)]

    curated = spoken(np.random.default_rng(0), 300)
    alarms = sum(mix(spoken(np.random.default_rng(s), 80), curated, s).drifted for s in range(1, 201))
    assert alarms <= 0.05 * 200
    found = mix(spoken(np.random.default_rng(9), 80, 0.4), curated, 7)
    assert found.drifted
    assert max(found.curated, key=found.curated.get) == "en"
    assert 0.2 < found.distance < 0.5
    assert mix(["vi"] * 5, curated, 7).p is None
    assert mix(["vi"] * 30, ["vi"] * 30, 7).p == 1.0


def test_the_clusters_that_grew_and_shrank_are_named_and_the_others_are_not():
    def placed(rng, n, weights):
        return rng.choice([f"c{i}" for i in range(20)], n, p=weights / weights.sum()).tolist()

    even = np.ones(20)
    moved = even.copy()
    moved[3], moved[7] = 5, 0
    known = placed(np.random.default_rng(0), 1000, even)
    found = mix(placed(np.random.default_rng(1), 300, moved), known, 7)
    assert [c.name for c in found.changes] == ["c3", "c7"]
    grew, shrank = found.changes
    assert grew.recent > 3 * grew.known
    assert shrank.recent == 0 < shrank.known
    assert max(c.p for c in found.changes) <= 0.01


def test_of_many_clusters_none_is_said_to_change_by_chance():
    """Twenty clusters tested one by one would give an alarm in every fifth draw; adjusted, in one of a hundred."""
    weights = np.random.default_rng(3).dirichlet(np.ones(40))

    def alarm(seed):
        rng = np.random.default_rng(seed)
        known, recent = (rng.choice(40, n, p=weights).astype(str).tolist() for n in (600, 150))
        return bool(mix(recent, known, seed).changes)

    assert sum(alarm(seed) for seed in range(200)) <= 0.05 * 200


def test_a_text_belongs_to_the_centre_it_points_to_whatever_its_length():
    assert nearest(np.array([[9, 1], [0.1, 0.2]]), np.array([[1, 0], [0, 100]])).tolist() == [0, 1]
