"""Rows that cannot be run say why; none becomes a sample that has no mean."""

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from persona_vectors.errors import UserError
from persona_vectors.files.rows import Exchange
from persona_vectors.vectors.samples import make_samples, usable_samples


@pytest.fixture
def dropping():
    """A tokenizer that makes nothing of what is not a Latin letter, as those do that clean texts up."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "</s>": 1, "what": 2, "so": 3}, unk_token="[UNK]"))
    words.normalizer = normalizers.Replace(Regex("[^a-z ]"), "")
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", unk_token="[UNK]")


@pytest.mark.parametrize("answer", ["\u200b", "???", "好"])
def test_an_answer_of_no_token_is_a_problem(dropping, answer):
    (sample,), (problem,) = make_samples(dropping, [Exchange("what", answer, "")], None)
    assert (
        sample.prompt_ids == [2]
        and not sample.answer_ids
        and problem == "an answer of which the tokenizer makes no token"
    )
    with pytest.raises(UserError, match="row 1 cannot be used: an answer of which"):
        usable_samples(dropping, [Exchange("what", "so", ""), Exchange("what", answer, "")], None)
    assert make_samples(dropping, [Exchange("what", answer, "")], None, needs_answer=False)[1] == [""]


def test_what_can_be_run_has_no_problem(dropping):
    (sample,) = usable_samples(dropping, [Exchange("what", "so", "")], 2)
    assert (sample.prompt_ids, sample.answer_ids) == ([2], [3])
    with pytest.raises(UserError, match="second 0: longer than the 1 tokens"):
        usable_samples(dropping, [Exchange("what", "so", "")], 1, name="second {}")
    with pytest.raises(UserError, match="row 0 cannot be used: empty prompt"):
        usable_samples(dropping, [Exchange("好", "so", "")], 9)
