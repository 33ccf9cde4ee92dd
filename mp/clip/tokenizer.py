"""Turn text into CLIP's token ids, and back: lower-cased byte-level byte-pair encoding with 49,408 tokens.

    >>> encode("a photo of a cat.")
    [320, 1125, 539, 320, 2368, 269]
    >>> decode([320, 1125, 539, 320, 2368, 269])
    'a photo of a cat . '

Every UTF-8 byte is written as one printable character; a word starts as its bytes, the last one
marked "</w>", and the pair that was merged earliest in training is joined until no pair is left.
"""
import gzip
from functools import cache, lru_cache
from pathlib import Path

import torch

from data.names import clean, words
from mp.clip import CONTEXT_LENGTH, VOCABULARY

MERGES = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")  # OpenAI's, MIT licence
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
SOS, EOT = VOCABULARY - 2, VOCABULARY - 1  # their ids, the two largest
LONGEST = 32  # bytes of the longest token, eight times the face with tears of joy


@cache
def byte_symbols() -> dict[int, str]:
    """Return a printable character for each byte: itself where it is printable, else a character from 256 upwards."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(others)}


@cache
def tables() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Return token -> id, and pair -> merge rank. They are read at first use, so that importing stays quick."""
    with gzip.open(MERGES, "rt", encoding="utf-8") as f:
        lines = f.read().split("\n")[1:]
    pairs = [tuple(line.split()) for line in lines[: VOCABULARY - 2 * 256 - len(SPECIAL)]]  # the file holds more
    symbols = list(byte_symbols().values())
    tokens = symbols + [s + "</w>" for s in symbols] + ["".join(p) for p in pairs] + SPECIAL
    return {t: i for i, t in enumerate(tokens)}, {p: i for i, p in enumerate(pairs)}


def merge(word: str) -> list[str]:
    """Split a word, written in byte symbols, into tokens.

    Each different pair takes one pass over the word: few, and ever shorter, if the word repeats itself.

    >>> merge("lower")
    ['lower</w>']
    """
    _, ranks = tables()
    symbols = [*word[:-1], word[-1] + "</w>"]
    while True:
        known = {pair for pair in zip(symbols, symbols[1:]) if pair in ranks}
        if not known:
            return symbols
        symbols = join(symbols, min(known, key=ranks.get))


def join(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Replace the pair by one symbol wherever it stands, from the left.

    >>> join(["a", "a", "a", "b"], ("a", "a"))
    ['aa', 'a', 'b']
    """
    joined = []
    for symbol in symbols:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] += symbol
        else:
            joined.append(symbol)
    return joined


@lru_cache(maxsize=65536)
def word_ids(word: str) -> tuple[int, ...]:
    """Return the token ids of a word as `words` cuts it out of a text."""
    ids, _ = tables()
    if word in SPECIAL:
        return (ids[word],)
    symbols = byte_symbols()
    in_symbols = "".join(symbols[b] for b in word.encode("utf-8"))
    return tuple(ids[token] for token in merge(in_symbols))


def encode(text: str) -> list[int]:
    """Return the token ids of a text of any length, without SOS and EOT."""
    ids = []
    for word in words(text):
        ids += word_ids(word)
    return ids


def decode(ids: list[int]) -> str:
    """Return the text of token ids; a space follows every word. Broken UTF-8 becomes U+FFFD."""
    tokens = list(tables()[0])
    byte_of = {symbol: byte for byte, symbol in byte_symbols().items()}
    raw = bytes(byte_of[symbol] for symbol in "".join(tokens[i] for i in ids))
    return raw.decode("utf-8", errors="replace").replace("</w>", " ")


def tokenize(texts: str | list[str]) -> torch.Tensor:
    """Return token ids [n, 77]: SOS, the text's ids, EOT, zeros. Raises ValueError naming a text that has more than 75
    ids."""
    texts = [texts] if isinstance(texts, str) else texts
    tokens = torch.zeros(len(texts), CONTEXT_LENGTH, dtype=torch.long)
    for row, text in zip(tokens, texts):
        if len(clean(text).encode("utf-8")) > CONTEXT_LENGTH * (LONGEST + 1):  # with a space between any two
            raise ValueError(f"text of {len(text)} characters doesn't fit: {text[:80]!r}")
        ids = [SOS, *encode(text), EOT]
        if len(ids) > CONTEXT_LENGTH:
            raise ValueError(f"text of {len(ids) - 2} tokens doesn't fit; {CONTEXT_LENGTH - 2} do: {text[:80]!r}")
        row[: len(ids)] = torch.tensor(ids)
    return tokens
