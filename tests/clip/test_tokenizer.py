"""The tokenizer against OpenAI's own ids, and a slower re-statement of its merge rule."""
import random

import numpy as np
import pytest
import torch

from mp.clip import tokenizer


def test_golden_tokens(golden_json):
    for text, ids in golden_json["tokens"]:
        assert tokenizer.encode(text) == ids, text


def test_golden_decode(golden_json):
    for ids, text in golden_json["decode"]:
        assert tokenizer.decode(ids) == text


def test_golden_rows(golden):
    rows = tokenizer.tokenize([str(p) for p in golden["clip/prompts"]])
    assert rows.dtype == torch.long
    np.testing.assert_array_equal(rows.numpy(), golden["clip/tokens"])


@pytest.mark.parametrize("text, cleaned", [
    ("a < b &lt; c", "a < b < c"), ("a < b &amp;lt; c", "a < b < c"), ("a < b &amp;amp;lt; c", "a < b &lt; c"),
    ("  A\tLARGE \n\n Cat ", "a large cat"), ("caf\u00c3\u00a9", "caf\u00e9"), ("\u201ccat\u201d", '"cat"')])
def test_texts_are_cleaned_as_openais_code_does(text, cleaned):
    """HTML's entities are undone twice, beside a "<", where ftfy leaves them; its repairs, spaces and case."""
    assert tokenizer.clean(text) == cleaned


def plain_merge(word):
    """One pair at a time, the one learnt earliest and of equal ones the leftmost, until none is left."""
    _, ranks = tokenizer.tables()
    parts = [*word[:-1], word[-1] + "</w>"]
    while True:
        known = [(ranks[pair], i) for i, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        if not known:
            return parts
        _, i = min(known)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def test_every_token_arises_from_one_pair():
    ids, ranks = tokenizer.tables()
    assert len(ids) == 49408 and ids["<|endoftext|>"] == tokenizer.EOT
    assert len({a + b for a, b in ranks}) == len(ranks)
    assert max(len(token.removesuffix("</w>")) for token in ids) == tokenizer.LONGEST


def test_merge_equals_the_plain_rule():
    rng = random.Random(0)
    for _ in range(3000):
        word = "".join(rng.choice("abcdeinorst'!é"[: rng.choice((2, 4, 14))]) for _ in range(rng.randint(1, 24)))
        word = "".join(tokenizer.byte_symbols()[b] for b in word.encode())
        assert tokenizer.merge(word) == plain_merge(word), word


@pytest.mark.parametrize("word", ["a" * 100_000, "ab" * 50_000, "!" * 100_000], ids=lambda word: word[:2])
def test_a_long_word_that_repeats_itself_takes_few_passes(word, monkeypatch):
    walked, join = [], tokenizer.join
    monkeypatch.setattr(tokenizer, "join", lambda symbols, pair: walked.append(len(symbols)) or join(symbols, pair))
    tokens = tokenizer.merge(word)
    assert "".join(tokens) == word + "</w>" and len(tokens) > 1000
    assert walked[0] == len(word) and sum(walked) < 6 * len(word)


def test_75_tokens_fit_and_76_do_not():
    row = tokenizer.tokenize("cat " * 75)[0]
    assert row[0] == tokenizer.SOS and row[76] == tokenizer.EOT and (row != 0).all()
    with pytest.raises(ValueError, match="76 tokens.*cat cat"):
        tokenizer.tokenize(["fine", "cat " * 76])


def test_what_cannot_fit_is_refused_before_it_is_merged(monkeypatch):
    words = [token for token in tokenizer.tables()[0] if token.endswith("</w>") and token.isascii()]
    longest = max(words, key=len).removesuffix("</w>")
    assert tokenizer.tokenize(" ".join([longest] * 75))[0, 76] == tokenizer.EOT  # the longest text that fits
    monkeypatch.setattr(tokenizer, "join", lambda *_: pytest.fail("merged"))
    word = "".join(random.Random(0).choices("abcdefghijklmnop", k=100_000))
    with pytest.raises(ValueError, match="text of 100000 characters doesn't fit"):
        tokenizer.tokenize(word)
