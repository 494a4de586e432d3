"""A model and what it reads: where weights are, how they are loaded, where its blocks are, how a chat becomes text."""

from persona_vectors.models.loading import (
    DTYPES,
    Loader,
    ModelPath,
    Shape,
    basename,
    describe,
    ensure_padding,
    in_4bit,
    load_model,
    load_tokenizer,
    loading_errors,
    made_of,
    resolve,
    shape_of,
    tokenizer_source,
    with_adapter,
)

__all__ = [
    "DTYPES",
    "Loader",
    "ModelPath",
    "Shape",
    "basename",
    "describe",
    "ensure_padding",
    "in_4bit",
    "load_model",
    "load_tokenizer",
    "loading_errors",
    "made_of",
    "resolve",
    "shape_of",
    "tokenizer_source",
    "with_adapter",
]
