"""Random input by the thousand, from seeds: nothing crashes, and what is accepted is read as an independent reader reads it."""
import argparse
import html
import json
import math
import random
import re
import signal
import unicodedata
from dataclasses import asdict

import ftfy
import pytest
import regex
import torch

import run as program
from data import paper
from data.dataset import DataError
from mp.prompts import fitted, open_prompt, write_prompt
from mp.clip import tokenizer
from mp.commands import options
from mp.commands.options import method_of
from mp.learners.settings import method_settings
from mp.runtime.errors import UserError
from mp.settings import FinetuneSettings, MetaSettings, PromptSettings
from mp.store import cells
from mp.store.cells import FORMAT, Identity
from tests.robustness.counts import COUNTS

ALPHABETS = [  # of random texts
    [*"abcdefghijklmnopqrstuvwxyz '"], [*"aAbB 12.,!?'\"<>&;/|\\\t\n\r\x0b\x1b"], [*"éüßñçøåÉÜİıſςΣ"], [*"日本語中文한국어ไทยहिन्दी"],
    [*"😀👩‍👩‍👧🏽\u200d\ufe0f\u0301\u0300\u202e\ufeff\u00ad\u2028\x85\xa0\u3000"],
    ["&amp;", "&lt;", "&#x110000;", "&#55296;", "&amp;amp;", "&quot", "<|endoftext|>", "<|startoftext|>", "'ll", "'S"],
]


@pytest.fixture(autouse=True)
def no_hang():
    """A minute of work is a hang, wherever it is spent."""
    def hangs(*_):
        COUNTS["hangs"] += 1
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, 60)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def words(rng):
    alphabet = rng.choice(ALPHABETS)
    return "".join(rng.choice(alphabet) if rng.random() < 0.9 else chr(rng.randrange(0x110000)) for _ in range(rng.randrange(12)))


