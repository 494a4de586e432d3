"""A real instruct model: it is the pinned file's, it speaks sense, takes a system prompt, is read and steered as the toy is."""

import torch
from gguf import GGUFReader, dequantize
from helpers import plain_loop
from real_model import FOLDER, LAYER, prompt_ids

from persona_vectors import models
from persona_vectors.engines import Request, Sampling
from persona_vectors.models import chat_template, gguf_conversion
from persona_vectors.models.packaged import MODELS
from persona_vectors.vectors.activations import POOLS, pooled_activations


def greedy(engine, *asked: Request, max_tokens: int = 24) -> list[str]:
    found = {answer.key: answer.text for answer in engine.generate(asked, Sampling(max_tokens, temperature=0))}
    return [found[request.key] for request in asked]


def test_it_is_the_pinned_file_with_its_licence(engine):
    (file,) = (FOLDER / "gguf").glob("*.gguf")
    assert gguf_conversion.sha256(file) == MODELS["smollm2"].file_sha256
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    weights = engine.model.state_dict()
    tensors = {tensor.name: tensor for tensor in GGUFReader(file).tensors}
    for theirs, ours in (("token_embd", "embed_tokens"), ("blk.17.ffn_down", "layers.17.mlp.down_proj")):
        tensor = tensors[f"{theirs}.weight"]
        expected = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        assert torch.equal(weights[f"model.{ours}.weight"], expected), theirs


def test_shape_and_stops(path, engine):
    assert models.describe(path) == models.Shape(30, 576, 8192)
    assert engine.tokenizer.eos_token == "<|im_end|>" and engine.model.generation_config.eos_token_id == [2]


def test_its_tokenizer_takes_digits_one_by_one(engine):
    """As the original does; transformers' own reader of the file would split the two line ends."""
    ids = chat_template.token_ids(engine.tokenizer, "a list:\n\n12 it's")
    assert engine.tokenizer.convert_ids_to_tokens(ids)[-5:] == ["ĊĊ", "1", "2", "Ġit", "'s"]
    for text in ("<|im_start|>user\nhi<|im_end|>", "Grüße, 世界 \U0001f642"):
        assert engine.tokenizer.decode(chat_template.token_ids(engine.tokenizer, text)) == text


def test_greedy_answers_make_sense_and_follow_the_system_prompt(engine):
    capital, pirate, cat = greedy(
        engine,
        Request("capital", prompt_ids(engine.tokenizer, "What is the capital of France?")),
        Request(
            "pirate", prompt_ids(engine.tokenizer, "Who are you?", "You are a pirate. You always speak like a pirate.")
        ),
        Request("cat", prompt_ids(engine.tokenizer, "What is your name?", "You are a cat named Felix. Say so.")),
    )
    assert capital == "The capital of France is Paris." and "Felix" in cat
    assert any(word in pirate.lower() for word in ("aye", "arr", "matey", "pirate", "captain")), pirate


def test_the_chat_template_of_the_file(engine):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
    assert chat_template.render(engine.tokenizer, messages) == text
    assert "named SmolLM, trained by Hugging Face" in chat_template.render(engine.tokenizer, messages[1:])
    assert not chat_template.folds_system_prompt(engine.tokenizer)


def test_extraction_equals_the_plain_loop(engine, samples):
    both = [*samples["pos"], *samples["neg"]]
    expected = plain_loop(engine.model, both)
    for indices, pooled in pooled_activations(engine.model, both):
        for pool in POOLS:
            scale = expected[pool].abs().amax(dim=(0, 2), keepdim=True)
            assert ((pooled[pool] - expected[pool][indices]).abs() / scale).max() < 1e-4, pool


def test_steering_is_the_vector_added_to_the_block_s_output(steered, vectors):
    """The engine's greedy answers, from batches and a cache, against the plain hook."""
    for key, (ids, logits) in steered.items():
        assert logits.argmax(-1).tolist() == ids, key
    for name in ("capital", "pirate", "fruits"):
        texts = {tuple(steered[f"{name} {how}"][0]) for how in ("none", "4 response", "-4 response")}
        assert len(texts) == 3, f"steering does not change the answer to {name}"
    assert vectors[LAYER].norm() > 1
