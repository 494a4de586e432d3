"""Small chat templates and tokenizers that are built as those of thinking models are, and what such a model writes.

Written for the tests; texts are spelled out by hand, so that nothing of the library is needed to know what is right.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

ASK = [{"role": "user", "content": "Why?"}]


@dataclass(frozen=True)
class Structure:
    """A model family's template and tokens.

    ``writes`` is a whole answer after its thoughts, from the end of the prompt with thinking on; of that the prompt itself
    ends with ``opened``. ``without`` is what stands between prompt and answer where the thoughts are not known, with thinking
    on and off. ``key``: the message's key that the template reads thoughts from.
    """

    template: str
    special: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()  # tokens that decoding does not drop, as Qwen3's <think>
    writes: str = "<think>\n{r}\n</think>\n\n{a}"
    opened: str = ""
    without: tuple[str, str] = ("", "")
    key: str = "reasoning_content"

    def tokenizer(self):
        tokenizer = tiny_tokenizer(re.sub(r"\n +", "", self.template))  # lines that are broken here
        tokenizer.add_tokens(list(self.plain))
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *self.special]})
        return tokenizer

    def raw(self, reasoning: str, answer: str) -> str:
        """What the model writes after the prompt with thinking on."""
        return self.writes.format(r=reasoning, a=answer).removeprefix(self.opened)

    def context(self, reasoning: str) -> str:
        """The same, up to the answer."""
        return self.writes.partition("{a}")[0].format(r=reasoning).removeprefix(self.opened)


TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
THINK = ("<think>", "</think>")


def chatml(assistant: str, prompt: str = "{{ '<|im_start|>assistant\n' }}") -> str:
    """ChatML whose assistant's turns are written by ``assistant``."""
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}" + assistant
        + "{{ '<|im_end|>\n' }}{% else %}" + TURN + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}" + prompt + "{% endif %}"
    )  # fmt: skip


def after_block(opens: str, closes: str, key: str = "reasoning_content") -> str:
    """An assistant's turn with a block of thoughts where it has some."""
    return "{% if m." + key + " %}{{ '" + opens + "' + m." + key + " + '" + closes + "' }}{% endif %}{{ m.content }}"


