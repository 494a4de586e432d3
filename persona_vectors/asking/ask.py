"""Asking a model and having the answers judged: answer sheets in, answers and scores on disk.

Knows engines, judges and sheets; which questions are subject, and why, is the stage's business.
"""

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from persona_vectors import models
from persona_vectors.asking.choose_judge import JudgeSettings
from persona_vectors.asking.foresee import Foreseen, foresee, in_words
from persona_vectors.asking.sheet import AnswerSheet, PlannedAnswer
from persona_vectors.asking.subject import Subject
from persona_vectors.engines import Request, request_seed
from persona_vectors.errors import NothingScored, UserError
from persona_vectors.models import chat_template
from persona_vectors.steering.intervention import most_ablated
from persona_vectors.steering.sweep import Grid

logger = logging.getLogger(__name__)


def ask_and_judge(
    sheets: list[AnswerSheet],
    subject: Subject,
    judging: JudgeSettings,
    grid: Grid | None = None,
    overwrite: bool = False,
) -> None:
    """Fill the sheets and write them: what an earlier run left is taken up, the rest generated and judged at once.

    ``overwrite`` begins anew although an unfinished run with other settings exists.
    """
    grid = grid or Grid.of([0.0])
    with contextlib.ExitStack() as opened:
        for sheet in sheets:
            sheet.open(overwrite)
            opened.callback(sheet.journal.close)  # one without work leaves nothing
        _fill(sheets, subject, judging, grid)


def dry_run(
    sheets: list[AnswerSheet],
    subject: Subject,
    judging: JudgeSettings,
    grid: Grid | None = None,
    overwrite: bool = False,
    unknown: Sequence[str] = (),
) -> Foreseen:
    """What :func:`ask_and_judge` would make and what it would cost, which is logged; nothing is asked, written or loaded.

    Args:
        unknown: what cannot be known yet, in words; vector files that are not there are added. What an unfinished run has made
            is then not counted as there where it was made with something else: that cannot be told.
    """
    grid = grid or Grid.of([0.0])
    for sheet in sheets:
        sheet.look(overwrite or bool(unknown) or sheet.trait.name in grid.to_come)
    missing = dict.fromkeys(path for paths in grid.to_come.values() for path in paths)
    lines = [f"not there yet: {path}; what is counted does not depend on what it holds" for path in missing]
    foreseen = replace(_foreseen(sheets, subject, judging, grid), unknown=[*lines, *unknown])
    logger.info(in_words(foreseen, judging))
    return foreseen


def _foreseen(sheets: list[AnswerSheet], subject: Subject, judging: JudgeSettings, grid: Grid) -> Foreseen:
    tokenizer = models.load_tokenizer(subject.path, subject.trust_remote_code)
    return foresee(sheets, *make_requests(sheets, grid, tokenizer, subject), tokenizer, subject, judging)


def _fill(sheets: list[AnswerSheet], subject: Subject, judging: JudgeSettings, grid: Grid) -> None:
    """Ask and judge what the open sheets lack, and write them."""
    from tqdm import tqdm

    from persona_vectors.models.loading import load_tokenizer

    generation, longest = subject.generation, subject.shape.max_length
    if judging.costs is not None and judging.costs.max_cost is not None:
        foreseen = _foreseen(sheets, subject, judging, grid)
        judging.costs.refuse(foreseen.dollars, foreseen.unless)
    judge = judging.open(sheets, subject)
    began, made = time.time(), sum(len(sheet.answers) for sheet in sheets)
    scored = sum(len(sheet.scores) for sheet in sheets)
    try:
        for sheet in sheets:
            sheet.judged_by(judge.how)
        tokenizer = load_tokenizer(subject.path, subject.trust_remote_code)
        requests, origin = make_requests(sheets, grid, tokenizer, subject)
        with judge.scoring(sheets) as scores:
            for sheet in sheets:  # answers of an earlier run that were never scored
                for key in list(sheet.answers):
                    scores.ask(sheet, key)
            if requests:
                needed = max(len(request.prompt_ids) for request in requests) + generation.max_tokens
                needed = min(needed, longest or needed)
                ablations = max(most_ablated(request.interventions) for request in requests)
                engine = subject.engine.open(
                    subject.path, generation.dtype, subject.trust_remote_code, needed, ablations
                )
                with contextlib.closing(engine):
                    answers = engine.generate(requests, generation.sampling)
                    for answer in tqdm(answers, total=len(requests), desc="answers", position=0):
                        sheet, planned, prompt = origin[answer.key]
                        sheet.add_answer(planned, prompt, answer.text, answer.reasoning, answer.finish_reason)
                        scores.ask(sheet, planned.key)
                    scores.finish(engine)
            scores.finish()
    finally:
        made, scored = sum(len(s.answers) for s in sheets) - made, sum(len(s.scores) for s in sheets) - scored
        if made or scored:  # what --dry_run of the same command tells the time by
            pace = {"began": began, "seconds": time.time() - began, "answers": made, "scores": scored}
            for sheet in sheets:
                with contextlib.suppress(OSError):  # a full disk has been said
                    sheet.journal.append({"pace": pace})
        judge.close()
    logger.info(judge.summary())
    unscored = []
    for sheet in sheets:
        try:
            sheet.write()
        except NothingScored as error:  # the other sheets are whole
            unscored.append(error)
    if unscored:
        raise unscored[0]


def make_requests(
    sheets: list[AnswerSheet], grid: Grid, tokenizer, subject: Subject
) -> tuple[list[Request], dict[str, tuple[AnswerSheet, PlannedAnswer, str]]]:
    """What is still to be subject, over all sheets, and where each answer belongs (sheet, row, templated prompt)."""
    requests, origin, prompts = [], {}, {}
    max_length = subject.shape.max_length
    for number, sheet in enumerate(sheets):
        for planned in sheet.unanswered():
            question = planned.question
            if question not in prompts:
                text = chat_template.render(tokenizer, question.messages, subject.generation.enable_thinking)
                prompts[question] = text, chat_template.token_ids(tokenizer, text)
                if max_length is not None and len(prompts[question][1]) >= max_length:
                    raise UserError(
                        f"the prompt of {question.id} has {len(prompts[question][1])} tokens and leaves no room for an "
                        f"answer: the model takes {max_length}"
                    )
            text, ids = prompts[question]
            key = f"{number}|{planned.key}"
            origin[key] = sheet, planned, text
            interventions = grid.interventions(sheet.trait.name, planned.cell)
            requests.append(Request(key, ids, interventions, request_seed(subject.generation.seed, planned.draw)))
    if any(question.system for question in prompts) and chat_template.folds_system_prompt(tokenizer):
        logger.info("this chat template has no system role: system prompts are put in front of the question")
    return requests, origin
