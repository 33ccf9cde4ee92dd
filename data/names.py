"""Names of classes: what CLIP reads of them, whether two read alike, and whether they are words at all."""
import html
import unicodedata
from functools import lru_cache

import ftfy
import regex

from data.errors import JOINERS, DataError, printable

# What a word is: a run of letters, one digit, a run of other signs, or an ending such as 's. `regex` knows Unicode's
# letter (L) and number (N) classes; `re` does not.
WORD = regex.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
                     regex.IGNORECASE)
WORDNET_ID = regex.compile(r"n\d{8}([\W_].*)?", regex.DOTALL)  # alone, or with the word behind it
NUMBER = regex.compile(r"(class|label|category|id)?[\d\W_]*\d[\d\W_]*", regex.IGNORECASE)
NUMBERED = regex.compile(r"(\d{1,9})([\s._)-]+)\p{L}")
JOINED = regex.compile(r"\S*\p{Ll}{2}\p{Lu}\p{Ll}\S*")  # AnnualCrop, but not McLaren or iPhone
MANY_JOINED = 0.1  # of all names; fewer are likely to be brands


def clean(text: str) -> str:
    """Return the text as CLIP sees it: mended, without HTML's entities, in lower case and with single spaces."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return regex.sub(r"\s+", " ", text).strip().lower()


def words(text: str) -> list[str]:
    """Return the words that CLIP reads, each of which becomes tokens by itself.

    >>> words("Rock’n’roll &amp; a340")
    ['rock', "'", 'n', "'", 'roll', '&', 'a', '3', '4', '0']
    """
    return WORD.findall(clean(text))


@lru_cache(maxsize=65536)
def reading(name: str) -> str:
    """Return what CLIP reads of a class's name, in which "_" is a space; the same for names with the same tokens."""
    return " ".join(words(name.replace("_", " ")))


def composed(name: str) -> str:
    """Return the name with a letter and its accent as one sign; on macOS's disks they are two.

    What is drawn, sorted and shown goes by it; a path stays as it is.
    """
    return unicodedata.normalize("NFC", name)


def alike(names: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that CLIP can't tell apart: each with the first one that reads the same."""
    pairs, first = [], {}
    for name in names:
        read = reading(name)
        if read in first:
            pairs.append((first[read], name))
        first.setdefault(read, name)
    return pairs


def check_names(names: list[str], where: str) -> None:
    """Raise DataError for a class's name that is empty or can't be printed, or that reads as another one does."""
    for name in names:
        if printable(name) != name or not reading(name).strip(JOINERS + " "):
            raise DataError(f"{where}: a class's name, {name!r}, is empty or can't be printed; rename it")
    for pair in alike(names):
        raise DataError("{}: classes {!r} and {!r} read alike; rename or unite them".format(where, *pair))


def name_notes(names: list[str]) -> list[str]:
    """Return a note about names that are no words, or have a number before them; ordinary names have none."""
    kinds = (  # which names are of the kind, how many make a note, what they are, and what to do
        (list(filter(WORDNET_ID.fullmatch, names)), 1, "WordNet ids", "give words instead (rename the folders); "
         "CoOp's classnames.txt (data/README.md) has a line for each id, such as 'n01440764 tench'"),
        (list(filter(NUMBER.fullmatch, names)), (len(names) + 1) / 2, "numbers",
         "if they stand for words, give these instead (rename the folders)"),
        (names if are_numbered(names) else [], 1, "numbered", "leave the numbers out (rename the folders)"),
        (list(filter(JOINED.fullmatch, names)), MANY_JOINED * len(names), "joined words",
         "write the words apart (rename the folders)"))
    for odd_names, least, what, advice in kinds:
        if odd_names and len(odd_names) >= least:
            odd = odd_names[0]
            return [f"class names such as {odd!r} are {what}, and CLIP reads {reading(odd)!r}: {advice}"]
    return []


def are_numbered(names: list[str]) -> bool:
    """Return whether all of them begin with their number, as 001.cat or 1_cat and 2_dog do; years of cars don't."""
    matches = [NUMBERED.match(name) for name in names]
    if not all(matches):
        return False
    numbers = sorted(int(match[1]) for match in matches)
    in_a_row = numbers in ([*range(len(names))], [*range(1, len(names) + 1)])
    padded = any(match[1].startswith("0") and len(match[1]) > 1 for match in matches)
    marked = all("." in match[2] or ")" in match[2] for match in matches)
    return in_a_row or padded or marked
