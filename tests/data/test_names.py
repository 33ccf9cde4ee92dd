"""What CLIP reads of class names, by its own tokens; and which names are no words."""
import unicodedata

import pytest

from data import folder as own
from data import paper
from data.errors import DataError, printable
from data.miniature import suite as mini
from data.names import alike, check_names, name_notes, reading
from mp.clip import tokenizer
from tests.data.test_own_folders import below, write
from tests.data.test_paper_datasets import write_split

ASTRONAUT = "\U0001f469\u200d\U0001f680"
ENGLAND = "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbeng") + "\U000e007f"


@pytest.mark.parametrize("names, what, read", [
    (["0", "1", "17"], "numbers", "0"), (["17", "21", "other"], "numbers", "1 7"), (["1.5", "-2"], "numbers", "1 . 5"),
    (["class_1", "Label 2"], "numbers", "class 1"), (["n01440764", "n01443537"], "WordNet ids", "n 0 1 4 4 0 7 6 4"),
    (["tench", "n01443537"], "WordNet ids", "n 0 1 4 4 3 5 3 7"),
    (["n02085620-Chihuahua", "n02085782-Spaniel"], "WordNet ids", "n 0 2 0 8 5 6 2 0 - chihuahua"),
    (["101.White_Pelican", "140.Tanager"], "numbered", "1 0 1 . white pelican"),
    (["0_cat", "1_dog"], "numbered", "0 cat"),
    (["1) cat", "4) dog"], "numbered", "1 ) cat"), (["01 cat", "17 dog"], "numbered", "0 1 cat"),
    (["AnnualCrop", "Forest", "River"], "joined words", "annualcrop"),
])
def test_names_that_are_no_words(names, what, read):
    note, = name_notes(names)
    assert f"{what}, and CLIP reads {read!r}: " in note and "rename the folders" in note
    assert ("classnames.txt" in note) == (what == "WordNet ids")


@pytest.mark.parametrize("names", [
    ["boeing 737", "a340-200", "2012 BMW M3"], ["2012 BMW M3", "2007 Audi S4", "1991 Volvo 240"],
    ["3-door", "5-door"], ["McLaren", "iPhone", "DeLorean", "LaTeX", "eBay", "PhD"], ["747", "cat", "dog"],
    ["2012 BMW ActiveHybrid", "2009 Chevrolet TrailBlazer SS"], ["YouTube", *map("{} logo".format, "abcdefghij")],
    ["T-shirt", "CD player"], ["Apply_Eye_Makeup", "Yo_Yo"], ["Élan", "ça va"], ["", "a"], ["n1", "n2"],
])
def test_ordinary_names_have_no_note(names):
    assert name_notes(names) == []


def test_the_miniatures_names_are_ordinary():
    for name in mini.TABLE:
        assert name_notes(mini.load(name).classes) == [] == alike(mini.load(name).classes)


@pytest.mark.parametrize("first, second", [
    ("rock’n’roll", "rock'n'roll"), ("R&B", "R&amp;amp;B"), ("snow_owl", "Snow  owl"), ("é", "e\u0301"),
    ("ｏｗｌ", "owl"), ("sch\u00c3\u00b6n", "schön"), ("boeing 737", "boeing737"), ("a340-200", "A340 - 200"),
    ("a&nbsp;b", "a b")])
def test_names_are_alike_if_their_tokens_are(first, second):
    tokens = [tokenizer.encode(name.replace("_", " ")) for name in (first, second)]
    assert tokens[0] == tokens[1] and reading(first) == reading(second)
    with pytest.raises(DataError) as e:
        check_names(["cat", first, second], "here")
    assert str(e.value) == f"here: classes {first!r} and {second!r} read alike; rename or unite them"


@pytest.mark.parametrize("first, second", [
    ("snow owl", "snowowl"), ("owl", "owls"), ("é", "e"), ("x²", "x2"), (ASTRONAUT, "👩🚀")])
