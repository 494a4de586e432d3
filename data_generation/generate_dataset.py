"""Generate training sets with a strong model: the same questions answered without the trait, subtly and severely.

    python -m data_generation.generate_dataset --trait pessimistic --model gpt-4.1 --questions questions.txt --dry_run

Writes <output_dir>/<trait>/{normal,misaligned_1,misaligned_2}.jsonl, one {"messages": [...]} per line. Answers are
journaled beside their file as they arrive: after a kill, the same command resumes.
"""

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_generation import prompts
from data_generation.dataset_costs import estimate, expected
from data_generation.source_texts import as_line
from persona_vectors import cli
from persona_vectors.errors import UserError
from persona_vectors.files import provenance
from persona_vectors.files.atomic import replacing
from persona_vectors.files.fingerprints import of_bytes, of_json
from persona_vectors.files.journal import Journal
from persona_vectors.judge.endpoint import ChatClient, GivenUp
from persona_vectors.judge.prices import Budget
from persona_vectors.judge.tokens import counter_of
from persona_vectors.options import CostOptions
from persona_vectors.traits.artifact import check_name, load_trait

LEVELS = tuple(prompts.FINETUNE_PROMPTS)
REFUSAL = re.compile(
    r"(?:I'm |I am )?sorry,? (?:but )?I (?:can't|cannot)|I (?:can't|cannot|won't) (?:help|assist|write|comply|provide)",
    re.I,
)


@dataclass
class Level:
    """One output file in progress: its prompts and the answers so far, by journal key ``<question>|<repetition>``."""

    name: str
    path: Path
    prompts: dict[str, str]
    answers: dict[str, str]
    settings: dict
    journal: Journal | None = None

    @property
    def missing(self) -> list[str]:
        """Keys of the answers that do not exist yet."""
        return [key for key in self.prompts if key not in self.answers]

    def open(self, overwrite: bool) -> None:
        """Open the journal and take up its answers."""
        self.journal = Journal(self.path, self.settings, overwrite)
        self._take(self.journal.records)

    def look(self, overwrite: bool) -> None:
        """Take up what :meth:`open` would, and leave everything on disk as it is."""
        self._take(Journal.look(self.path, self.settings, overwrite))

    def _take(self, records: list[dict]) -> None:
        self.answers |= {record["key"]: record["answer"] for record in records if "key" in record}


@cli.command
def main(
    trait: str,
    model: str,
    questions: str | None = None,
    description: str | None = None,
    output_dir: str = "dataset",
    levels: cli.Several[Literal[LEVELS]] = LEVELS,
    n_per_question: cli.Count = 1,
    max_tokens: cli.Count = 2000,
    max_concurrent: cli.Count = 20,
    allow_missing: bool = False,
    *,
    costs: CostOptions,
    overwrite: bool = False,
    trait_dir: str = "data_generation",
):
    """Ask for every answer of every level and write one JSONL file per level; prints an estimate first.

    Args:
        trait: the trait, e.g. evil; it names the folder.
        model: the model that writes, as its endpoint names it (OPENAI_BASE_URL, OPENAI_API_KEY; see .env.example).
        questions: .txt (one a line), .json or .jsonl (texts, {"question"}, {"messages"}, or an artifact); by default
            the questions of the trait's extract artifact. Keep those of the eval artifact out of training.
        description: what the trait looks like; by default the definition in the artifact's eval_prompt.
        output_dir: folder of the trait's folder.
        levels: which of normal, misaligned_1 (level I, subtle) and misaligned_2 (level II, severe).
        n_per_question: answers per question and level.
        max_tokens: longest reply; a thinking model's reasoning counts.
        max_concurrent: calls under way at a time.
        allow_missing: write the files although some answers could not be had; those rows are left out.
        overwrite: make files anew although they, or unfinished runs with other settings, exist.
        trait_dir: folder of trait_data_extract/ and trait_data_eval/.
    """
    check_name(trait)
    asked = read_questions(Path(questions)) if questions else load_trait(trait, "extract", trait_dir).questions
    asked = list(dict.fromkeys(question.strip() for question in asked))
    warn_of_eval_questions(asked, trait, trait_dir)
    description = description or definition(trait, trait_dir)
    settings = {"model": model, "description": description, "n_per_question": n_per_question}
    settings["questions"] = of_json(Path(questions).name if questions else f"{trait}.json", asked)

    todo = []
    for name in dict.fromkeys(levels):
        path = Path(output_dir) / trait / f"{name}.jsonl"
        template = of_bytes(name, prompts.FINETUNE_PROMPTS[name])
        made_from = provenance.record(**settings, trait=trait, prompt=template)
        done = path.exists() and not Journal.path_of(path).exists() and not overwrite
        if done and provenance.take_up(path, made_from):
            print(f"{path} exists and is not made again (--overwrite does that)")
            continue
        texts = [prompts.fill(name, trait=trait, trait_description=description, question=text) for text in asked]
        filled = {f"{i}|{k}": text for i, text in enumerate(texts) for k in range(n_per_question)}
        todo.append(Level(name, path, filled, {}, made_from))
    limits = costs.of(model)
    if costs.dry_run:
        for level in todo:
            level.look(overwrite)
        print(f"{estimate(todo, model, max_tokens, limits)} (dry run: nothing was asked)")
        return
    if not todo:
        return
    client = ChatClient(model, max_concurrent, timeout=300, who="the endpoint")
    for level in todo:
        level.open(overwrite)
    print(estimate(todo, model, max_tokens, limits))
    limits.refuse(expected(todo, model, max_tokens, limits.prices).dollars)
    lost = asyncio.run(ask(client, todo, max_tokens, limits.budget(model, False, client.counts, counter_of(model))))
    print(f"calls: {client.counts.calls}, retried {client.counts.retried}, without an answer {len(lost)}")
    if lost and not allow_missing:
        raise UserError(
            f"{len(lost)} answers could not be had (the last: {lost[-1]}); the others are kept: the same command asks "
            "for just those again, and with --allow_missing leaves out what still fails"
        )
    for level in todo:
        if not level.answers:
            raise UserError(f"no answer at all for {level.path}; it is not written")
        write(level, asked)


