"""What a month costs, and where a machine of one's own stops being dearer than an API."""

import math

import pytest

from tamis.evaluate.evidence import find
from tamis.evaluate.measure import absolute
from tamis.evaluate.spending import HOURS, SECONDS, break_even, capacity, month, spending
from tamis.recipe import Price

TOKENS = {"token_prices": {"input_per_million": 10.0, "output_per_million": 50.0}, "remote": True}
FIFTY = [{"items": 100, "answered": 100, "seconds": 2.0} for _ in range(12)]  # 50 a second, no spread


@pytest.fixture
def pair(evaluated):
    """A model that answers 50 requests a second, and an API of 0.30 for 1,000 requests (20 tokens in, 2 out)."""
    evaluated.add(right=[1] * 400, about={"batches": FIFTY})
    evaluated.add(system="api", right=[1] * 400, about=TOKENS | {"uses_arm": False})
    return find(evaluated.run, "main", "tuned"), find(evaluated.run, "main", "api")


def test_machines_are_for_the_peak_and_are_paid_day_and_night(pair):
    own, api = pair
    price = Price(machine_hour=2.0, utilisation=0.5, per_month=1e6, peak_rate=60, currency="EUR")

    assert capacity(own).value == pytest.approx(50)
    found = month(own, price)
    assert (found["machines"], found["money"]) == (3, pytest.approx(3 * 2 * HOURS))  # 60 / (50 x 0.5), upwards
    assert found["headroom"] == pytest.approx(3 * 50 / 60 - 1)
    paid = month(api, price)
    assert (paid["machines"], paid["money"]) == (None, pytest.approx(300))


def test_break_even_is_where_a_month_of_the_machine_costs_what_the_tokens_do(pair):
    own, api = pair
    price = Price(machine_hour=2.0, utilisation=0.5)

    found = break_even(own, api, price)

    assert found["per_month"] == pytest.approx(2 * HOURS / 0.0003)
    assert month(api, Price(per_month=found["per_month"]))["money"] == pytest.approx(2 * HOURS)


def test_a_price_is_not_that_of_another_machine(pair):
    own, api = pair  # measured on "a machine"

    assert month(own, Price(machine_hour=2.0, per_month=1e6, hardware="A Machine"))["machines"] == 1
    other = Price(machine_hour=2.0, per_month=1e6, hardware="H100")
    assert month(own, other)["money"] is None
    assert "measured on a machine, the price is that of H100" in month(own, other)["why"]
    assert absolute(own, "cost.usd_per_1k", price=other).n == 0
    assert break_even(own, api, other)["per_month"] is None
    assert month(api, other)["money"] == pytest.approx(300)  # paid by the token, wherever it runs


def test_a_machine_that_is_full_before_it_pays_never_pays(pair):
    own, api = pair
    dear = 0.0003 * 50 * 0.5 * SECONDS / HOURS * 1.01  # one per cent above the API's price of all it can answer

    assert break_even(own, api, Price(machine_hour=dear))["per_month"] == math.inf
    assert math.isfinite(break_even(own, api, Price(machine_hour=dear * 0.98))["per_month"])


def test_what_is_not_known_is_said_and_never_free(pair, evaluated):
    own, _ = pair
    evaluated.add(system="other", right=[1] * 400, about={"remote": True, "uses_arm": False})
    other = find(evaluated.run, "main", "other")
    price = Price(machine_hour=2.0, per_month=1e6)

    assert month(other, price)["money"] is None
    told = spending([own, other], price)
    assert "other: 1,000,000 requests a month cost an unknown sum" in told["lines"][1]
    assert "if they came evenly, which they never do" in told["lines"][0]
    assert told["break_even"] == []
    assert spending([own], Price())["lines"] == []


def test_the_lines_say_it_in_words(pair):
    told = spending(pair, Price(machine_hour=2.0, per_month=1e6, peak_rate=60, currency="EUR"))

    assert told["lines"] == [
        "main / tuned: 1,000,000 requests a month cost about 4,383.00 EUR: 3 machines for 60 requests a second at the "
        "peak; measured to answer 150% more than that.",
        "api: 1,000,000 requests a month cost about 300.00 EUR, paid by the token.",
        "main / tuned on a machine of your own against api by the token: the machine is cheaper from 4,870,000 "
        "requests a month on.",
    ]