def naive_tokens(text):
    """OpenAI's tokenizer in its plainest form: quadratic, a pass over the word for every merge."""
    ids, ranks = tokenizer.tables()
    text = re.sub(r"\s+", " ", html.unescape(html.unescape(ftfy.fix_text(text))).strip()).strip().lower()
    pattern = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"""
    found = []
    for word in regex.findall(pattern, text, regex.IGNORECASE):
        if word in ("<|startoftext|>", "<|endoftext|>"):
            found.append(ids[word])
            continue
        pieces = [tokenizer.byte_symbols()[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while True:
            best = min(zip(pieces, pieces[1:]), key=lambda pair: ranks.get(pair, len(ranks)), default=None)
            if best not in ranks:
                break
            merged = []
            for piece in pieces:
                if merged and (merged[-1], piece) == best:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
        found += [ids[piece] for piece in pieces]
    return found


def test_any_text_has_the_tokens_of_the_plain_rule():
    rng = random.Random(1)
    for _ in range(10_000):
        text = words(rng)
        ids = tokenizer.encode(text)
        assert ids == naive_tokens(text), ascii(text)
        assert all(0 <= i < 49408 for i in ids)
        COUNTS["fuzzed inputs"] += 1


def test_what_is_decoded_has_the_same_tokens_again():
    """Of plain words: others hold what the clean-up or the spaces between tokens change, as in the original."""
    rng = random.Random(2)
    for _ in range(2_000):
        text = " ".join("".join(rng.choice("abcdefghijklmnopqrstuvwxyzéüñ") for _ in range(rng.randint(1, 9))) for _ in range(3))
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text) + " "
        assert tokenizer.encode(tokenizer.decode(ids)) == ids
        COUNTS["fuzzed inputs"] += 1


def test_random_tokens_decode_and_encode_to_a_fixed_point():
    rng = random.Random(3)
    for _ in range(2_000):
        text = tokenizer.decode([rng.randrange(49406) for _ in range(rng.randrange(8))])
        once = tokenizer.decode(tokenizer.encode(text))
        assert tokenizer.encode(once) == tokenizer.encode(tokenizer.decode(tokenizer.encode(once)))
        COUNTS["fuzzed inputs"] += 1


@pytest.mark.parametrize("text", ["a", "ab", "é", "1", "!", "'", "a ", "&amp;", "&", "<|endoftext|>", "日", "😀", "\u0301", "İ"])
def test_a_hundred_thousand_repeats_take_linear_work(text, monkeypatch):
    """Counted in symbols that passes over words walk along, not in seconds."""
    walked, join = [], tokenizer.join
    monkeypatch.setattr(tokenizer, "join", lambda symbols, pair: walked.append(len(symbols)) or join(symbols, pair))
    tokenizer.word_ids.cache_clear()
    ids = tokenizer.encode(text * 100_000)
    COUNTS["fuzzed inputs"] += 1
    assert len(ids) > 75 and sum(walked) <= 10 * len((text * 100_000).encode())
    with pytest.raises(ValueError, match="doesn't fit"):
        tokenizer.tokenize(text * 100_000)


def value(rng, depth=0):
    """A random JSON value, odd ones more often than sense would have it."""
    kinds = [lambda: rng.choice([0, 1, -1, 2, 10**30, 0.5, float("nan"), float("inf"), True, None, "", "base", "all", "x/../y"]),
             lambda: [value(rng, depth + 1) for _ in range(rng.randrange(4))],
             lambda: {rng.choice(["train", "test", "accuracies", "base", "all", "identity", "format", "provenance", "made_by", "x"]): value(rng, depth + 1)
                      for _ in range(rng.randrange(4))},
             lambda: words(rng)]
    return rng.choice(kinds if depth < 3 else kinds[::3])()


def spoil(rng, thing):
    """The same with one random place replaced, removed or doubled."""
    if not isinstance(thing, (list, dict)) or not thing or rng.random() < 0.15:
        return value(rng)
    keys = list(thing) if isinstance(thing, dict) else range(len(thing))
    at, new = rng.choice(keys), thing.copy()
    action = rng.random()
    if action < 0.1:
        del new[at]
    elif action < 0.2 and isinstance(thing, list):
        new.append(thing[at])
    else:
        new[at] = spoil(rng, thing[at])
    return new


def spoil_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 20))):
        if data:
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 9))] = rng.randbytes(rng.choice((0, 1, 1, 5)))
    return bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data)


def test_split_files(tmp_path):
    """Refused in one line that names the file, or read: every image below the folder, every label with its own name."""
    rng, file, accepted = random.Random(4), tmp_path / "split.json", 0
    whole = {part: [[f"c{label}/{part}{i}.jpg", label, f"name {label}"] for label in range(3) for i in range(2)]
             for part in ("train", "val", "test")}
    for number in range(2_500):
        text = json.dumps(spoil(rng, whole)).encode()
        file.write_bytes(spoil_bytes(rng, text) if number % 3 == 0 else text)
        COUNTS["fuzzed inputs"] += 1
        try:
            classes, train, test = paper.read_split(file, tmp_path / "images")
        except DataError as e:
            assert str(e).startswith(f"{file}: ") and ";" in str(e)
            continue
        if set(range(len(classes))) - {item.label for item in train}:
            continue  # refused by paper.load, as of every dataset
        accepted += 1
        split = json.loads(file.read_text(encoding="utf-8-sig"))
        for part, items in (("train", train), ("test", test)):
            assert [(f"{tmp_path}/images/{p}", n) for p, _, n in split[part]] == [(i.source, classes[i.label]) for i in items]
            assert not any(".." in i.source.split("/") for i in items)
        assert {i.label for i in train} == set(range(len(classes)))
    assert 200 < accepted < 2_300


def test_result_files(tmp_path, capsys):
    """Taken only if its identity is what its name says, and every accuracy a number from 0 to 100; reading changes nothing,
    and what is damaged is set aside whole."""
    rng, identity, accepted = random.Random(5), Identity("w", "fp32", "a {}.", {"lr": 0.1}, tested_on={"DTD": "f"}), 0
    file = tmp_path / cells.name_of("DTD", identity, ".json")
    whole = {"accuracies": {"base": 50.0, "new": 25.0, "all": 30, "harmonic_mean": 33.3},
             "identity": asdict(identity), "provenance": {"commit": "c", "seconds": 1.0}}
    for number in range(2_500):
        text = json.dumps(spoil(rng, whole)).encode()
        file.write_bytes(spoil_bytes(rng, text) if number % 3 == 0 else text)
        before = file.read_bytes()
        COUNTS["fuzzed inputs"] += 1
        found = cells.read(file)
        assert file.read_bytes() == before
        if found is None:
            with pytest.raises(ZeroDivisionError):
                cells.result(file, identity, {}, lambda: 1 / 0)
            assert "damaged" in capsys.readouterr().err and not file.exists()
            assert file.with_name(f"{file.name}.damaged").read_bytes() == before
            continue
        accepted += 1
        numbers = list(found.accuracies.values())
        assert numbers and all(not isinstance(n, bool) and 0 <= n <= 100 for n in numbers)
        assert found.identity == asdict(identity) and isinstance(found.content["provenance"], dict)
    assert 200 < accepted < 2_300


def test_prompt_files(tmp_path):
    """Taken only if the tensors are those that were written; a bit that flips inside a tensor is found by zip's checksum."""
    rng, file = random.Random(6), tmp_path / "p.pt"
    like = {name: torch.randn(4, 8, generator=torch.Generator().manual_seed(3)) for name in ("ctx", "text.1")}
    write_prompt(file, "coop", like, {"format": FORMAT}, {"commit": "c"})
    whole, accepted = file.read_bytes(), 0
    for _ in range(2_000):
        file.write_bytes(spoil_bytes(rng, whole))
        COUNTS["fuzzed inputs"] += 1
        try:
            found = open_prompt(file)
            params = fitted(found, "coop", like)
        except UserError as e:
            assert str(e).startswith(f"{file}: ") and ";" in str(e)
            continue
        accepted += 1
        changed = [k for k in like if not torch.equal(params[k], like[k])]
        COUNTS["wrong numbers"] += len(changed)
        assert not changed
    assert accepted < 1_800


