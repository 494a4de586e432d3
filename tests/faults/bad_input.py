"""What is wrong with an input, for every stage: how to break a folder, and the words in which it is refused."""

import json

import torch
from gguf_files import write_gguf
from helpers import tiny_model, tiny_tokenizer
from safetensors.torch import save_file

COMMON = {"--backend": "hf", "--trait_dir": ".", "--max_tokens": "4", "--n_per_question": "1"}
COMMANDS = {
    "eval.eval_persona": {"--model": "tiny", "--trait": "vile", "--output_path": "a.csv", "--vector_path": "v.pt",
                          "--coef": "1", "--layer": "2", **COMMON},
    "generate_vec": {"--model_name": "tiny", "--pos_path": "pos.csv", "--neg_path": "neg.csv", "--trait": "vile",
                     "--save_dir": "vectors"},
    "eval.cal_projection": {"--model_name": "tiny", "--file_path": "pos.csv", "--vector_path": "v.pt", "--layer": "2"},
    "eval.monitor": {"--model": "tiny", "--trait": "vile", "--vector_path": "v.pt", "--layer": "2", "--output_dir": "m",
                     **COMMON},
    "eval.judge": {"--file_path": "pos.csv", "--trait": "vile", "--trait_dir": ".", "--name": "again,sense"},
    "eval.projection_difference": {"--model_name": "tiny", "--file_path": "set.jsonl", "--vector_path": "v.pt",
                                   "--layer": "2", "--output_dir": "d", "--backend": "hf", "--max_tokens": "4"},
    "eval.finetuning_shift": {"--base_model": "tiny", "--model_list": "tiny", "--trait": "vile", "--trait_dir": ".",
                              "--vector_path": "v.pt", "--layer": "2", "--output": "s"},
    "eval.capability": {"--model": "tiny", "--vector_path": "v.pt", "--coef": "1", "--layer": "2", "--output": "c",
                        "--tasks": "perplexity,kl", "--max_tokens": "4", "--limit": "2"},
    "persona_vectors.bake": {"--model": "tiny", "--output_dir": "baked", "--vector_path": "v.pt", "--layer": "2"},
    "training": {"": "train.json"},
    "data_generation.generate_trait": {"--trait": "dour", "--description": "Is dour.", "--model": "m",
                                       "--output_dir": "."},
}  # fmt: skip
WITH_VECTOR = [name for name, flags in COMMANDS.items() if "--vector_path" in flags] + ["training"]
WITH_MODEL = [name for name in COMMANDS if name not in ("data_generation.generate_trait", "eval.judge")]


def arguments(stage, changes):
    flags = {**COMMANDS[stage], **changes}
    return [word for name, value in flags.items() for word in (name, value) if word != ""]


def as_it_is(_folder):
    """Nothing is broken: a flag will be."""


def save(vectors):
    return lambda folder: torch.save(vectors, folder / "v.pt")


def edit(path, **fields):
    """Change fields of a JSON file; ``steering_config__x`` is a field within another."""

    def change(folder):
        content = json.loads((folder / path).read_text())
        for name, value in fields.items():
            outer, _, inner = name.rpartition("__")
            (content[outer] if outer else content)[inner] = value
        (folder / path).write_text(json.dumps(content))

    return change


