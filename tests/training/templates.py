"""Small chat templates that are built as those of real families are, and the tokens that each family stops at.

Written for the tests; each says in a line what is special about the family.
"""

from dataclasses import dataclass

from helpers import tiny_tokenizer
from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Family:
    """A template, the special tokens that it writes, the tokenizer's end token, and all that generation stops at."""

    template: str
    special: tuple[str, ...]
    eos: str
    stops: tuple[str, ...]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        tokenizer = tiny_tokenizer("".join(line.strip() for line in self.template.split("\n")))
        tokenizer.add_special_tokens({"additional_special_tokens": [*self.special, *self.stops, self.eos]})
        tokenizer.add_tokens(["<think>", "</think>"])  # whole tokens that are not special, as Qwen3 has them
        tokenizer.eos_token = self.eos
        return tokenizer

    def stop_ids(self, tokenizer) -> list[int]:
        return tokenizer.convert_tokens_to_ids([*self.stops, self.eos])


CHATML = ("<|im_start|>", "<|im_end|>")
QWEN_STOPS = ("<|im_end|>", "<|endoftext|>")
THOUGHTS_APART = r"""
{%- set thoughts = m.reasoning_content or '' -%}{%- set content = m.content -%}
{%- if '</think>' in content -%}
{%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
"""

