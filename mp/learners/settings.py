"""The settings of a method: what is given, else what is usual there, such as a prompt file's shape, else its row in
METHODS, else the defaults of mp/settings.py."""
from dataclasses import Field, fields
from typing import Any

from mp.learners import METHODS, learner_class
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, flag


def of_row(kind: type, method: str) -> dict[str, Any]:
    """The values of this kind of settings that the method's row in METHODS has."""
    row = METHODS[method]
    return row.prompt | {MetaSettings: row.meta, FinetuneSettings: row.finetune}.get(kind, {})


def method_settings(kind: type, method: str, given: dict[str, Any], **usual: Any) -> Any:
    """Settings of a method: what is `given`; else the `usual` values, those of its row in METHODS, and the defaults of
    the fields. Raises UserError for a given value that plays no part in the method, or is out of bounds."""
    for one in fields(kind):
        if one.name in given and not plays_a_part(one, method):
            raise UserError(f"{flag(one.name)} {given[one.name]}: plays no part in {method}; leave it out")
    return kind(method, **(of_row(kind, method) | usual | given))


def plays_a_part(one: Field, method: str) -> bool:
    """Whether a setting does in this method."""
    learner = learner_class(method)
    only_if = one.metadata.get("only_if")  # of the seed, nothing is said
    if only_if == "made_with":
        return one.name in learner.made_with
    return not only_if or getattr(learner, only_if)
