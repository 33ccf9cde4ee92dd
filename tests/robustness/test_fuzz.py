"""Random input, from seeds: nothing crashes, and what is accepted is read as an independent reader reads it."""
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

ALPHABETS = [  # of random texts
    [*"abcdefghijklmnopqrstuvwxyz '"], [*"aAbB 12.,!?'\"<>&;/|\\\t\n\r\x0b\x1b"], [*"éüßñçøåÉÜİıſςΣ"],
    [*"日本語中文한국어ไทยहिन्दी"],
    [*"😀👩‍👩‍👧🏽\u200d\ufe0f\u0301\u0300\u202e\ufeff\u00ad\u2028\x85\xa0\u3000"],
    ["&amp;", "&lt;", "&#x110000;", "&#55296;", "&amp;amp;", "&quot", "<|endoftext|>", "<|startoftext|>", "'ll", "'S"],
]


@pytest.fixture(autouse=True)
def no_hang():
    """A minute of work is a hang, wherever it is spent."""
    def hangs(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGPROF, hangs)
    signal.setitimer(signal.ITIMER_PROF, 60)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def words(rng):
    alphabet = rng.choice(ALPHABETS)
    signs = ""
    for _ in range(rng.randrange(12)):
        signs += rng.choice(alphabet) if rng.random() < 0.9 else chr(rng.randrange(0x110000))
    return signs


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
    for _ in range(3_000):
        text = words(rng)
        ids = tokenizer.encode(text)
        assert ids == naive_tokens(text), ascii(text)
        assert all(0 <= i < 49408 for i in ids)


def test_what_is_decoded_has_the_same_tokens_again():
    """Of plain words: others hold what the clean-up or the spaces between tokens change, as in the original."""
    rng = random.Random(2)
    for _ in range(500):
        text = " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyzéüñ", k=rng.randint(1, 9))) for _ in range(3))
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text) + " "
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


def value(rng, depth=0):
    """Return a random JSON value, odd ones more often than sense would have it."""
    kind = rng.choice(("plain", "words", "list", "dict")[: 4 if depth < 3 else 2])
    if kind == "plain":
        return rng.choice([0, 1, -1, 2, 10**30, 0.5, math.nan, math.inf, True, None, "", "base", "all", "x/../y"])
    if kind == "words":
        return words(rng)
    values = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == "list":
        return values
    return {rng.choice("train test accuracies base all identity format provenance x".split()): one for one in values}


def spoil(rng, thing):
    """Return the same with one random place replaced, removed or doubled."""
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
    for number in range(1_000):
        text = json.dumps(spoil(rng, whole)).encode()
        file.write_bytes(spoil_bytes(rng, text) if number % 3 == 0 else text)
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
            expected = [(f"{tmp_path}/images/{path}", name) for path, _, name in split[part]]
            assert expected == [(item.source, classes[item.label]) for item in items]
            assert not any(".." in item.source.split("/") for item in items)
        assert {i.label for i in train} == set(range(len(classes)))
    assert 80 < accepted < 920


def test_result_files(tmp_path, capsys):
    """Taken only if its identity is what its name says, and every accuracy a number from 0 to 100; reading changes
    nothing, and what is damaged is set aside whole."""
    rng, accepted = random.Random(5), 0
    identity = Identity("w", "fp32", "a {}.", {"lr": 0.1}, tested_on={"DTD": "f"})
    file = tmp_path / cells.name_of("DTD", identity, ".json")
    whole = {"accuracies": {"base": 50.0, "new": 25.0, "all": 30, "harmonic_mean": 33.3},
             "identity": asdict(identity), "provenance": {"commit": "c", "seconds": 1.0}}
    for number in range(1_000):
        text = json.dumps(spoil(rng, whole)).encode()
        file.write_bytes(spoil_bytes(rng, text) if number % 3 == 0 else text)
        before = file.read_bytes()
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
    assert 80 < accepted < 920


def test_prompt_files(tmp_path):
    """Taken only if the tensors are those that were written; a bit that flips inside one is found by zip's checksum."""
    rng, file = random.Random(6), tmp_path / "p.pt"
    like = {name: torch.randn(4, 8, generator=torch.Generator().manual_seed(3)) for name in ("ctx", "text.1")}
    write_prompt(file, "coop", like, {"format": FORMAT}, {"commit": "c"})
    whole, accepted = file.read_bytes(), 0
    for _ in range(600):
        file.write_bytes(spoil_bytes(rng, whole))
        try:
            found = open_prompt(file)
            params = fitted(found, "coop", like)
        except UserError as e:
            assert str(e).startswith(f"{file}: ") and ";" in str(e)
            continue
        accepted += 1
        changed = [k for k in like if not torch.equal(params[k], like[k])]
        assert not changed
    assert accepted < 540


VALUES = ("0 1 7 -1 0.5 1/3 nan inf -inf -0 1e400 1e-400 1e300 ٣ ² 1_0 \udcff x coop".split() + ["", "9" * 25])
POSITIONAL = {"predict": ["x.png", "--names", "a", "b"], "show": ["p.pt"]}


def arguments(rng, commands):
    """Return a random subcommand and options, with values that fit, nearly fit, or don't."""
    name = rng.choice(list(commands))
    actions = [action for action in commands[name]._actions[1:] if action.option_strings]
    line = [name, *POSITIONAL.get(name, [])]
    for action in rng.sample(actions, rng.randrange(min(6, len(actions)))):
        line.append(rng.choice(action.option_strings))
        if action.nargs != 0:
            values = [*(action.choices or []), *VALUES, words(rng).replace("\0", "")]
            line += rng.choices(values, k=rng.choice((1, 1, 1, 2)) if action.nargs else 1)
    return line


def test_command_lines(tmp_path, monkeypatch, capsys):
    """Parsed and turned into settings; what is refused is refused in one line with code 2, before any work."""
    kinds = {"meta": MetaSettings, "finetune": FinetuneSettings, "zeroshot": PromptSettings}
    rng, codes, accepted = random.Random(7), [], set()

    def settle(args):
        accepted.add(args.command)
        if args.command not in kinds:
            return
        given = options.given_settings(kinds[args.command], args)
        made = method_settings(kinds[args.command], method_of(args), given, seed=args.seeds[0])
        assert made.length > 0 and made.seed == args.seeds[0] and len(set(args.seeds)) == len(args.seeds)
        numbers = [value for value in asdict(made).values() if isinstance(value, float)]
        assert all(0 <= value < math.inf or value is made.clip_norm for value in numbers)

    actions = options.build("")._actions
    commands = next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices
    for name in commands:
        monkeypatch.setattr(f"mp.commands.{name}.command", settle)
    monkeypatch.chdir(tmp_path)
    for _ in range(800):
        line = arguments(rng, commands)
        try:
            code = program.main(line)
        except SystemExit as e:  # --help
            assert e.code == 0 and {"-h", "--help"} & {*line}
            capsys.readouterr()
            continue
        err = capsys.readouterr().err
        codes.append(code)
        lines = ("run.py: ",) if code == 2 else ()
        assert code in (0, 2) and err.count("\n") == len(lines) and err.startswith(lines or ""), (line, err)
    assert codes.count(0) > 80 and codes.count(2) > 80 and not list(tmp_path.iterdir())
    assert accepted == set(commands) >= {"data", "meta", "zeroshot", "predict", "finetune", "table"}