FAMILIES = {
    # tool results and tool calls have places of their own
    "qwen2.5": Family(
        r"""{% for m in messages %}
        {%- if m.role == 'tool' -%}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}
        {%- else -%}{{ '<|im_start|>' + m.role + '\n' + m.content }}
        {%- for call in m.tool_calls or [] -%}{{ '\n<tool_call>\n' + call.function.name + '\n</tool_call>' }}{%- endfor -%}
        {{ '<|im_end|>\n' }}{%- endif -%}
        {%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}""",
        CHATML, "<|im_end|>", QWEN_STOPS,
    ),
    # an empty block of thoughts in the last answer, and in the prompt where thinking is off; none in earlier turns
    "qwen3": Family(
        r"""{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"""
        + THOUGHTS_APART
        + r"""{%- if loop.last -%}{{ '<think>\n' + thoughts + '\n</think>\n\n' }}{%- endif -%}{{ content }}
        {%- else -%}{{ m.content }}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}
        {%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}
        {%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}{%- endif -%}
        {%- endif -%}""",
        CHATML, "<|im_end|>", QWEN_STOPS,
    ),
    # the prompt always opens a block of thoughts, and so does the last answer
    "qwen3-thinking": Family(
        r"""{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"""
        + THOUGHTS_APART
        + r"""{%- if loop.last -%}{{ '<think>\n' + thoughts + '\n</think>\n\n' }}{%- endif -%}{{ content }}
        {%- else -%}{{ m.content }}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}
        {%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n<think>\n' }}{%- endif -%}""",
        CHATML, "<|im_end|>", QWEN_STOPS,
    ),
    # the prompt opens a block of thoughts; a conversation shows none, not even the last answer's
    "r1": Family(
        r"""{{ bos_token }}{% for m in messages %}
        {%- if m.role == 'system' -%}{{ m.content }}
        {%- elif m.role == 'user' -%}{{ '<|User|>' + m.content }}
        {%- else -%}{{ '<|Assistant|>' + m.content.split('</think>')[-1] + '<|end_of_sentence|>' }}{%- endif -%}
        {%- endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}""",
        ("<|User|>", "<|Assistant|>"), "<|end_of_sentence|>", (),
    ),
    # a block of thoughts in every answer, from their key alone: thoughts in the text would come after an empty one
    "qwen3.8": Family(
        r"""{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}
        {%- if m.role == 'assistant' -%}{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{%- endif -%}
        {{ m.content + '<|im_end|>\n' }}{%- endfor -%}
        {%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n<think>\n' }}
        {%- if enable_thinking is defined and not enable_thinking -%}{{ '\n</think>\n\n' }}{%- endif -%}{%- endif -%}""",
        CHATML, "<|im_end|>", QWEN_STOPS,
    ),
    # the tokenizer's own end is another one than the turn's
    "llama3": Family(
        r"""{{ bos_token }}{% for m in messages %}
        {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
        {%- endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}""",
        ("<|start_header_id|>", "<|end_header_id|>"), "<|end_of_text|>", ("<|eot_id|>",),
    ),
    # spaces before an answer and before its end
    "llama2": Family(
        r"""{% for m in messages %}
        {%- if m.role == 'user' -%}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}
        {%- elif m.role == 'assistant' -%}{{ ' ' + m.content + ' ' + '</s>' }}
        {%- else -%}{{ raise_exception('no such role') }}{%- endif -%}
        {%- endfor %}""",
        ("[INST]", "[/INST]"), "</s>", (),
    ),
    # no system role, roles alternate, no generation prompt
    "mistral": Family(
        r"""{{ bos_token }}{% for m in messages %}
        {%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles must alternate') }}{%- endif -%}
        {%- if m.role == 'user' -%}{{ '[INST] ' + m.content + '[/INST]' }}{%- else -%}{{ ' ' + m.content + '</s>' }}
        {%- endif -%}{%- endfor %}""",
        ("[INST]", "[/INST]"), "</s>", (),
    ),
    # no system role; the end of a turn is the model's own, not the tokenizer's
    "gemma": Family(
        r"""{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
        {%- for m in messages -%}{%- set role = 'model' if m.role == 'assistant' else m.role -%}
        {{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}
        {%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}""",
        ("<start_of_turn>",), "<eos>", ("<end_of_turn>",),
    ),
    # no end after an answer: generation stops at the next turn's beginning
    "glm4": Family(
        r"""{{ '[gMASK]<sop>' }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}
        {%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}""",
        ("[gMASK]", "<sop>", "<|system|>", "<|assistant|>"), "<|endoftext|>", ("<|user|>", "<|observation|>"),
    ),
    # the same, with thoughts, and questions that say where none are wanted
    "glm4.5": Family(
        r"""{{ '[gMASK]<sop>' }}{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}"""
        + THOUGHTS_APART
        + r"""{{ '\n<think>' + (thoughts if loop.last else '') + '</think>\n' + content }}
        {%- else -%}{{ '\n' + m.content }}
        {%- if m.role == 'user' and enable_thinking is defined and not enable_thinking -%}{{ '/nothink' }}{%- endif -%}
        {%- endif -%}{%- endfor -%}
        {%- if add_generation_prompt -%}{{ '<|assistant|>' }}
        {%- if enable_thinking is defined and not enable_thinking -%}{{ '\n<think></think>' }}{%- endif -%}{%- endif -%}""",
        ("[gMASK]", "<sop>", "<|system|>", "<|assistant|>"), "<|endoftext|>", ("<|user|>", "<|observation|>"),
    ),
    # an end of the turn, then an end of the text where no prompt is asked for
    "phi3": Family(
        r"""{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}
        {%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}""",
        ("<|system|>", "<|user|>", "<|assistant|>"), "<|endoftext|>", ("<|end|>",),
    ),
    # channels; the last answer ends with another token than earlier ones, and generation stops at that one alone
    "gpt-oss": Family(
        r"""{% for m in messages %}{%- if m.role != 'assistant' -%}
        {{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}
        {%- else -%}
        {%- if m.thinking and loop.last -%}
        {{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{%- endif -%}
        {{ '<|start|>assistant<|channel|>final<|message|>' + m.content }}
        {%- if loop.last and not add_generation_prompt -%}{{ '<|return|>' }}{%- else -%}{{ '<|end|>' }}{%- endif -%}
        {%- endif -%}{%- endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}""",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>"), "<|return|>", ("<|call|>",),
    ),
}  # fmt: skip
