"""Tests and intervals against figures worked out by hand or printed elsewhere; the watches against many simulated streams."""

import math

import numpy as np
import pytest

from tuning import statistics as st

# ---- exact McNemar

@pytest.mark.parametrize(("wins", "losses", "p"), [
    (0, 0, 1.0), (1, 0, 1 / 2), (5, 0, 1 / 32), (0, 5, 1.0), (4, 1, 6 / 32), (3, 3, 42 / 64), (9, 1, 11 / 1024),
])
def test_mcnemar_by_hand(wins: int, losses: int, p: float) -> None:
    assert st.mcnemar(wins, losses) == pytest.approx(p, rel=1e-12)


def test_mcnemar_is_the_binomial_tail_of_scipy() -> None:
    from scipy.stats import binom

    for wins, losses in [(78, 46), (46, 78), (700, 640), (1300, 1500)]:
        assert st.mcnemar(wins, losses) == pytest.approx(binom.sf(wins - 1, wins + losses, 0.5), rel=1e-9)


def test_losses_that_crowd_by_hand() -> None:
    # 3 of 3 rows of a group lost, 4 of 10 rows in all: C(4,3) of C(10,3) ways
    assert st.fisher(3, 3, 4, 10) == pytest.approx(4 / 120)
    assert st.fisher(0, 3, 4, 10) == 1.0
    from scipy.stats import hypergeom

    assert st.fisher(18, 31, 63, 620) == pytest.approx(hypergeom.sf(17, 620, 63, 31), rel=1e-9)


def test_exchanging_clusters_is_mcnemar_where_each_pair_is_its_own() -> None:
    differences = np.repeat([1.0, -1.0, 0.0], [20, 9, 71])
    alone = st.flip(differences, [str(i) for i in range(100)], resamples=40_000)
    assert alone == pytest.approx(st.mcnemar(20, 9), abs=0.004)
    # twenty wins of two clusters against nine single losses: only both as they are reach that sum, in a quarter of the ways
    together = ["a"] * 10 + ["b"] * 10 + [str(i) for i in range(80)]
    assert st.flip(differences, together, resamples=40_000) == pytest.approx(1 / 4, abs=0.01)
    assert st.flip(np.zeros(5), list("abcde")) == 1.0
    with_scores = st.flip(np.array([0.5, 0.25]), ["a", "b"], resamples=40_000)
    assert with_scores == pytest.approx(1 / 4, abs=0.01)


# ---- several tests at once

def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.9, 0.8]) == [1.0, 1.0]
    assert st.holm([]) == []


def test_a_test_that_cannot_be_significant_costs_the_others_nothing() -> None:
    assert st.reachable([0.5, 0.001, 0.25, 0.002, 1.0], 0.05) == [1, 3]
    assert st.reachable([0.04, 0.04, 0.04], 0.05) == []  # one could be, three at once could not
    assert st.reachable([], 0.05) == []


# ---- intervals

def test_wilson_as_printed() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    printed = [(81, 263, .2553, .3662), (15, 148, .0624, .1605), (0, 20, 0, .1611), (1, 29, .0061, .1718)]
    for successes, trials, low, high in printed:
        assert st.wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)
    assert st.wilson(0, 0) == (0.0, 1.0)


def test_few_equal_pairs_are_no_proof_that_nothing_changed() -> None:
    assert st.paired(0, 0, 15)[0] < -0.1
    assert -0.05 < st.paired(0, 0, 100)[0] < 0
    lower, upper = st.paired(12, 3, 200)
    assert (lower, upper) == (pytest.approx(-st.paired(3, 12, 200)[1]), pytest.approx(-st.paired(3, 12, 200)[0]))


def test_the_paired_bounds_hold_what_they_promise() -> None:
    rng = np.random.default_rng(3)
    cells = rng.multinomial(80, [0.12, 0.06, 0.82], size=4000)
    missed = np.mean([st.paired(int(won), int(lost), 80)[0] > 0.06 for won, lost, _ in cells])
    assert missed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_pairs() -> None:
    differences = np.random.default_rng(5).choice([-1.0, 0.0, 1.0], p=[.08, .8, .12], size=2000)
    bounds = st.bootstrap(differences, [str(i) for i in range(2000)], seed=1)
    error = differences.std(ddof=1) / math.sqrt(2000)
    assert bounds.delta == pytest.approx(differences.mean())
    assert bounds.lower == pytest.approx(bounds.delta - 1.645 * error, abs=0.1 * error)
    assert bounds.upper == pytest.approx(bounds.delta + 1.645 * error, abs=0.1 * error)
    assert bounds.low == pytest.approx(bounds.delta - 1.96 * error, abs=0.1 * error)
    assert bounds.high == pytest.approx(bounds.delta + 1.96 * error, abs=0.1 * error)


