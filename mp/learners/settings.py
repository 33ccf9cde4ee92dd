"""Choose the settings of a method: the defaults of mp/settings.py, and what takes their place."""
import math
from dataclasses import MISSING, Field, fields
from typing import Any

from mp.learners import METHODS
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings, flag


def of_row(kind: type, method: str) -> dict[str, Any]:
    """Return the values of this kind of settings that the method's row in METHODS has."""
    row = METHODS[method]
    return row.prompt | {MetaSettings: row.meta, FinetuneSettings: row.finetune}.get(kind, {})


def method_settings(kind: type, method: str, given: dict[str, Any], **usual: Any) -> Any:
    """Return the settings of a method. The weakest are the fields' defaults; stronger is the method's row in METHODS,
    then the `usual` values, such as the suite's epochs or a prompt file's shape; the strongest is what the user has
    `given`.

    Raises UserError for a given value that plays no part in the method or with the others, or is out of bounds.
    """
    settings_given = [field for field in fields(kind) if field.name in given]
    for field in settings_given:
        if not plays_a_part(field, method):
            refuse(field, given, f"in {method}")
    values = of_row(kind, method)
    values |= usual
    values |= given
    chosen = kind(method, **values)
    for field in settings_given:
        unless = field.metadata.get("unless")
        if unless and unless.holds(chosen):
            refuse(field, given, f"with {unless.words}")
    return chosen


def refuse(field: Field, given: dict[str, Any], where: str) -> None:
    value = "" if field.type is bool else f" {given[field.name]}"
    raise UserError(f"{flag(field.name)}{value}: plays no part {where}; leave it out")


def plays_a_part(field: Field, method: str) -> bool:
    """Return whether a setting does anything in this method, by the column of METHODS that `only_if` names."""
    only_if = field.metadata.get("only_if")  # the seed has none
    if only_if == "made_with":
        return field.name in METHODS[method].made_with
    return not only_if or getattr(METHODS[method], only_if)


def in_effect(settings: PromptSettings) -> dict[str, Any]:
    """Return the settings that `hashed` gives, without those that do nothing beside the others."""
    values = hashed(settings)
    for field in fields(settings):
        unless = field.metadata.get("unless")
        if unless and unless.holds(settings):
            values.pop(field.name, None)
    return values


def hashed(settings: PromptSettings) -> dict[str, Any]:
    """Return the settings that files are named by (mp/store/cells.py): the method, the seed, and those that play a
    part, each of its own type, so that 5 and 5.0 are the same.

    A field that is added later is `born` at some default, and left out at that, so that older names stay what they are.
    """
    values = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        at_birth = value == field.metadata.get("born", MISSING)
        if plays_a_part(field, settings.method) and not at_birth:
            values[field.name] = "inf" if value == math.inf else field.type(value)  # JSON knows no infinity
    return values