OFF = "{% if enable_thinking is defined and not enable_thinking %}"
STRUCTURES = {
    # an empty block where thinking is off, and in the last answer
    "qwen3": Structure(
        chatml(
            "{% if loop.last %}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}{{ m.content }}",
            "{{ '<|im_start|>assistant\n' }}" + OFF + "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
        ),
        plain=THINK,
        without=("<think>\n\n</think>\n\n", ""),
    ),
    # the prompt opens the block; a conversation shows none
    "r1": Structure(
        chatml("{{ m.content.split('</think>')[-1] }}", "{{ '<|im_start|>assistant\n<think>\n' }}"),
        plain=THINK,
        opened="<think>\n",
        without=("\n</think>\n\n", "\n</think>\n\n"),
    ),
    # the same with a block that is closed where thinking is off, on one line
    "nemotron-2": Structure(
        chatml(
            "{{ m.content.split('</think>')[-1] }}",
            "{{ '<|im_start|>assistant\n' }}{% if enable_thinking %}{{ '<think>\n' }}{% else %}{{ '<think></think>' }}{% endif %}",
        ),
        plain=THINK,
        opened="<think>\n",
        without=("\n</think>\n\n", ""),
    ),
    # the prompt opens the block or closes it, by another switch
    "deepseek-v3.1": Structure(
        chatml(
            "{{ '</think>' + m.content }}",
            "{{ '<|im_start|>assistant\n' }}{% if thinking %}{{ '<think>' }}{% else %}{{ '</think>' }}{% endif %}",
        ),
        plain=THINK,
        writes="<think>{r}</think>{a}",
        opened="<think>",
        without=("</think>", ""),
    ),
    # line breaks stand otherwise
    "glm-4.5": Structure(
        chatml(
            "{{ '\n<think>' + (m.reasoning_content or '') + '</think>\n' + m.content }}",
            "{{ '<|im_start|>assistant\n' }}" + OFF + "{{ '\n<think></think>' }}{% endif %}",
        ),
        plain=THINK,
        writes="\n<think>{r}</think>\n{a}",
        without=("\n<think></think>\n", ""),
    ),
    "gpt-oss": Structure(
        """{% for m in messages %}{% if m.role == 'assistant' %}
        {% if m.thinking %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}
        {{ '<|start|>assistant<|channel|>final<|message|>' + m.content + '<|return|>' }}
        {% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}
        {% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}""",
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>"),
        writes="<|channel|>analysis<|message|>{r}<|end|><|start|>assistant<|channel|>final<|message|>{a}<|return|>",
        without=("<|channel|>final<|message|>",) * 2,
        key="thinking",
    ),
    "magistral": Structure(
        chatml("{{ m.content }}"), ("[THINK]", "[/THINK]"), writes="[THINK]{r}[/THINK]{a}",
    ),
    "seed-oss": Structure(
        chatml(after_block("<seed:think>", "</seed:think>\n")), ("<seed:think>", "</seed:think>"),
        writes="<seed:think>{r}</seed:think>\n{a}",
    ),
    "kimi-vl": Structure(chatml("{{ m.content }}"), ("◁think▷", "◁/think▷"), writes="◁think▷{r}◁/think▷{a}"),
    # every answer of a conversation has an empty block
    "kimi-k2": Structure(
        chatml("{{ '<think></think>' + m.content }}"), plain=THINK, writes="<think>{r}</think>{a}",
        without=("<think></think>",) * 2,
    ),
    "kimi-k3": Structure(
        """{% for m in messages %}{{ '<|open|>message role="' + m.role + '"<|sep|>' }}{% if m.role == 'assistant' %}
        {% if thinking %}{{ '<|open|>think<|sep|>' + (m.reasoning_content or '') + '<|close|>think<|sep|>' }}{% endif %}
        {{ '<|open|>response<|sep|>' + m.content + '<|close|>response<|sep|>' }}{% else %}{{ m.content }}{% endif %}
        {{ '<|close|>message<|sep|><|end_of_msg|>' }}{% endfor %}{% if add_generation_prompt %}
        {{ '<|open|>message role="assistant"<|sep|><|open|>' + ('think' if thinking else 'response') + '<|sep|>' }}{% endif %}""",
        ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"),
        writes="<|open|>think<|sep|>{r}<|close|>think<|sep|><|open|>response<|sep|>{a}"
        "<|close|>response<|sep|><|close|>message<|sep|><|end_of_msg|>",
        opened="<|open|>think<|sep|>",
        without=("<|close|>think<|sep|><|open|>response<|sep|>", ""),
    ),
    # a label after the opening mark; thinking on is said in the system turn
    "gemma-4": Structure(
        """{% if enable_thinking %}{{ '<|turn>system\n<|think|><turn|>\n' }}{% endif %}{% for m in messages %}
        {{ '<|turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content.split('<channel|>')[-1] + '<turn|>\n' }}
        {% endfor %}{% if add_generation_prompt %}{{ '<|turn>model\n' }}
        {% if not enable_thinking %}{{ '<|channel>thought\n<channel|>' }}{% endif %}{% endif %}""",
        ("<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>"),
        writes="<|channel>thought\n{r}<channel|>{a}<turn|>",
        without=("<|channel>thought\n<channel|>", ""),
    ),
    "command-a": Structure(
        chatml("{{ m.content }}"), ("<|START_THINKING|>", "<|END_THINKING|>"),
        writes="<|START_THINKING|>{r}<|END_THINKING|>{a}",
    ),
    # no tokens of their own: the template alone declares them
    "nemotron": Structure(
        chatml("{{ m.content.split('</think>')[-1] }}", "{{ '<|im_start|>assistant\n<think>\n' }}"),
        opened="<think>\n",
        without=("\n</think>\n\n",) * 2,
    ),
    "words": Structure(
        chatml(after_block("<thinking>\n", "\n</thinking>\n")), writes="<thinking>\n{r}\n</thinking>\n{a}",
    ),
    # names that nobody knows, shown by the template; the answer has a mark of its own
    "unheard-of": Structure(
        "{% for m in messages %}{{ '<|begin|>' + m.role }}"
        "{% if m.reasoning %}{{ '<|muse|>' + m.reasoning + '<|end|><|begin|>assistant' }}{% endif %}"
        "{{ '<|content|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|begin|>assistant' }}{% endif %}",
        ("<|begin|>", "<|muse|>", "<|content|>", "<|end|>"),
        writes="<|muse|>{r}<|end|><|begin|>assistant<|content|>{a}",
        without=("<|content|>",) * 2,
        key="reasoning",
    ),
}  # fmt: skip


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def scripted_model(folder: Path, tokenizer, scripts: dict[int, list[int]], length: int = 256) -> Path:
    """A GPT-2 that knows positions only: after a prompt of n tokens it writes ``scripts[n]``, and then an end token."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=length, n_embd=length // 2, n_layer=2, n_head=2, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "c_proj" in name or "wte" in name or "lm_head" in name:
                parameter.zero_()
        positions = torch.randn(length, length // 2)
        model.transformer.wpe.weight.copy_(positions - positions.mean(1, keepdim=True))
        for prompt_length, script in scripts.items():
            for k, token in enumerate([*script, 1]):
                model.lm_head.weight[token] += model.transformer.wpe.weight[prompt_length - 1 + k]
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