def test_pairs_that_go_together_widen_the_interval() -> None:
    """Twenty copies of each pair tell as much as one: the interval is that of the clusters, not of the pairs."""
    few = np.random.default_rng(7).choice([-1.0, 0.0, 1.0], p=[.1, .75, .15], size=100)
    names = [str(i) for i in range(100)]
    alone = st.bootstrap(few, names, seed=1)
    copies = st.bootstrap(np.repeat(few, 20), np.repeat(names, 20), seed=1)
    blind = st.bootstrap(np.repeat(few, 20), [str(i) for i in range(2000)], seed=1)
    assert (copies.lower, copies.upper) == pytest.approx((alone.lower, alone.upper))
    assert blind.upper - blind.lower < 0.3 * (copies.upper - copies.lower)


def test_drawing_kinds_is_drawing_clusters() -> None:
    """The short way (kinds of clusters) against the long one (every cluster), on clusters of unequal size and scores."""
    rng = np.random.default_rng(11)
    clusters = rng.integers(0, 40, size=150)
    differences = np.where(rng.random(150) < 0.5, rng.normal(0.05, 0.2, size=150), 0.0)
    _, which = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(which, differences), np.bincount(which)
    drawn = rng.integers(0, len(sums), size=(20_000, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    bounds = st.bootstrap(differences, [str(c) for c in clusters], resamples=20_000, seed=2)
    spread = math.sqrt(len(sums) / (len(sums) - 1))
    for found, share in ((bounds.lower, 0.05), (bounds.upper, 0.95), (bounds.low, 0.025), (bounds.high, 0.975)):
        long_way = bounds.delta + (np.quantile(means, share) - bounds.delta) * spread
        assert found == pytest.approx(long_way, abs=0.06 * (bounds.high - bounds.low))


def test_the_bootstrap_depends_on_the_seed_and_not_on_the_order() -> None:
    rng = np.random.default_rng(13)
    differences, clusters = rng.choice([-1.0, 0.0, 1.0], size=300), rng.integers(0, 90, size=300).astype(str)
    shuffled = rng.permutation(300)
    assert st.bootstrap(differences, clusters, seed=4) == st.bootstrap(differences[shuffled], clusters[shuffled], seed=4)
    assert st.bootstrap(differences, clusters, seed=4) != st.bootstrap(differences, clusters, seed=5)


def test_one_cluster_alone_bounds_nothing() -> None:
    bounds = st.bootstrap(np.ones(50), ["a"] * 50)
    assert (bounds.lower, bounds.upper, bounds.not_below) == (-1.0, 1.0, 1.0)


def test_resamples_beyond_one_block_of_memory_are_all_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    differences, clusters = np.array([1.0, 0.0, -1.0, 1.0] * 10), [str(i) for i in range(40)]
    whole = st.bootstrap(differences, clusters, resamples=5000, seed=1)
    monkeypatch.setattr(st, "CELLS", 1000)
    in_blocks = st.bootstrap(differences, clusters, resamples=5000, seed=1)
    assert in_blocks.not_below == pytest.approx(whole.not_below, abs=0.03)
    assert in_blocks.not_below * 5001 == pytest.approx(round(in_blocks.not_below * 5001))


# ---- how many pairs

def test_pairs_needed_are_those_of_the_table() -> None:
    for delta, discordance, pairs in [(.10, .25, 188), (.05, .20, 620), (.03, .15, 1300), (.02, .12, 2347)]:
        assert abs(st.pairs_for_superiority(delta, discordance, sides=2) - pairs) <= 1
    for margin, discordance, pairs in [(.05, .20, 495), (.03, .15, 1030), (.02, .12, 1855)]:
        assert abs(st.pairs_for_noninferiority(margin, discordance) - pairs) <= 1


def test_the_pairs_needed_give_the_power_that_was_asked_for() -> None:
    pairs = st.pairs_for_superiority(0.06, 0.2)
    cells = np.random.default_rng(17).multinomial(pairs, [.13, .07, .8], size=3000)
    power = np.mean([st.mcnemar(int(won), int(lost)) <= 0.05 for won, lost, _ in cells])
    assert 0.72 < power < 0.84  # the exact test gives away some of the 0.8


def test_a_guard_that_is_slightly_worse_needs_more_pairs() -> None:
    assert st.pairs_for_noninferiority(0.05, 0.1, delta=-0.02) > 2 * st.pairs_for_noninferiority(0.05, 0.1)
    with pytest.raises(AssertionError, match="cannot be shown"):
        st.pairs_for_noninferiority(0.05, 0.1, delta=-0.06)


# ---- watching a rate

def alarmed(baseline: float, rates: list[tuple[int, float]], runs: int, alpha: float, seed: int) -> list[int | None]:
    """When each of `runs` streams alarmed (None: never); rates: (how long, rate) one after the other."""
    rng, when = np.random.default_rng(seed), []
    for _ in range(runs):
        watch = st.RateWatch(baseline, alpha)
        for long, rate in rates:
            for x in rng.random(long) < rate:
                watch.add(int(x))
                if watch.alarm:
                    break
            if watch.alarm:
                break
        when.append(watch.seen if watch.alarm else None)
    return when


@pytest.mark.parametrize(("baseline", "rate"), [(0.9, 0.9), (0.5, 0.5), (0.7, 0.75)])
def test_a_steady_rate_alarms_no_more_often_than_alpha_however_often_it_is_asked(baseline: float, rate: float) -> None:
    when = alarmed(baseline, [(400, rate)], 150, alpha=0.1, seed=19)
    assert sum(at is not None for at in when) <= 15 + 3 * math.sqrt(150 * 0.1 * 0.9)


def test_a_fallen_rate_alarms_soon() -> None:
    when = [at or 10_000 for at in alarmed(0.9, [(600, 0.75)], 60, alpha=0.05, seed=23)]
    assert np.median(when) < 100 and max(when) <= 600


def test_a_fall_after_a_long_good_time_is_seen_too() -> None:
    when = [at or 10_000 for at in alarmed(0.9, [(1000, 0.93), (600, 0.7)], 40, alpha=0.05, seed=29)]
    assert np.mean([1000 < at <= 1300 for at in when]) >= 0.9


def test_a_watch_of_scores_falls_with_their_mean_and_stays_alarmed() -> None:
    watch = st.RateWatch(0.8, alpha=0.05)
    for x in [0.8] * 300:
        watch.add(x)
    assert not watch.alarm
    for x in [0.4] * 300:
        watch.add(x)
    assert watch.alarm and watch.e >= 20
    for x in [1.0] * 2000:
        watch.add(x)
    assert watch.alarm and watch.e < 20  # what was seen once was seen
    assert watch.seen == 2600


def test_a_watch_of_a_steady_rate_expects_neither_gain_nor_loss() -> None:
    """All outcomes of four steps at the baseline rate: the expected e is 1 at every step."""
    for steps in (1, 2, 4):
        expected = 0.0
        for outcome in range(2**steps):
            bits, watch = [(outcome >> i) & 1 for i in range(steps)], st.RateWatch(0.7)
            for bit in bits:
                watch.add(bit)
            expected += math.prod(0.7 if bit else 0.3 for bit in bits) * watch.e
        assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1])