def write(path, content):
    def change(folder):
        (folder / path).unlink(missing_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def without(*paths):
    def change(folder):
        for path in paths:
            (folder / path).unlink()

    return change


def a_folder(path):
    def change(folder):
        (folder / path).unlink(missing_ok=True)
        (folder / path).mkdir()

    return change


def as_gguf(cut_at=None, **changes):
    """The model's folder holds a GGUF file and nothing else."""

    def change(folder):
        for path in (folder / "tiny").iterdir():
            path.unlink()
        file = write_gguf(folder / "tiny" / "m.gguf", tiny_model("qwen2"), tiny_tokenizer(), **changes)
        file.write_bytes(file.read_bytes()[:cut_at])

    return change


def trait(**fields):
    def change(folder):
        for version in ("extract", "eval"):
            edit(f"trait_data_{version}/vile.json", **fields)(folder)

    return change


ASKING = ["eval.eval_persona", "eval.monitor"]
GENERATING = [*ASKING, "eval.projection_difference"]
FLAGGED = [name for name in WITH_VECTOR if name != "training"]
RENDERING = [*ASKING, "eval.finetuning_shift"]
NOTHING = as_it_is

# name: (stages, what is done to the folder, flags to change, words of the refusal)
REFUSED = {
    "vectors in a dict": (WITH_VECTOR, save({"v": torch.ones(5, 32)}), {}, "must hold one float tensor"),
    "whole numbers": (FLAGGED[:1], save(torch.ones(5, 32, dtype=torch.long)), {}, "must hold one float tensor"),
    "one dimension": (WITH_VECTOR, save(torch.ones(32)), {}, "must hold one float tensor"),
    "another width": (WITH_VECTOR, save(torch.ones(5, 64)), {}, "64 wide"),
    "another depth": (WITH_VECTOR, save(torch.ones(9, 32)), {}, "9 rows"),
    "zeros": (WITH_VECTOR, save(torch.zeros(5, 32)), {}, "row 2 of"),
    "empty file": (FLAGGED[:1], write("v.pt", b""), {}, "EOFError"),
    "vectors are a folder": (WITH_VECTOR, a_folder("v.pt"), {}, "no vector file at"),
    "layer 9": (FLAGGED, NOTHING, {"--layer": "9"}, "does not exist"),
    "layer -1": (FLAGGED, NOTHING, {"--layer": "-1"}, "layer"),
    "layer nan": (FLAGGED, NOTHING, {"--layer": "nan"}, "whole number"),
    "layer of 5000 digits": (FLAGGED, NOTHING, {"--layer": "9" * 5000}, "whole number"),
    "coef nan": (["eval.eval_persona"], NOTHING, {"--coef": "nan"}, "--coef takes numbers"),
    "coef inf": (["eval.eval_persona"], NOTHING, {"--coef": "1,inf"}, "--coef takes numbers"),
    "coef overflows": (["eval.eval_persona", "persona_vectors.bake"], NOTHING, {"--coef": "1e39"}, "float32"),
    "n 0": (ASKING, NOTHING, {"--n_per_question": "0"}, "at least 1"),
    "n -1": (ASKING, NOTHING, {"--n_per_question": "-1"}, "at least 1"),
    "max_tokens 0": ([*GENERATING, "data_generation.generate_trait"], NOTHING, {"--max_tokens": "0"}, "at least 1"),
    "temperature": (["eval.eval_persona"], NOTHING, {"--temperature": "-1"}, "unknown flag"),
    "batch_size 0": (GENERATING, NOTHING, {"--batch_size": "0"}, "at least 1"),
    "threshold": (["generate_vec"], NOTHING, {"--threshold": "-1"}, "between 0 and 100"),
    "no tokenizer": (WITH_MODEL, without("tiny/tokenizer.json", "tiny/tokenizer_config.json"), {},
        "it has no tokenizer"),
    "no template": (RENDERING, without("tiny/chat_template.jinja"), {}, "no chat template"),
    "broken template": (RENDERING, write("tiny/chat_template.jinja", "{% if %}"), {}, "refused by the chat template"),
    "a template that refuses": (RENDERING, write("tiny/chat_template.jinja", "{{ raise_exception('no chats') }}"), {},
                                "no chats"),
    "config cut off": (WITH_MODEL, write("tiny/config.json", "{"), {}, "the folder is incomplete or damaged"),
    "config of another type": (WITH_MODEL, write("tiny/config.json", "[]"), {}, "cannot load"),
    "config with a text for a number": (WITH_MODEL, edit("tiny/config.json", num_hidden_layers="x"), {},
        "num_hidden_layers"),
    "GGUF of another architecture": (WITH_MODEL, as_gguf(general__architecture="rwkv7"), {},
        "cannot read the architecture rwkv7"),
    "GGUF file cut off": (WITH_MODEL, as_gguf(cut_at=50_000), {}, "is not a readable GGUF file"),
    "adapter cut off": (WITH_MODEL, write("tiny/adapter_config.json", "{"), {}, "which base model"),
    "adapter without a base": (WITH_MODEL, write("tiny/adapter_config.json", "{}"), {}, "which base model"),
    "adapter over a number": (WITH_MODEL, write("tiny/adapter_config.json", '{"base_model_name_or_path": 3}'), {},
                              "must name the adapter's base model"),
    "question is a number": ([*RENDERING, "eval.judge"], trait(questions=[1]), {}, "question 0"),
    "questions are a text": (RENDERING, trait(questions="what"), {}, "'questions'"),
    "instruction of lists": (RENDERING, trait(instruction=[["a", "b"]]), {}, "instruction pair 0"),
    "judge prompt is null": ([*RENDERING, "eval.judge"], trait(eval_prompt=None), {}, "'eval_prompt'"),
    "judge prompt with an attribute": (RENDERING, trait(eval_prompt="{question.__class__} {answer}"), {},
        "'eval_prompt'"),
    "half a character": (RENDERING, trait(questions=["\ud800"]), {}, "half a character"),
    "system prompts": (["eval.monitor"], write("monitoring/vile.json", '{"system_prompts": [1]}'), {},
        "'system_prompts'"),
    "answers are a folder": (["generate_vec"], a_folder("pos.csv"), {}, "no answers file"),
    "rows are a folder": (["eval.cal_projection", "eval.judge"], a_folder("pos.csv"), {}, "no file at"),
    "answers to correlate are a folder": (["eval.finetuning_shift"], a_folder("pos.csv"), {"--answers": "pos.csv"},
        "no answers"),
    "shifts are a folder": (["eval.projection_difference"], a_folder("pos.csv"), {"--shift_path": "pos.csv"},
        "cannot read"),
    "base answers are noise": (["eval.projection_difference"], write("b.jsonl", b"\xff\x00\xd9"),
        {"--base_answers": "b.jsonl"},
                               "not UTF-8"),
    "output is a folder": (["eval.eval_persona"], a_folder("a.csv"), {}, "a.csv"),
    "output under a file": (["eval.eval_persona"], NOTHING, {"--output_path": "v.pt/a.csv"}, "cannot write into"),
    "vectors under a file": (["generate_vec"], NOTHING, {"--save_dir": "v.pt/x"}, "cannot write into"),
    "folder under a file": ([*GENERATING[1:], "persona_vectors.bake", "data_generation.generate_trait"], NOTHING,
                            {"--output_dir": "v.pt/x"}, "cannot write into"),
    "tables under a file": (["eval.finetuning_shift"], NOTHING, {"--output": "v.pt/x"}, "cannot write into"),
    "config is a list": (["training"], write("train.json", "[]"), {}, "one JSON object"),
    "steered layer 9": (["training"], edit("train.json", steering_config__layers=[9]), {}, "steering_config.layers"),
    "steering_coef nan": (["training"], edit("train.json", steering_config__steering_coef=float("nan")), {},
        "steering_coef"),
    "steering_coef overflows": (["training"], edit("train.json", steering_config__steering_coef=1e39), {}, "float32"),
    "no modules": (["training"], edit("train.json", target_modules=[]), {}, "target_modules"),
    "learning rate inf": (["training"], edit("train.json", learning_rate=float("inf")), {}, "learning_rate"),
}  # fmt: skip
TAKEN = {
    "float16": (WITH_VECTOR, save(torch.ones(5, 32).half()), {}),
    "bfloat16": (FLAGGED, save(torch.ones(5, 32).bfloat16()), {}),
    "requires_grad": (WITH_VECTOR, save(torch.ones(5, 32, requires_grad=True)), {}),
    "safetensors": (FLAGGED[:2], lambda f: save_file({"v": torch.ones(5, 32)}, f / "v.safetensors"),
                    {"--vector_path": "v.safetensors"}),
    "any seed": (GENERATING, NOTHING, {"--seed": "-99999999999999999999999"}),
    "a folder with a GGUF file": (WITH_MODEL, as_gguf(), {}),
    "no template where none is needed": (["generate_vec", "eval.cal_projection"],
        without("tiny/chat_template.jinja"), {}),
}  # fmt: skip
BROKEN_WEIGHTS = {"no weights": None, "cut weights": 5000}
