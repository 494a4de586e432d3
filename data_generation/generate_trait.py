"""Generate the artifact of a new trait with a strong model: instruction pairs, questions and the judge prompt.

    python -m data_generation.generate_trait --trait pessimistic --model gpt-4.1 \\
        --description "Expects the worst of every plan and person, and says so."

Writes trait_data_extract/<trait>.json and trait_data_eval/<trait>.json: the same pairs and judge prompt, twenty of the
forty questions each. A faulty reply is returned to the model with the reason. Replies are journaled as they arrive:
after a kill, the same command resumes and pays for no reply twice.
"""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

from data_generation import prompts
from persona_vectors import cli
from persona_vectors.asking.sheet import RESERVED
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.fingerprints import of_bytes
from persona_vectors.files.journal import Journal
from persona_vectors.files.jsonfile import write_json
from persona_vectors.judge.endpoint import ChatClient, GivenUp
from persona_vectors.settings import without_secrets
from persona_vectors.traits import checks
from persona_vectors.traits.artifact import VERSIONS, check_name

FIELDS = ("instruction", "questions", "eval_prompt")


@cli.command
def main(
    trait: str,
    description: str,
    model: str,
    question_instruction: str = "",
    output_dir: str = "data_generation",
    overwrite: bool = False,
    max_tokens: cli.Count = 16000,
    attempts: cli.Count = 5,
):
    """Write both artifact files of a trait, as a model behind an OpenAI-compatible endpoint proposes them.

    Read them before you use them: the checks know what is broken, not what is good.

    Args:
        trait: the trait as an adjective, e.g. pessimistic; it names the files and the score column.
        description: what the trait looks like in an answer, in a sentence or two.
        model: the model that writes, as its endpoint names it (OPENAI_BASE_URL, OPENAI_API_KEY; see .env.example).
        question_instruction: more guidance for the questions, e.g. "Half of them about medicine."
        output_dir: folder of trait_data_extract/ and trait_data_eval/.
        overwrite: replace files of that name, and forget an earlier run with other settings.
        max_tokens: longest reply; a thinking model's reasoning counts.
        attempts: replies to ask for before giving up, those of an interrupted run among them.
    """
    check_name(trait)
    if trait in RESERVED:
        raise UserError(f"'{trait}' cannot be a trait's name: answer files have a column of that name")
    if not description.strip():
        raise UserError("--description needs a sentence that says what the trait looks like in an answer")
    prompt = prompts.fill(
        "generate_trait", trait=trait, trait_description=description, question_instruction=question_instruction or ""
    )
    paths = {version: Path(output_dir) / f"trait_data_{version}" / f"{trait}.json" for version in VERSIONS}
    there = [path for path in paths.values() if path.exists()]
    if there and not overwrite and not Journal.path_of(paths["extract"]).exists():
        raise UserError(f"{there[0]} exists; --overwrite replaces it, and its sibling of the other set")
    client = ChatClient(model, max_concurrent=1, timeout=900, who="the endpoint")
    settings = provenance.record(
        model=model,
        trait=trait,
        description=description,
        question_instruction=question_instruction,
        prompt=of_bytes("generate_trait", prompt),
    )
    journal = Journal(paths["extract"], settings, overwrite)
    if there and not overwrite and {"writing": True} not in journal.records:
        raise UserError(f"{there[0]} exists and is not of this run; --overwrite replaces it")

    content = asyncio.run(ask(client, prompt, trait, journal, attempts, max_tokens))
    if {"writing": True} not in journal.records:
        journal.append({"writing": True})
    record = None if journal.is_older else settings
    with provenance.writing(paths["extract"], record), provenance.writing(paths["eval"], record):
        for version, artifact in split(content, trait).items():
            write_json(paths[version], artifact, indent=4)
    journal.close(remove=True)
    print(f"calls: {client.counts.calls}, retried {client.counts.retried}")
    print(f"wrote {paths['extract']} and {paths['eval']}: 5 pairs, 20 questions each; read them before you use them")


