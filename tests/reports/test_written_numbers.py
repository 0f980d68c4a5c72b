"""How numbers are written: the specification, as a table."""

import math

import pytest

from tamis.reports import written_numbers as written

NAN, INF = math.nan, math.inf

NUMBERS = [(0, "0"), (0.01234, "0.0123"), (9.996, "10.0"), (12.345, "12.3"), (1234.5, "1,234"), (-5.5, "−5.50"),
           (52002, "52,002"), (1e-9, "1.0e-09"), (INF, "infinite"), (-INF, "−infinite"), (NAN, "not measured"),
           (None, "not measured")]  # fmt: skip
SHARES = [(0, "0%"), (1, "100%"), (0.9333, "93.3%"), (0.00001, "<0.1%"), (0.99996, ">99.9%"), (0.1, "10.0%"),
          (None, "not measured"), (NAN, "not measured")]  # fmt: skip
POINTS = [(0.055, "+5.5 points"), (-0.0551, "−5.5 points"), (0, "0.0 points"), (0.0001, "±0.0 points"),
          (None, "not measured")]  # fmt: skip
TIMES = [(842, "842 ms"), (0.0201, "0.0201 ms"), (0.000299, "<0.01 ms"), (0, "0 ms"),
         (1270.4, "1,270 ms"), (12_345, "12.3 s"), (INF, "infinite"),
         (None, "not measured")]  # fmt: skip
MONEY = [(0.0966, "USD", "$0.0966"), (0.9, "USD", "$0.90"), (5.261, "EUR", "€5.26"), (12_345.6, "USD", "$12,346"),
         (0.00000481, "USD", "$0.0000048"), (0.0000001, "USD", "<$0.000001"), (0, "USD", "$0.00"),
         (25_000, "VND", "VND 25,000"), (-1.5, "USD", "−$1.50"), (None, "USD", "not measured")]  # fmt: skip
DURATIONS = [(0.4, "0.4 s"), (45.2, "45 s"), (204, "3 min 24 s"), (59.7, "1 min 00 s"), (7500, "2 h 05 min"),
             (None, "not measured")]  # fmt: skip
MEMORY = [(812.3, "812 MB"), (2310, "2.31 GB"), (None, "not measured")]
P_VALUES = [(0.0312, "p = 0.031"), (0.0001, "p < 0.001"), (0.45, "p = 0.45"), (None, "p not measured")]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_a_number_has_three_significant_digits(value, text):
    assert written.number(value) == text


@pytest.mark.parametrize(("value", "text"), SHARES)
def test_only_everything_is_100_per_cent_and_only_nothing_0(value, text):
    assert written.share(value) == text


@pytest.mark.parametrize(("value", "text"), POINTS)
def test_a_difference_of_shares_is_in_points_and_signed(value, text):
    assert written.points(value) == text


@pytest.mark.parametrize(("value", "text"), TIMES)
def test_times_stay_milliseconds_below_ten_seconds(value, text):
    assert written.milliseconds(value) == text


@pytest.mark.parametrize(("value", "currency", "text"), MONEY)
def test_money_looks_like_a_price_and_never_vanishes(value, currency, text):
    assert written.money(value, currency) == text


@pytest.mark.parametrize(("value", "text"), DURATIONS)
def test_durations_use_the_units_people_say(value, text):
    assert written.duration(value) == text


@pytest.mark.parametrize(("value", "text"), MEMORY)
def test_memory_turns_to_gigabytes_at_a_thousand(value, text):
    assert written.megabytes(value) == text


@pytest.mark.parametrize(("value", "text"), P_VALUES)
def test_tiny_p_values_are_not_written_out(value, text):
    assert written.p_value(value) == text


SAID = [
    ("lose -2.2 points (-3 to -.5)", "lose −2.2 points (−3 to −.5)"),
    ("falls as rows^-0.31", "falls as rows^−0.31"),
    ("SmolLM2-135M on 2026-11-24, 3-5 rows, --rows 5, a -b", "SmolLM2-135M on 2026-11-24, 3-5 rows, --rows 5, a -b"),
]


@pytest.mark.parametrize(("sentence", "text"), SAID)
def test_a_sentence_of_another_part_gets_real_minus_signs_and_keeps_its_dashes(sentence, text):
    assert written.said(sentence) == text


BY_METRIC = [
    ("accuracy", 0.9333, None, "93.3%"),
    ("macro_f1", 0.9312, None, "0.931"),
    ("chrf", 54.23, None, "54.2"),
    ("latency.e2e.p95", 842.0, "ms", "842 ms"),
    ("latency.ttft.p99", INF, "ms", "infinite"),
    ("load.throughput", 14.37, "requests/s", "14.4/s"),
    ("load.throughput", 7_832_306, "requests/s", "7.83M/s"),
    ("load.throughput", INF, "requests/s", "infinite/s"),
    ("cost.usd_per_1k", 0.0966, "USD", "$0.0966"),
    ("cost.eur_per_correct", 1.5, None, "€1.50"),
    ("perplexity", 12.345, None, "12.3"),
    ("my_own_metric", 0.5, None, "0.500"),
    ("accuracy", None, None, "not measured"),
]


@pytest.mark.parametrize(("metric", "value", "unit", "text"), BY_METRIC)
def test_a_value_is_written_as_its_metric_is(metric, value, unit, text):
    assert written.measured(metric, value, unit) == text


def test_differences_carry_the_unit_and_the_sign():
    assert written.difference("latency.e2e.p95", -120.0, "ms") == "−120 ms"
    assert written.difference("cost.usd_per_1k", 0.02, "USD") == "+$0.02"
    assert written.difference("accuracy", 0.055) == "+5.5 points"


INTERVALS = [
    ("accuracy", 0.904, 0.953, None, "absolute", "90.4 – 95.3%"),
    ("accuracy", -0.021, 0.035, None, "delta", "−2.1 to +3.5 points"),
    ("latency.e2e.p95", 495.0, 577.0, "ms", "absolute", "495 – 577 ms"),
    ("latency.e2e.p95", 9000.0, 12_000.0, "ms", "absolute", "9,000 ms – 12.0 s"),
    ("latency.e2e.p99", 495.0, None, "ms", "absolute", "495 ms – unresolved"),
    ("cost.usd_per_1k", 0.0943, 0.099, "USD", "absolute", "$0.0943 – 0.0990"),
    ("accuracy", None, None, None, "absolute", "–"),
    ("load.throughput", 7.23e6, 8.43e6, "requests/s", "absolute", "7.23 – 8.43M/s"),
    ("load.throughput", 9e5, 2e6, "requests/s", "absolute", "900,000/s – 2.00M/s"),
    ("latency.e2e.p50", 0.00029, 0.0003, "ms", "absolute", "<0.01 ms"),
    ("latency.e2e.p50", 0.9, 1.31, "ms", "ratio", "0.900 – 1.31×"),
]


@pytest.mark.parametrize(("metric", "lower", "upper", "unit", "of", "text"), INTERVALS)
def test_an_interval_names_its_unit_once_and_says_which_bound_is_unresolved(metric, lower, upper, unit, of, text):
    assert written.limits(metric, lower, upper, unit, of) == text


@pytest.mark.parametrize(
    ("text", "short"),
    [("25.0%", "25%"), ("0.0100 ms", "0.01 ms"), ("1,000 ms", "1,000 ms"), ("100%", "100%"), ("2.50", "2.5")],
)
def test_axis_ticks_drop_the_zeros_after_the_point_only(text, short):
    assert written.tick(text) == short
