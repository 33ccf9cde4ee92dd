"""The settings of a method: what is given, else what is usual there, such as a prompt file's shape, else its row in
METHODS, else the defaults of mp/settings.py."""
from dataclasses import MISSING, Field, fields
from typing import Any

from mp.learners import METHODS, learner_class
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings, as_plain, flag


def of_row(kind: type, method: str) -> dict[str, Any]:
    """The values of this kind of settings that the method's row in METHODS has."""
    row = METHODS[method]
    return row.prompt | {MetaSettings: row.meta, FinetuneSettings: row.finetune}.get(kind, {})


def method_settings(kind: type, method: str, given: dict[str, Any], **usual: Any) -> Any:
    """Settings of a method: what is `given`; else the `usual` values, those of its row in METHODS, and the defaults of
    the fields. Raises UserError for a given value that plays no part in the method or with the others, or is out of
    bounds."""
    for one in fields(kind):
        if one.name in given and not plays_a_part(one, method):
            raise UserError(f"{flag(one.name)} {given[one.name]}: plays no part in {method}; leave it out")
    chosen = kind(method, **(of_row(kind, method) | usual | given))
    for one in fields(kind):
        unless = one.metadata.get("unless")
        if one.name in given and unless and unless.holds(chosen):
            raise UserError(f"{flag(one.name)} {given[one.name]}: plays no part with {unless.words}; leave it out")
    return chosen


def plays_a_part(one: Field, method: str) -> bool:
    """Whether a setting does in this method."""
    learner = learner_class(method)
    only_if = one.metadata.get("only_if")  # of the seed, nothing is said
    if only_if == "made_with":
        return one.name in learner.made_with
    return not only_if or getattr(learner, only_if)


def hashed(settings: PromptSettings) -> dict[str, Any]:
    """Return the settings that files are named by (mp/store/cells.py): the method, the seed, and those that play a part,
    each of its own type, so that 5 and 5.0 are the same.

    A field that is added later is `born` at some default, and left out at that, so that older names stay what they are.
    """
    values = {}
    for one in fields(settings):
        value = getattr(settings, one.name)
        at_birth = value == one.metadata.get("born", MISSING)
        if plays_a_part(one, settings.method) and not at_birth:
            values[one.name] = one.type(value)
    return as_plain(values)
