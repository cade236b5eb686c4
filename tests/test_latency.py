"""Latency against the definitions of docs/explanation/latency.md, written in plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speckfarm_server.histogram import Histogram
from speckfarm_server.latency import Decision, Latency, Measured, decide, measure, merge

# A busy machine is no fault of the code.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MAGNITUDES = st.one_of(
    st.floats(1e-9, 1e9),
    st.integers(1, 1000).map(float),
    st.integers(-200, 200).map(lambda k: 1.02**k),
)
LAGS = st.one_of(MAGNITUDES, MAGNITUDES.map(lambda v: -v), st.just(0.0))
LAG_LISTS = st.lists(LAGS, max_size=60)
PERCENTS = st.sampled_from([0, 1, 25, 50, 75, 90, 99, 99.9, 100])


def test_figures_of_a_small_recording_are_as_counted_by_hand():
    inputs = [100, 200, 300, 400]
    outputs = [110.0, 205.0, 330.0, 420.5, 450.0]

    latency = _measure(inputs, outputs, [0, 1, 2, 3, -1]).latency

    assert latency == Latency(
        n=4,
        uncaused=1,
        method="exact",
        first_output_us=10.0,
        p50_us=10.0,
        p90_us=30.0,
        p99_us=30.0,
        max_us=30.0,
        drain_us=50.0,
    )


@pytest.mark.parametrize(("inputs", "outputs"), [([], []), ([5], []), ([], [7.0])])
def test_figures_without_lags_are_none_and_never_zero(inputs, outputs):
    latency = _measure(inputs, outputs, [-1] * len(outputs)).latency

    assert latency == Latency(n=0, uncaused=len(outputs), method="exact")


def test_uncaused_outputs_count_for_first_output_and_drain():
    latency = _measure([100, 200], [150.0, 260.0], [-1, -1]).latency

    assert (latency.first_output_us, latency.drain_us, latency.p50_us) == (50.0, 60.0, None)


def test_drain_is_zero_when_the_last_output_precedes_the_last_input():
    assert _measure([0, 1000], [10.0], [0]).latency.drain_us == 0.0


def test_negative_lags_are_kept_and_counted():
    latency = _measure([100, 200], [95.0, 203.0], [0, 1]).latency

    assert (latency.n, latency.p50_us, latency.max_us) == (2, -5.0, 3.0)


def test_raw_lags_keep_the_order_of_outputs_with_nan_for_uncaused():
    measured = _measure([100, 200], [101.0, 150.0, 207.5], [0, -1, 1])

    np.testing.assert_array_equal(measured.lags_us, [1.0, np.nan, 7.5])


def test_method_and_error_are_passed_on():
    latency = _measure([0], [3.0], [0], method="estimated", error_us=12.5).latency

    assert (latency.method, latency.error_us) == ("estimated", 12.5)


@PATIENT
@given(LAG_LISTS.filter(len), st.integers(0, 3))
def test_percentiles_of_one_recording_are_exact_nearest_ranks(lags, uncaused):
    causes = list(range(len(lags))) + [-1] * uncaused
    inputs = [0] * len(lags)
    outputs = lags + [1.0] * uncaused

    latency = _measure(inputs, outputs, causes).latency

    expected = [_nearest_rank(lags, q) for q in (50, 90, 99, 100)]
    assert [latency.p50_us, latency.p90_us, latency.p99_us, latency.max_us] == expected
    assert (latency.n, latency.uncaused) == (len(lags), uncaused)


@PATIENT
@given(st.floats(-500, 500), st.floats(0, 100), st.integers(30, 60), st.integers(2_000, 9_000))
def test_drift_is_the_slope_of_lags_that_grow_with_time(slope, offset, n, step_us):
    inputs = [number * step_us for number in range(n)]
    outputs = [t + offset + slope * t * 1e-6 for t in inputs]

    drift = _measure(inputs, outputs, list(range(n))).latency.drift_us_per_s

    assert drift == pytest.approx(slope, abs=1e-3)


@PATIENT
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e4)), min_size=30, max_size=50))
def test_drift_is_least_squares_and_none_below_50_ms(pairs):
    pairs.sort()
    inputs = [t for t, _ in pairs]

    measured = _measure(inputs, [t + lag for t, lag in pairs], list(range(len(pairs))))

    drift = measured.latency.drift_us_per_s
    if inputs[-1] - inputs[0] < 50_000:
        assert drift is None
    else:
        expected = _slope([t * 1e-6 for t in inputs], [float(lag) for lag in measured.lags_us])
        assert drift == pytest.approx(expected, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(("n", "span_us"), [(29, 500_000), (30, 49_999)])
def test_drift_is_none_below_its_bounds(n, span_us):
    inputs = [number * span_us // (n - 1) for number in range(n)]

    assert (
        _measure(inputs, [t + 1.0 for t in inputs], list(range(n))).latency.drift_us_per_s is None
    )


def test_drift_leaves_uncaused_outputs_out():
    inputs = [number * 10_000 for number in range(40)]
    outputs = [t + 5.0 for t in inputs] + [900_000.0]

    drift = _measure(inputs, outputs, [*range(40), -1]).latency.drift_us_per_s

    assert drift == pytest.approx(0.0, abs=1e-6)


@PATIENT
@given(LAG_LISTS.filter(len), PERCENTS)
def test_histogram_percentile_is_within_one_percent(lags, q):
    percentile = _histogram(lags).percentile(q)

    exact = _nearest_rank(lags, q)
    assert percentile is not None
    assert abs(percentile - exact) <= 0.01 * abs(exact)


@PATIENT
@given(LAG_LISTS.filter(len))
def test_histogram_keeps_both_ends_exactly(lags):
    histogram = _histogram(lags)

    assert (histogram.percentile(0), histogram.percentile(100)) == (min(lags), max(lags))


def test_histogram_without_lags_has_no_percentiles():
    assert Histogram.of_none(uncaused=3).percentile(50) is None


@PATIENT
@given(LAG_LISTS, st.integers(0, 5))
def test_histogram_survives_its_bytes(lags, uncaused):
    histogram = _histogram(lags, uncaused)

    again = Histogram.from_bytes(histogram.to_bytes())

    assert again.to_bytes() == histogram.to_bytes()
    assert (again.n, again.uncaused) == (len(lags), uncaused)
    assert again.percentile(50) == histogram.percentile(50)


def test_histogram_of_many_equal_lags_is_a_few_bytes():
    histogram = _histogram([7.0] * 100_000)

    assert len(histogram.to_bytes()) < 50
    assert Histogram.from_bytes(histogram.to_bytes()).n == 100_000


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x02" + bytes(40), Histogram.of_none().to_bytes() + b"x"]
)
def test_bytes_that_are_no_histogram_are_refused(data):
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_bytes(data)


@PATIENT
@given(LAG_LISTS, LAG_LISTS)
def test_merged_equals_the_histogram_of_both_in_any_order(first, second):
    a, b = _histogram(first, 1), _histogram(second, 2)

    together = _histogram(first + second, 3).to_bytes()

    assert a.merged(b).to_bytes() == together
    assert b.merged(a).to_bytes() == together


@PATIENT
@given(LAG_LISTS, LAG_LISTS, LAG_LISTS)
def test_merging_is_associative(first, second, third):
    a, b, c = _histogram(first), _histogram(second), _histogram(third)

    assert a.merged(b).merged(c).to_bytes() == a.merged(b.merged(c)).to_bytes()


@PATIENT
@given(st.lists(LAG_LISTS.filter(len), min_size=2, max_size=5))
def test_merge_gives_percentiles_over_all_recordings_within_one_percent(recordings):
    items = [_item(lags) for lags in recordings]

    merged = merge(items)

    everything = [lag for lags in recordings for lag in lags]
    assert (merged.n, merged.max_us) == (len(everything), max(everything))
    for q, percentile in ((50, merged.p50_us), (90, merged.p90_us), (99, merged.p99_us)):
        exact = _nearest_rank(everything, q)
        assert percentile is not None
        assert abs(percentile - exact) <= 0.01 * abs(exact)


def test_merge_takes_the_largest_drain_and_error_and_drops_first_output():
    first = _measure([0], [30.0], [0], method="estimated", error_us=2.0)
    second = _measure([0], [20.0, 90.0], [0, -1], method="estimated", error_us=9.0)

    merged = merge([(first.latency, first.histogram), (second.latency, second.histogram)])

    assert (merged.drain_us, merged.error_us, merged.uncaused) == (90.0, 9.0, 1)
    assert (merged.first_output_us, merged.drift_us_per_s, merged.method) == (
        None,
        None,
        "estimated",
    )


def test_merge_of_one_recording_keeps_its_exact_percentiles():
    measured = _measure([0, 0, 0], [1.003, 7.123, 9.0], [0, 1, 2])

    merged = merge([(measured.latency, measured.histogram)])

    assert (merged.p50_us, merged.first_output_us) == (7.123, None)


def test_merge_of_one_stored_row_takes_percentiles_from_its_histogram():
    histogram = _measure([0, 0], [5.0, 9.0], [0, 1]).histogram
    stored = Latency(n=2, uncaused=0, method="exact", drain_us=9.0)

    merged = merge([(stored, histogram)])

    assert (merged.p50_us, merged.max_us, merged.drain_us) == (5.0, 9.0, 9.0)


def test_merge_of_nothing_has_no_lags():
    assert merge([]) == Latency(n=0, uncaused=0, method="exact")


def test_merge_refuses_to_mix_exact_and_estimated():
    exact, estimated = _measure([0], [1.0], [0]), _measure([0], [1.0], [0], method="estimated")

    with pytest.raises(ValueError, match="never merged"):
        merge([(item.latency, item.histogram) for item in (exact, estimated)])


@PATIENT
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=40))
def test_decide_equals_a_prediction_after_every_moment(spikes):
    spikes.sort(key=lambda spike: spike[0])

    decision = _decide(spikes, features=5, first_input_us=-3.0)

    expected, settled = _decide_by_brute_force(spikes, features=5)
    assert decision.prediction == expected
    assert decision.counts.tolist() == [sum(f == k for _, f in spikes) for k in range(5)]
    assert decision.decision_us == (None if settled is None else settled + 3.0)


@PATIENT
@given(st.permutations([(1, 0), (1, 1), (1, 1), (2, 0), (2, 1), (2, 0), (3, 1)]))
def test_decide_does_not_depend_on_the_order_of_its_outputs(spikes):
    decision = _decide(spikes, features=2, first_input_us=0.0)

    assert (decision.prediction, decision.decision_us) == (1, 3.0)


def test_ties_go_to_the_lowest_feature():
    assert _decide([(1, 3), (2, 1)], features=4, first_input_us=0.0).prediction == 1


def test_silence_predicts_minus_one():
    decision = _decide([], features=3, first_input_us=0.0)

    assert (decision.prediction, decision.decision_us) == (-1, None)
    assert decision.counts.tolist() == [0, 0, 0]


def test_decision_time_is_none_without_input():
    assert _decide([(4, 2)], features=3, first_input_us=None).decision_us is None


def test_a_million_outputs_of_a_thousand_features_are_decided():
    rng = np.random.default_rng(1)
    t_us = np.sort(rng.random(1_000_000)) * 1e6
    feature = rng.integers(0, 1000, 1_000_000, np.uint16)

    decision = decide(output_t_us=t_us, feature=feature, features=1000, first_input_us=0.0)

    counts = np.bincount(feature)
    assert decision.prediction == counts.argmax()
    assert decision.decision_us is not None
    assert 0 < decision.decision_us <= 1e6


def _measure(inputs, outputs, causes, **how) -> Measured:
    return measure(
        input_t_us=np.array(inputs, np.int64),
        output_t_us=np.array(outputs, np.float64),
        cause=np.array(causes, np.int64),
        **how,
    )


def _decide(spikes, *, features, first_input_us) -> Decision:
    return decide(
        output_t_us=np.array([t for t, _ in spikes], np.float64),
        feature=np.array([f for _, f in spikes], np.uint16),
        features=features,
        first_input_us=first_input_us,
    )


def _histogram(lags, uncaused=0) -> Histogram:
    return Histogram.of(np.array(lags + [math.nan] * uncaused, np.float64))


def _item(lags):
    measured = _measure([0] * len(lags), lags, list(range(len(lags))))
    return measured.latency, measured.histogram


def _nearest_rank(values, q):
    rank = max(1, math.ceil(Fraction(str(q)) * len(values) / 100))
    return sorted(values)[rank - 1]


def _slope(xs, ys):
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    above = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return above / math.fsum((x - mean_x) ** 2 for x in xs)


def _decide_by_brute_force(spikes, *, features):
    """The prediction after every moment; the last change is the decision."""
    prediction, settled = -1, None
    for moment in sorted({t for t, _ in spikes}):
        counts = [sum(t <= moment and f == k for t, f in spikes) for k in range(features)]
        now = counts.index(max(counts))
        if now != prediction:
            prediction, settled = now, moment
    return prediction, settled
