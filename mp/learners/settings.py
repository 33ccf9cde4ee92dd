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
    the fields. Raises UserError for a given value that plays no part in the method or with the others, or is out of
    bounds."""
    ivlp = (usual | given).get("ivlp")
    for one in fields(kind):
        if one.name in given and not plays_a_part(one, method, ivlp):
            ablation = " with --ivlp" if ivlp and one.name != "ivlp" else ""
            raise UserError(f"{flag(one.name)} {given[one.name]}: plays no part in {method}{ablation}; leave it out")
    chosen = kind(method, **(of_row(kind, method) | usual | given))
    for one in fields(kind):
        unless = one.metadata.get("unless")
        if one.name in given and unless and unless.holds(chosen):
            raise UserError(f"{flag(one.name)} {given[one.name]}: plays no part with {unless.words}; leave it out")
    return chosen


def plays_a_part(one: Field, method: str, ivlp: bool | None) -> bool:
    """Whether a setting does in this method; with `ivlp`, nothing is averaged."""
    learner = learner_class(method)
    only_if = one.metadata.get("only_if")  # of the seed, nothing is said
    if only_if == "made_with":
        return one.name in learner.made_with
    return not only_if or (getattr(learner, only_if) and not ivlp)