def arguments(rng, parser):
    """Options of a random subcommand, with values that fit, nearly fit, or don't."""
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    name = rng.choice(list(commands))
    options = [action for action in commands[name]._actions[1:] if action.option_strings]
    line = [name, *{"predict": ["x.png", "--names", "a", "b"], "show": ["p.pt"]}.get(name, [])]
    for action in rng.sample(options, rng.randrange(min(6, len(options)))):
        line.append(rng.choice(action.option_strings))
        if action.nargs != 0:
            values = [*(action.choices or []), "0", "1", "7", "-1", "0.5", "1/3", "nan", "inf", "-inf", "-0", "1e400", "1e-400", "1e300", "٣", "²", "1_0", "\udcff",  "", "x", "9" * 25, "coop", words(rng)]
            line += [rng.choice(values).replace("\0", "") for _ in range(rng.choice((1, 1, 1, 2)) if action.nargs else 1)]
    return line


def test_command_lines(tmp_path, monkeypatch, capsys):
    """Parsed and turned into settings; what is refused is refused in one line with code 2, before any work."""
    rng, parser, outcomes, seen = random.Random(7), options.build(""), [], []

    def settle(args):
        seen.append(args)
        kind = {"meta": MetaSettings, "finetune": FinetuneSettings, "zeroshot": PromptSettings}.get(args.command)
        if kind:
            made = method_settings(kind, method_of(args), options.given_settings(kind, args), seed=args.seeds[0])
            assert made.length > 0 and made.seed == args.seeds[0] and len(set(args.seeds)) == len(args.seeds)
            numbers = [value for value in asdict(made).values() if isinstance(value, float)]
            assert all(0 <= value < math.inf or value is made.clip_norm for value in numbers)

    subcommands = set(next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices)
    for name in subcommands:
        monkeypatch.setattr(f"mp.commands.{name}.command", settle)
    monkeypatch.chdir(tmp_path)
    for _ in range(3_000):
        line = arguments(rng, parser)
        COUNTS["fuzzed inputs"] += 1
        try:
            code = program.main(line)
        except SystemExit as e:  # --help
            assert e.code == 0 and {"-h", "--help"} & {*line}
            capsys.readouterr()
            continue
        err = capsys.readouterr().err
        outcomes.append(code)
        assert code in (0, 2) and err.count("\n") == (code == 2) and err.startswith("run.py: " * (code == 2)), (line, err)
    assert outcomes.count(0) > 300 and outcomes.count(2) > 300 and not list(tmp_path.iterdir())
    assert {a.command for a in seen} == subcommands >= {"data", "meta", "zeroshot", "predict", "finetune", "table"}