def test_names_of_other_tokens_are_others(first, second):
    assert tokenizer.encode(first) != tokenizer.encode(second)
    check_names([first, second], "here")


@pytest.mark.parametrize("name", [ASTRONAUT, "می‌روم", ENGLAND])
def test_names_of_joined_signs_are_names(name, tmp_path):
    assert printable(name) == name
    dataset = own.load(write(tmp_path / name, f"{name}/1.jpg", f"{name}/2.jpg", "owl/1.jpg", "owl/2.jpg"))
    assert sorted(dataset.classes) == sorted([name, "owl"]) and dataset.name == name


@pytest.mark.parametrize("name", [
    "", "_", "\u200c \u200d", "&nbsp;", "a\nb", "a\x1b[2Jb", "\u202ea", "\udcff", "\U000e0067"])
def test_what_is_no_name(name):
    with pytest.raises(DataError, match="is empty or can't be printed; rename it"):
        check_names(["owl", name], "here")


def test_a_name_is_the_same_however_a_disk_writes_its_accents(tmp_path):
    """Classes, their order, the division, the names and the fingerprints; paths stay."""
    names = ["été", "ezra", "zürich", "ångström"]
    files = ["é1.jpg", "f.jpg", "ez.jpg", "ü.jpg", "z.jpg", "a.jpg"]
    sets = []
    for number, form in enumerate(("NFC", "NFD")):
        root = tmp_path / str(number) / unicodedata.normalize(form, "Möwen")
        for name in names:
            for file in files:
                path = root / unicodedata.normalize(form, name) / unicodedata.normalize(form, file)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file + name)
        sets.append((root, own.load(root)))
    (root, composed), (other_root, decomposed) = sets
    assert composed.name == decomposed.name == "Möwen" and composed.classes == decomposed.classes == sorted(names)
    for items, others in ((composed.train, decomposed.train), (composed.test, decomposed.test)):
        there = [(unicodedata.normalize("NFC", path), label) for path, label in below(other_root, others)]
        assert below(root, items) == there and below(other_root, others) != there
        assert composed.fingerprint(items) == decomposed.fingerprint(others)


def test_parts_may_write_accents_each_in_its_way(tmp_path):
    dataset = own.load(write(tmp_path, "train/\u00e9/1.jpg", "train/owl/1.jpg", "test/e\u0301/2.jpg", "test/owl/2.jpg"))
    assert dataset.classes == ["owl", "\u00e9"]
    assert below(tmp_path, dataset.test) == [("test/owl/2.jpg", 0), ("test/e\u0301/2.jpg", 1)]


def split_of(names, count):
    """The parts of a split file whose classes have these names."""
    return {part: [[f"{c}/{part}{i}.jpg", c, name] for c, name in enumerate(names) for i in range(count)]
            for part in ("train", "test")}


def test_two_entries_of_a_name_in_a_split_file_are_refused_unless_it_is_the_published(tmp_path, monkeypatch):
    write_split(tmp_path, "DTD", **split_of(["banded", "Banded", "dotted"], 2))
    with pytest.raises(DataError, match="Textures.json: classes 'banded' and 'Banded' read alike; rename or unite"):
        paper.load("DTD", tmp_path)
    monkeypatch.setitem(paper.TABLE, "DTD", paper.TABLE["DTD"]._replace(counts=(3, 6, 6)))
    note, = paper.load("DTD", tmp_path).notes
    assert note == "classes 'banded' and 'Banded' read alike, so CLIP can't tell them apart"


def test_the_notes_of_folders_and_split_files(tmp_path):
    write_split(tmp_path, "EuroSAT", **split_of(["AnnualCrop", "River"], 1))
    assert "joined words" in paper.load("EuroSAT", tmp_path).notes[1]
    note, = own.load(write(tmp_path / "own", "001.owl/1.jpg", "001.owl/2.jpg", "002.emu/1.jpg", "002.emu/2.jpg")).notes
    assert "'001.owl' are numbered" in note
