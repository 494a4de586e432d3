"""What calls cost: the table, limits, and counting tokens without a model or a download."""

import json
import threading

import pytest

from persona_vectors.errors import TooExpensive, UserError
from persona_vectors.judge.endpoint import Counts
from persona_vectors.judge.prices import Amount, Budget, Costs, Price, in_dollars, read_prices
from persona_vectors.judge.tokens import AROUND_A_MESSAGE, counter_of
from persona_vectors.models import chat_template


def test_a_dated_name_has_the_price_of_its_model_and_batches_cost_half():
    prices = read_prices()
    assert prices.price("gpt-4.1-mini-2025-04-14") == prices.price("gpt-4.1-mini") == Price(0.4, 1.6)
    assert prices.price("gpt-4.1-mini", batch=True) == Price(0.2, 0.8)
    assert prices.price("gpt-4.1-mini-2025") is None and prices.price("toy-judge") is None
    assert Price(0.4, 1.6).of(1_000_000, 500_000) == pytest.approx(1.2)
    assert "2026" in prices.said


def test_a_file_of_ones_own_takes_the_place_of_the_table(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"date": "2030-01", "batch": 0.25, "models": {"m": {"input": 8, "output": 0}}}))
    prices = read_prices(str(path))
    assert prices.price("m", batch=True) == Price(2, 0) and prices.price("gpt-4.1-mini") is None
    assert prices.said == "p.json of 2030-01"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "must hold one JSON object"),
        ("{}", "it has no models"),
        ('{"models": {}}', "it has no models"),
        ('{"models": {"m": 3}}', "m has 3"),
        ('{"models": {"m": {"input": 1}}}', "m has {'input': 1}"),
        ('{"models": {"m": {"input": -1, "output": 1}}}', "m has"),
        ('{"models": {"m": {"input": true, "output": 1}}}', "m has"),
        ('{"models": {"m": {"input": NaN, "output": 1}}}', "m has|not readable|NaN"),
        ('{"models": {"m": {"input": 1, "output": 1}}, "batch": "half"}', "batch is the part of a price"),
    ],
)
def test_another_form_is_refused(tmp_path, content, said):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(UserError, match=said.replace("{", r"\{").replace("'", ".")):
        read_prices(str(path))


def test_dollars_are_rounded_up():
    assert [in_dollars(x) for x in (0, 0.00001, 0.1, 1, 1.001, 1234.5)] == [
        "$0.00", "$0.0001", "$0.1000", "$1.00", "$1.01", "$1,234.50",
    ]  # fmt: skip


def budget(limit, **counts):
    return Budget(limit, Price(1e6, 0), Counts(**counts), len)  # a dollar a character


def test_a_budget_counts_calls_before_they_are_made_and_then_what_they_used():
    one = budget(10)
    assert one.reserve("x" * 6, 1) == 6 and one.reserve("x" * 5, 1) is None and one.reserve("x" * 4, 1) == 4
    one.settle(6)
    one.counts.tokens_in = 3  # the endpoint says that it was less
    assert one.paid == 3 and one.reserve("x" * 3, 1) == 3 and one.reserve("x", 1) is None
    one.settle(4, made=False)
    assert one.reserve("x" * 4, 1) == 4
    silent = budget(10, unmetered=1)  # an endpoint that says nothing: as counted
    silent.settle(silent.reserve("x" * 9, 1))
    assert silent.paid == 9 and silent.reserve("xx", 1) is None and not silent.under_way


def test_a_budget_holds_for_many_threads_at_once():
    one, taken = budget(1000), []
    work = [threading.Thread(target=lambda: taken.extend(one.reserve("x", 0) for _ in range(500))) for _ in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert taken.count(1) == 1000 and taken.count(None) == 1000


def test_a_limit_needs_a_price_and_refuses_what_is_known_to_cost_more():
    with pytest.raises(UserError, match=r"price of gpt-4.1-mimi.*did you mean gpt-4.1-mini\?.*--prices"):
        Costs(read_prices(), 1.0).check("gpt-4.1-mimi")
    Costs(read_prices()).check("anything")
    costs = Costs(read_prices(), 1.0)
    costs.refuse(Amount(0.9, None, 30))  # it may be enough
    costs.refuse(Amount(0.5, 1.0, 30))
    for amount in (Amount(1.1, None, 30), Amount(0.5, 1.2, 30), Amount(2, 2, 2)):
        with pytest.raises(TooExpensive) as refused:
            costs.refuse(amount)
        assert refused.value.exit_code == 3


def test_tokens_are_counted_by_the_judges_own_tokenizer_where_it_is_here(
    qwen2_folder, tokenizer, monkeypatch, tmp_path
):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))  # nothing was fetched, and nothing is
    texts = ["what is it", "the model answers the question <|im_end|>", ""]
    own = counter_of(str(qwen2_folder))
    rendered = [chat_template.render(tokenizer, [{"role": "user", "content": text}]) for text in texts]
    assert own.exact and own.total(texts) == sum(len(chat_template.token_ids(tokenizer, text)) for text in rendered)
    other = counter_of("gpt-4.1-mini", tokenizer, "tiny")
    assert not other.exact and "tokenizer of tiny" in other.said
    plain = len(tokenizer(texts[0], add_special_tokens=False)["input_ids"])
    assert other(texts[0]) == plain + AROUND_A_MESSAGE
    rough = counter_of("gpt-4.1-mini")
    assert rough("x" * 9) == 3 + AROUND_A_MESSAGE and "4 characters" in rough.said
    assert not list(tmp_path.iterdir())