def test_a_baseline_of_all_or_nothing_is_refused(value: float) -> None:
    with pytest.raises(AssertionError, match="between 0 and 1"):
        st.RateWatch(value)


# ---- two arms

def test_two_arms_expect_at_most_one_whatever_the_common_rate() -> None:
    """All outcomes of one canary and two champions, twice: the expected e is never above 1 when the canary is no worse."""
    arms = [False, False, True, True, False, False]
    for canary, champion in [(0.5, 0.5), (0.8, 0.8), (0.97, 0.97), (0.7, 0.5), (0.95, 0.9)]:
        expected = 0.0
        for outcome in range(2**len(arms)):
            watch, chance = st.TwoArmWatch(), 1.0
            for i, arm in enumerate(arms):
                bit, rate = (outcome >> i) & 1, canary if arm else champion
                chance *= rate if bit else 1 - rate
                watch.add(bit, canary=arm)
            expected += chance * watch.e
        assert expected <= 1 + 1e-9


def test_a_worse_canary_alarms_and_an_equal_or_better_one_does_not() -> None:
    rng = np.random.default_rng(31)

    def alarms(canary: float, champion: float, turns: int, runs: int) -> int:
        count = 0
        for _ in range(runs):
            watch = st.TwoArmWatch(alpha=0.05)
            for arm, luck in zip(rng.random(turns) < 0.2, rng.random(turns)):
                watch.add(int(luck < (canary if arm else champion)), canary=bool(arm))
                if watch.alarm:
                    count += 1
                    break
        return count

    assert alarms(0.6, 0.9, 600, 20) >= 18
    assert alarms(0.8, 0.8, 400, 40) <= 5
    assert alarms(0.95, 0.8, 400, 20) == 0


def test_what_has_no_partner_yet_waits() -> None:
    watch = st.TwoArmWatch()
    for _ in range(50):
        watch.add(0, canary=True)
    assert watch.e == 1.0 and watch.seen == {"canary": 50, "champion": 0}
    watch.add(1, canary=False)
    assert watch.e > 1.0
