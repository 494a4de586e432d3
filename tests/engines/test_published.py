"""The published names over vLLM itself: a ``vllm.LLM`` as users' own files drive it, with and without an adapter."""

import os

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from helpers import tiny_model, tiny_tokenizer
from vllm_models import make_adapter, spare_inspection

import persona_vectors.published  # noqa: F401
from persona_vectors.engines.vllm.engine import available
from persona_vectors.errors import UserError

# isort: split
from eval.model_utils import load_vllm_model

from eval.eval_persona import Question, eval_batched, sample

reason = available()
pytestmark = pytest.mark.skipif(reason is not None, reason=f"load_vllm_model is not tested here: {reason}")
CHATS = [[{"role": "user", "content": text}] for text in ("what is it", "the", "answers the question of the model")]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """What load_vllm_model gives, and {adapter or None: the greedy answers of transformers, as token ids}."""
    from peft import PeftModel

    spare_inspection("Qwen2ForCausalLM")
    base, tokenizer = tmp_path_factory.mktemp("vllm") / "base", tiny_tokenizer()
    model = tiny_model("qwen2", hidden_size=128, intermediate_size=256, head_dim=32)
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = make_adapter(base.parent / "adapter", str(base))
    expected = {}
    for path in (None, adapter):
        asked = PeftModel.from_pretrained(model, adapter).eval() if path else model
        texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in CHATS]
        ids = [tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
        options = {"do_sample": False, "min_new_tokens": 1, "max_new_tokens": 10, "pad_token_id": 2}
        expected[path] = [asked.generate(input_ids=row, **options)[0, row.shape[1] :].tolist() for row in ids]
    llm, tokenizer, lora_path = load_vllm_model(adapter)
    yield (llm, tokenizer, lora_path), expected
    llm.llm_engine.engine_core.shutdown()


def test_samples_equal_transformers_with_and_without_the_adapter(loaded):
    (llm, tokenizer, lora_path), expected = loaded
    assert tokenizer.padding_side == "left" and lora_path in expected
    for path, rows in expected.items():
        prompts, answers = sample(llm, tokenizer, CHATS, temperature=0, max_tokens=10, lora_path=path)
        assert prompts[1] == "<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\n"
        assert answers == [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows]
    assert expected[None] != expected[lora_path]


def test_a_users_own_sampling_drives_the_same_model(loaded):
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    (llm, tokenizer, lora_path), expected = loaded
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in CHATS]
    params = SamplingParams(temperature=0, max_tokens=10, min_tokens=1, stop=[tokenizer.eos_token])
    adapter = LoRARequest("default", 1, lora_path=lora_path)
    made = llm.generate(texts, sampling_params=params, use_tqdm=False, lora_request=adapter)
    assert [list(one.outputs[0].token_ids) for one in made] == expected[lora_path]
    again = sample(llm, tokenizer, CHATS * 3, max_tokens=12, min_tokens=12)[1]
    assert len({*again}) > 3, "drawn at temperature 1, anew each time"


def test_a_batch_is_asked_without_steering_only(loaded):
    (llm, tokenizer, _), expected = loaded

    async def length(question, answer):
        return len(answer.split())

    question = Question("q", ["what is it"], {}, temperature=0)
    question.judges = {"words": length}
    (table,) = asyncio.run(eval_batched([question], llm, tokenizer, 0, n_per_question=2, max_tokens=10))
    text = tokenizer.decode(expected[None][0], skip_special_tokens=True)
    assert table["answer"].tolist() == [text] * 2 and table["words"].tolist() == [len(text.split())] * 2
    with pytest.raises(UserError, match="takes load_model's model"):
        asyncio.run(eval_batched([question], llm, tokenizer, 1.0, [0.0] * 128, 2, steering_type="all"))
    with pytest.raises(UserError, match="neither a local folder"):
        load_vllm_model("./nowhere/at/all")