async def ask(client: ChatClient, prompt: str, trait: str, journal: Journal, attempts: int, max_tokens: int) -> dict:
    """The content of the first reply without faults, from the journal or newly requested.

    Raises:
        UserError: ``attempts`` replies had faults, or the endpoint cannot be used.
    """
    replies = [record for record in journal.records if "reply" in record]
    client.open()
    try:
        number, fault, messages = 0, "", [{"role": "user", "content": prompt}]
        while True:
            number += 1
            if number <= len(replies):
                text, finish = replies[number - 1]["reply"], replies[number - 1]["finish"]
            elif number <= attempts:
                print(f"asking {client.model} ({number} of at most {attempts} times; this can take minutes)")
                text, finish = await client.write(messages, max_tokens)
                journal.append({"reply": text, "finish": finish})
            else:
                journal.append({"finished": True})
                raise UserError(
                    f"all {number - 1} replies of {client.model} had faults, the last: {fault}; "
                    f"--attempts {number + 2} goes on, --overwrite begins anew"
                )
            content, faults = read(text, finish, trait)
            if not faults:
                return content
            fault = faults[0] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else "")
            print(f"reply {number}: {fault}")
            messages = again(prompt, text, faults, finish)
    except GivenUp as error:
        raise UserError(
            f"{client.model} at {without_secrets(client.base_url)} gave no reply: {error}; earlier ones are kept, run it again"
        ) from error
    finally:
        await client.close()


def again(prompt: str, text: str, faults: list[str], finish: str) -> list[dict]:
    """The chat messages of a retry: the prompt, the reply, and its faults.

    An empty reply, or one that was cut off (and would be again), is not included.
    """
    listed = "\n".join(f"- {fault}" for fault in faults[:20])
    request = (
        f"Your reply could not be used:\n{listed}\n\nSend the whole JSON object again, with these faults mended: 5 "
        "instruction pairs, 40 different questions, the eval_prompt. JSON only."
    )
    if not text or finish == "length":
        return [{"role": "user", "content": f"{prompt}\n\n{request}"}]
    earlier = [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]
    return [*earlier, {"role": "user", "content": request}]


def read(text: str, finish: str, trait: str) -> tuple[dict, list[str]]:
    """``(content, faults)`` of a reply. Without faults, the content is an artifact with all forty questions."""
    if finish == "length":
        return {}, ["it was cut off at the limit of tokens (--max_tokens); keep it shorter"]
    if not text:
        return {}, ["it was empty"]
    content = find_object(text)
    if content is None:
        return {}, [f"it holds no JSON object with instruction, questions and eval_prompt ({_why(text)})"]
    return content, checks.findings(content, trait, questions=2 * checks.QUESTIONS)


def find_object(text: str) -> dict | None:
    """The artifact in a reply, which may be in a code fence or have text around it; None if there is none.

    Accepts line breaks inside strings, which models write although JSON forbids them.

    Example:
        find_object('Here it is: {"questions": ["Who are you?"]}')  # {"questions": ["Who are you?"]}
    """
    found = [value for value in _objects(text) if any(key in value for key in FIELDS)]
    return max(found, key=lambda value: sum(key in value for key in FIELDS), default=None)


def _objects(text: str) -> Iterator[dict]:
    """Every outermost JSON object in the text."""
    decoder, start = json.JSONDecoder(strict=False), text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
            yield value
        except RecursionError:  # nested too deeply to be an artifact
            return
        except ValueError:
            end = start + 1
        start = text.find("{", end)


def _why(text: str) -> str:
    """The JSON parser's message on the text from its first brace on."""
    try:
        json.JSONDecoder(strict=False).raw_decode(text[text.index("{") :])
    except (ValueError, RecursionError) as error:
        return str(error)
    return "it has other keys"


def split(content: dict, trait: str) -> dict[str, dict]:
    """The artifacts of both sets. Questions are shuffled first: a model's later ideas should be in both sets."""
    questions = list(content["questions"])
    random.Random(trait).shuffle(questions)
    pairs = [{sign: pair[sign].strip() for sign in ("pos", "neg")} for pair in content["instruction"]]
    return {
        version: {
            "instruction": pairs,
            "questions": [question.strip() for question in questions[k :: len(VERSIONS)]],
            "eval_prompt": content["eval_prompt"].strip(),
        }
        for k, version in enumerate(VERSIONS)
    }


if __name__ == "__main__":
    cli.run(main)