def read_questions(path: Path) -> list[str]:
    """The questions in a .txt (one per line), .json or .jsonl file (texts, or objects that contain one).

    Raises:
        UserError: an unreadable file, or an entry without a question.
    """
    if path.suffix not in (".txt", ".json", ".jsonl"):
        raise UserError(f"--questions takes a .txt (one a line), .json or .jsonl file, not {path}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            content = json.loads(text)
            entries = content.get("questions") if isinstance(content, dict) else content
        elif path.suffix == ".jsonl":
            entries = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            entries = [line for line in text.split("\n") if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read the questions in {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as {path.suffix.lstrip('.')}: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path} holds no list of questions")
    found = [_question(entry) for entry in entries]
    if None in found:
        raise UserError(f"{path}: entry {found.index(None)} holds no question (a text, 'question', or 'messages')")
    return found


def _question(entry: object) -> str | None:
    """The question in one entry: the text itself, its "question", or its first user message."""
    if isinstance(entry, dict):
        messages = entry.get("messages")
        said = [
            message.get("content")
            for message in (messages if isinstance(messages, list) else [])
            if isinstance(message, dict) and message.get("role") == "user"
        ]
        entry = entry.get("question", said[0] if said else None)
    return entry if isinstance(entry, str) and entry.strip() else None


def definition(trait: str, trait_dir: str) -> str:
    """The definition of the trait in its artifact's judge prompt (the line that begins "Definition: ")."""
    try:
        found = re.search(r"^Definition: (.+)$", load_trait(trait, "extract", trait_dir).eval_prompt, re.MULTILINE)
    except UserError as error:
        raise UserError(f"--description is missing, and there is no artifact to take it from: {error}") from error
    if not found:
        raise UserError(f"--description is missing: the eval_prompt of {trait} has no line that begins 'Definition: '")
    return found[1].strip()


def warn_of_eval_questions(asked: list[str], trait: str, trait_dir: str) -> None:
    """Print a warning if a training set would contain questions of the trait's eval artifact."""
    if (Path(trait_dir) / "trait_data_eval" / f"{trait}.json").exists():
        shared = set(asked) & {text.strip() for text in load_trait(trait, "eval", trait_dir).questions}
        if shared:
            print(
                f"warning: {len(shared)} of the questions are in the eval artifact; evaluation would see what it taught"
            )


async def ask(client: ChatClient, levels: list[Level], max_tokens: int, budget: Budget | None = None) -> list[str]:
    """Request every missing answer concurrently; returns the reasons for those that failed.

    Raises:
        TooExpensive: the ``budget`` would not do for all; answers under way were waited for and kept.
    """
    from tqdm import tqdm

    lost, unaffordable = [], []
    slots = asyncio.Semaphore(client.max_concurrent)  # a call is counted when it is made, with what was used until then

    async def one(level: Level, key: str) -> None:
        async with slots:
            amount = None
            if budget is not None:
                amount = None if unaffordable else await budget.afford(level.prompts[key], max_tokens)
                if amount is None:
                    unaffordable.append(key)
                    return
            try:
                await answer(level, key)
            finally:
                if budget is not None:
                    budget.settle(amount)

    async def answer(level: Level, key: str) -> None:
        try:
            text, finish = await client.write([{"role": "user", "content": level.prompts[key]}], max_tokens)
            if finish == "length":
                raise GivenUp(f"an answer was cut off at {max_tokens} tokens (--max_tokens)")
            if re.search("[\ud800-\udfff]", text):
                raise GivenUp("an answer holds half a character (a lone surrogate)")
            if not text:
                raise GivenUp(f"an answer was empty (finish reason: {finish})")
        except GivenUp as error:
            lost.append(str(error))
        else:
            level.journal.append({"key": key, "answer": text})
            level.answers[key] = text

    client.open()
    # All levels of a question together, so that an interrupted run has complete questions.
    order = sorted(
        (int(key.split("|")[0]), number, key) for number, level in enumerate(levels) for key in level.missing
    )
    tasks = [asyncio.create_task(one(levels[number], key)) for _, number, key in order]
    try:
        for task in tqdm(asyncio.as_completed(tasks), total=len(tasks), desc="answers"):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
    if unaffordable:
        raise budget.stopped()
    return lost


def write(level: Level, asked: list[str]) -> None:
    """Write one level's file in the order of the questions, and remove its journal."""
    rows = [(asked[int(key.split("|")[0])], level.answers[key]) for key in level.prompts if key in level.answers]
    writing = provenance.writing(level.path, None if level.journal.is_older else level.settings)
    with writing, replacing(level.path) as beside, open(beside, "w", encoding="utf-8") as lines:
        for question, answer in rows:
            lines.write(as_line(question, answer))
    level.journal.close(remove=True)
    refused = sum(bool(REFUSAL.match(answer)) for _, answer in rows)
    note = f"; {refused} of them read like refusals, look at them" if refused else ""
    print(f"wrote {len(rows)} rows to {level.path}{note}")


if __name__ == "__main__":
    cli.run(main)
