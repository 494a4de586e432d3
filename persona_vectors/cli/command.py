"""From a typed function to a program: its flags, its values converted and checked, and the face that Fire draws.

A parameter whose annotation is a dataclass is a group: each of its fields is a flag (:mod:`persona_vectors.options`).
"""

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from persona_vectors.cli.values import convert, in_words, shown


def command(main: Callable) -> Callable:
    """``main`` with a flag for each field of its groups, called with values as typed or as Python has them.

    What is given is converted by the annotations of ``main`` and checked; groups are made of their fields. ``None`` is for flags whose default it is. :func:`persona_vectors.cli.run` does this itself: as a
    decorator it is for functions that are called from Python as well.

    Raises:
        UserError: (the call) a value that the annotation does not allow, or that a group refuses.

    Example:
        >>> @command
        ... def main(layer: Distinct[int], *, model: ModelOptions): ...
        >>> main("16,20", dtype="float32")  # main(layer=(16, 20), model=ModelOptions(dtype="float32"))
    """
    if hasattr(main, "flags"):
        return main
    signature = inspect.signature(main, eval_str=True)
    flags = _flags(signature)

    @functools.wraps(main)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = flags.bind(*args, **kwargs).arguments
        values = {name: _value(flags.parameters[name], value) for name, value in given.items()}
        arguments = {}
        for name, parameter in signature.parameters.items():
            if dataclasses.is_dataclass(parameter.annotation):
                names = [field.name for field in dataclasses.fields(parameter.annotation)]
                arguments[name] = parameter.annotation(**{name: values[name] for name in names if name in values})
            elif name in values:
                arguments[name] = values[name]
        bound = inspect.BoundArguments(signature, arguments)
        return main(*bound.args, **bound.kwargs)

    call.__signature__, call.flags = flags, flags.parameters
    return call


def _flags(signature: inspect.Signature) -> inspect.Signature:
    """The signature with each group's fields in its place."""
    found = []
    for parameter in signature.parameters.values():
        if not dataclasses.is_dataclass(parameter.annotation):
            found.append(parameter)
            continue
        annotations = typing.get_type_hints(parameter.annotation, include_extras=True)
        for field in dataclasses.fields(parameter.annotation):
            default = parameter.empty if field.default is dataclasses.MISSING else field.default
            found.append(parameter.replace(name=field.name, default=default, annotation=annotations[field.name]))
    return signature.replace(parameters=found)


def _value(flag: inspect.Parameter, value: Any) -> Any:
    """A flag's value, converted; of ``*words`` every one."""
    if flag.kind is flag.VAR_POSITIONAL:
        return tuple(convert(flag.name, flag.annotation, word) for word in value)
    if flag.default is None and value in (None, "None"):
        return None
    return value if flag.annotation is flag.empty else convert(flag.name, flag.annotation, value)


class _Shown:
    """A type or a default as ``--help`` shows it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


TYPE, DEFAULT = 30, 27  # characters; Fire cuts off what is longer, which then goes into the flag's text


def for_fire(program: Callable, then: Callable[[Any], None]) -> Callable:
    """What Fire draws and calls: every value goes to ``program``, its result to ``then``."""
    parameters = []
    any_number = any(flag.kind is flag.VAR_POSITIONAL for flag in program.flags.values())
    for flag in program.flags.values():
        words, default = in_words(flag.annotation), shown(flag.default)
        kind = flag.kind if any_number else flag.POSITIONAL_OR_KEYWORD  # Fire draws -x where no other of these has an x
        annotation = _Shown(words if len(words) <= TYPE else "")
        default = _Shown(default if len(default) <= DEFAULT else "")
        default = flag.empty if flag.default is flag.empty else default
        parameters.append(flag.replace(kind=kind, annotation=annotation, default=default))
    signature = inspect.Signature(parameters)

    def typed(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        for name in [name for name, value in bound.arguments.items() if isinstance(value, _Shown)]:
            del bound.arguments[name]  # a default: not typed
        words = bound.arguments if not any_number else bound.kwargs
        then(program(*(bound.args if any_number else ()), **words))

    typed.__signature__, typed.__doc__ = signature, _help(program)
    return typed


def _help(program: Callable) -> str:
    """The docstring of a program with the text of every flag, those of groups included."""
    main = inspect.unwrap(program)
    doc = inspect.getdoc(main) or ""
    texts = {}
    for parameter in inspect.signature(main, eval_str=True).parameters.values():
        if dataclasses.is_dataclass(parameter.annotation):
            for group in reversed(parameter.annotation.__mro__[:-1]):
                texts |= section(inspect.cleandoc(group.__doc__ or ""), "Attributes")
    texts |= section(doc, "Args")
    for name, flag in program.flags.items():
        words, default = in_words(flag.annotation), shown(flag.default)
        before = words if len(words) > TYPE else ""
        after = f"by default {default}" if flag.default is not flag.empty and len(default) > DEFAULT else ""
        text = texts.get(name, "").removesuffix("." if after else "")
        texts[name] = "; ".join(filter(None, [before, text, after]))
    lines = [f"    {name}: {texts[name]}" for name in program.flags if texts[name]]
    return "\n".join([doc.partition("\nArgs:\n")[0].rstrip(), "", *(["Args:"] if lines else []), *lines])


def section(doc: str, title: str) -> dict[str, str]:
    """{name: text} of a docstring's section in Google's style, each text in one line."""
    texts: dict[str, str] = {}
    name = ""
    for line in doc.partition(f"\n{title}:\n")[2].split("\n"):
        begun = re.match(r"    (\w+): (.*)", line)
        if begun:
            name, texts[begun[1]] = begun[1], begun[2]
        elif name and line.startswith("        "):
            texts[name] += f" {line.strip()}"
        elif line.strip():
            break
    return texts
