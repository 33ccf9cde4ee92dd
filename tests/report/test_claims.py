"""What the paper's claims compare."""
import pytest

from mp.report import claims


@pytest.mark.parametrize("method, usual", [("coop", 0.025 / 6), ("promptsrc", 0.02 / 6)])
def test_the_arms_are_what_their_titles_say(method, usual):
    """Written down once more: which prompt stands against which, and with what settings each was learnt."""
    def told(arm):
        assert arm.method == (method if arm.words is None else None) and arm.file is None and arm.tuned in (None, ())
        return arm.words if arm.words is not None else (arm.learnt and dict(arm.learnt), arm.tuned == ())

    def rows(claim):
        return {row.title: (told(row.ours), told(row.theirs)) for row in claims.comparisons(claim, method, "one {}.")}

    mp, start, inf = ((), False), (None, False), float("inf")
    assert rows("a") == {
        "over handcrafted templates": (mp, ""), 'over "one {}."': (mp, "one {}."),
        "over plain multi-task training (no inner steps)": (mp, ({"inner_steps": 0}, False)),
        "over first-order MAML": (mp, ({"first_order": True}, False)), "over 1 inner step": (mp, ({"inner_steps": 1}, False)),
        "over 2 inner steps": (mp, ({"inner_steps": 2}, False)), "over 8 inner steps": (mp, ({"inner_steps": 8}, False))}
    assert rows("c") == {"fine-tuned from handcrafted, over its start": ((None, True), start),
                         "fine-tuned from the meta-prompt, over it": (((), True), mp)}
    regulated = {"regulator": True, "clip_norm": inf}
    expected = {"24 α, over α, both unclipped": (({"inner_lr": 24 * usual, "clip_norm": inf}, False), ({"clip_norm": inf}, False)),
                "the meta-prompt, over an unclipped regulator's": (mp, (regulated, False)),
                "the meta-prompt fine-tuned, over the regulator's through it": (((), True), (regulated, True))}
    for name, rate in (("", {}), (", 24 α", {"inner_lr": 24 * usual})):
        for clip_norm in (0.2, 1.0, 5.0, inf):
            ours = (rate if clip_norm == 5 else {**rate, "clip_norm": clip_norm}) or (), False
            expected[f"γ = {clip_norm:g}{name}, over handcrafted templates"] = ours, ""
            if clip_norm != inf:
                expected[f"γ = {clip_norm:g}{name}, over γ = inf{name}"] = ours, ({**rate, "clip_norm": inf}, False)
    assert rows("b") == expected
