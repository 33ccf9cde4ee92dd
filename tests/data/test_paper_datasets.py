"""The paper's datasets, read from small folders of the same form, and what is said when something is wrong."""
import csv
import json
from pathlib import Path

import pytest

from data import folder as own
from data import paper
from data.dataset import Item
from data.errors import DataError
from data.readers import list_folder
from data.suite import key, open_suite
from tests.data.test_own_folders import below, write


def write_split(root, name, classes=3, **changes):
    """A dataset folder with a split file; `changes` replaces whole parts of it."""
    row = paper.TABLE[name]
    folder = root / row.folder
    (folder / row.images).mkdir(parents=True, exist_ok=True)
    split = {part: [[f"class{c}/{part}{i}.jpg", c, f"name {c}"] for c in reversed(range(classes)) for i in range(2)]
             for part in ("train", "val", "test")}
    (folder / row.labels).write_text(json.dumps(split | changes))
    return folder


def refused(name, root, message):
    with pytest.raises(DataError, match=message) as e:
        paper.load(name, root)
    return str(e.value)


def test_the_table_is_the_papers():
    with open("data/table2.csv", newline="") as f:
        order = list(dict.fromkeys(line["dataset"] for line in csv.DictReader(f)))
    assert sorted(paper.NAMES) == sorted(order)
    assert len(paper.TRAINING) == 6 and set(order[:6]) == set(paper.TRAINING)
    assert all("{}" in row.template for row in paper.TABLE.values())


def test_split_files(tmp_path):
    """Also of a folder that is a link; its new classes may lack test images."""
    for name in [name for name, row in paper.TABLE.items() if row.labels.startswith("split")]:
        folder = write_split(tmp_path / "elsewhere", name, test=[["class0/test0.jpg", 0, "name 0"]])
        (tmp_path / folder.name).symlink_to(folder)
        dataset = paper.load(name, tmp_path)
        assert dataset.classes == ["name 0", "name 1", "name 2"] and [item.label for item in dataset.test] == [0]
        images = tmp_path / folder.name / paper.TABLE[name].images
        assert dataset.train[0] == Item(str(images / "class2/train0.jpg"), 2)  # the file's order


@pytest.mark.parametrize("train, message", [
    ([["/etc/passwd", 0, "x"]], "train entry 0 leaves the image folder: '/etc/passwd'"),
    ([["a/../../x.jpg", 0, "x"]], "leaves the image folder"),
    ([["a.jpg", 0, "x"], ["b.jpg", 0, "y"]], "train entry 1: class 0 is 'x' and 'y'"),
    ([["a.jpg", 1, "name 1"], ["b.jpg", 2, "name 2"]], "class 0 .* has no training image"),
    ([["a.jpg", 0, "x"], ["a.jpg", 0, "  "]], "train entry 1 is .*, not .image path, label, class name"),
    ([["a.jpg", "0", "x"]], "not .image path, label, class name"),
    ([], "no list 'train', or an empty one"),
])
def test_damaged_split_files_are_named(train, message, tmp_path):
    write_split(tmp_path, "DTD", train=train)
    assert "split_zhou_DescribableTextures.json" in refused("DTD", tmp_path, message)


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path):
    refused("MNIST", tmp_path, "no dataset 'MNIST'")
    for name in ("Stanford Cars", "SUN397"):
        refused(name, tmp_path, "any copy .* with the same file names")
    (tmp_path / "dtd").symlink_to("nowhere")
    refused("DTD", tmp_path, r"DTD: no folder .*dtd; get it from .*DATASETS.md")
    (tmp_path / "dtd").unlink()
    file = write_split(tmp_path, "DTD", test=[]) / "split_zhou_DescribableTextures.json"
    refused("DTD", tmp_path, f"{file}: no list 'test', or an empty one")
    file.write_text('{"train": [')
    refused("DTD", tmp_path, "not readable as JSON.*fetch it again")
    file.unlink()
    refused("DTD", tmp_path, "no file .*1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x")
    (write_split(tmp_path, "EuroSAT") / "2750").rmdir()
    refused("EuroSAT", tmp_path, "EuroSAT: no image folder .*2750; get it from .*EuroSAT.zip")


def write_aircraft(root, variants="747-100\nA 320\n", train="0001 A 320\n0002 747-100\n", test="0003 A 320\n"):
    folder = write(root, "fgvc_aircraft/images/0003.jpg") / "fgvc_aircraft"
    (folder / "variants.txt").write_text(variants, "utf-8", "surrogateescape")
    (folder / "images_variant_train.txt").write_text(train)
    (folder / "images_variant_test.txt").write_text(test)


def test_aircraft(tmp_path):
    write_aircraft(tmp_path, variants="\ufeff747-100\r\nA 320\r\n")
    dataset = paper.load("FGVC Aircraft", tmp_path)
    assert dataset.classes == ["747-100", "A 320"]
    assert below(tmp_path / "fgvc_aircraft/images", dataset.train) == [("0001.jpg", 1), ("0002.jpg", 0)]


@pytest.mark.parametrize("changes, message", [
    (dict(test="0003 A 320\n0004 A 321\n"), "images_variant_test.txt, line 2: variant 'A 321'"),
    (dict(test="../3 A 320\n"), "images_variant_test.txt, line 1 leaves the image folder: '../3'"),
    (dict(test=" \n\n"), "images_variant_test.txt: no image is listed"),
    (dict(variants="747-100\nA 320\nA 321\n"), "variants.txt: class 2 of 3 has no training image"),
    (dict(variants="747-100\n \nA 320\n"), "variants.txt, line 2 has no name"),
    (dict(variants="\udcff\udcfe7"), "variants.txt: not readable as text"),
])
def test_what_is_wrong_with_aircrafts_lists(changes, message, tmp_path):
    write_aircraft(tmp_path, **changes)
    refused("FGVC Aircraft", tmp_path, message)


@pytest.fixture
def imagenet(tmp_path):
    """Its folder, with two classes of two images for training and for testing."""
    for part in ("train", "val"):
        write(tmp_path, *(f"imagenet/images/{part}/{name}/{i}.JPEG" for name in ("n02", "n01") for i in (2, 1)))
    (tmp_path / "imagenet/classnames.txt").write_text("n01 tench\nn02 great white shark\n")
    return tmp_path / "imagenet"


def test_imagenet(imagenet, monkeypatch):
    """Also beside archives that were unpacked, and what systems leave."""
    for part in ("train", "val"):
        write(imagenet / "images" / part, "n02/n02.tar", "lost+found/x")
    dataset = paper.load("ImageNet", imagenet.parent)
    assert dataset.classes == ["tench", "great white shark"]
    assert below(imagenet / "images/val", dataset.test) == [
        ("n01/1.JPEG", 0), ("n01/2.JPEG", 0), ("n02/1.JPEG", 1), ("n02/2.JPEG", 1)]
    assert dataset.notes == [
        "not the published benchmark: 2 of 1,000 classes, 4 of 1,281,167 training and 4 of 50,000 test images"]
    monkeypatch.setitem(paper.TABLE, "ImageNet", paper.TABLE["ImageNet"]._replace(counts=(2, 4, 4)))
    assert not paper.load("ImageNet", imagenet.parent).notes


def test_what_is_wrong_with_imagenets_files(imagenet):
    root, train, val = imagenet.parent, imagenet / "images/train", imagenet / "images/val"
    for text, message in (("n01 tench\n", "n02: .*classnames.txt has no name for it"),
                          ("n01 tench\nn02\n", "classnames.txt, line 2: 'n02' isn't an id and a name"),
                          ("n01 tench\nn01 carp\n", "classnames.txt, line 2: n01 has two names")):
        (imagenet / "classnames.txt").write_text(text)
        refused("ImageNet", root, message)
    (imagenet / "classnames.txt").write_text("n01 tench\nn02 great white shark\n")
    for file in list(val.glob("*/*")):
        file.rename(val / f"{file.parent.name}{file.name}")
    refused("ImageNet", root, "val/n01: no images .*unpack the archive")
    (val / "n01").rmdir()
    refused("ImageNet", root, "val: no folder n01; sort the validation images .* valprep.sh")
    train.rename(imagenet / "train")
    refused("ImageNet", root, "images/train: not a readable folder .*move the folder there if it lies elsewhere")
    write(train, "n01.tar")
    refused("ImageNet", root, "train: no folders; unpack each archive")
    (imagenet / "train").rename(train / "train")
    refused("ImageNet", root, "train/train: .*if class folders are in it, move them up to .*images/train")


@pytest.mark.parametrize("name, images", [
    ("Caltech101", "caltech-101/caltech-101/101_ObjectCategories"), ("EuroSAT", "eurosat/EuroSAT_RGB"),
    ("EuroSAT", "eurosat/2750/2750"), ("Stanford Cars", "stanford_cars/cars/unpacked"), ("Food101", "food-101"),
    ("FGVC Aircraft", "fgvc_aircraft/fgvc-aircraft-2013b/data/images")])
def test_images_that_lie_elsewhere_in_their_folder(name, images, tmp_path):
    row = paper.TABLE[name]
    folder = tmp_path / row.folder
    if name == "FGVC Aircraft":
        write_aircraft(tmp_path)
        (folder / "images/0003.jpg").unlink()
        first = "0003.jpg"
    else:
        write_split(tmp_path, name)
        first = "class2/test0.jpg"
    write(tmp_path / images, first)
    message = refused(name, tmp_path, "no image")
    assert f"no image {folder / row.images / first}; it lies at {tmp_path / images / first}: move all" in message


@pytest.mark.parametrize("there, wanted", [
    ("dtd/images/split_zhou_DescribableTextures.json", "dtd/split_zhou_DescribableTextures.json"),
    ("food-101/split_zhou_DescribableTextures.json", "dtd/split_zhou_DescribableTextures.json"),
    ("datasets/dtd", "dtd"), ("DTD", "dtd")])
def test_files_and_folders_that_lie_elsewhere(there, wanted, tmp_path):
    write_split(tmp_path, "DTD")
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / wanted).rename(tmp_path / there)
    message = refused("DTD", tmp_path, "no f")
    assert f"{tmp_path / wanted}; it may be {tmp_path / there}: move that there" in message


NAMES = {  # as CoOp's folders, its classes of datasets and its configuration files have them
    "Caltech101": "caltech-101 Caltech101 caltech101", "EuroSAT": "eurosat EuroSAT", "UCF101": "ucf101 UCF101",
    "FGVC Aircraft": "fgvc_aircraft FGVCAircraft", "Flowers102": "oxford_flowers OxfordFlowers Flowers102 flowers_102",
    "OxfordPets": "oxford_pets OxfordPets OXFORDPETS", "DTD": "dtd DescribableTextures describable_textures",
    "Food101": "food-101 food101 Food101", "ImageNet": "imagenet ImageNet", "SUN397": "sun397 SUN397",
    "Stanford Cars": "stanford_cars StanfordCars",
}


@pytest.mark.parametrize("name", paper.NAMES)
def test_all_the_names_of_a_dataset(name, tmp_path, monkeypatch):
    """A folder of that name in the working directory is not meant without --data."""
    monkeypatch.chdir(tmp_path)
    for word in NAMES[name].split():
        assert open_suite(tmp_path, [word, name]).datasets == [name]
    for word in NAMES[name].split():
        write_own(tmp_path / word, crow=2, owl=2)
        with pytest.raises(DataError, match=f"{word}: {name} is of the paper's suite; give --data DIR"):
            open_suite(None, [word])
        assert open_suite(None, [str(tmp_path / word)]).datasets == [word]
        with pytest.raises(DataError, match="a dataset's of the suite.* give the name alone if the suite's"):
            open_suite(tmp_path, [str(tmp_path / word)])


def test_no_name_means_two_datasets():
    words = [key(word) for name in paper.NAMES for word in {*map(key, paper.names_of(name))}]
    assert len(words) == len(set(words))


def test_a_name_of_the_suite_and_of_another_folder_here_is_refused(tmp_path, monkeypatch):
    """By whichever of its names; the dataset's own folder is no other."""
    write_own(tmp_path / "here/oxford_flowers", crow=2, owl=2)
    write_own(tmp_path / "here/flowers", crow=2, owl=2)
    write_split(tmp_path / "suite", "Flowers102")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/oxford_flowers").symlink_to(tmp_path / "suite/oxford_flowers")
    (tmp_path / "empty").mkdir()
    suite, empty = tmp_path / "suite", tmp_path / "empty"
    for root, name in ((suite, "oxford_flowers"), (empty, "oxford_flowers"), (None, "flowers")):
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(DataError, match=f"^{name}: a dataset of the suite, and a folder here; rename the folder"):
            open_suite(root, ["DTD" if root else "pets", name])
        monkeypatch.chdir(tmp_path / "empty")
        assert len(open_suite(root, [name]).datasets) == 1
    for here in ("suite", "linked"):
        monkeypatch.chdir(tmp_path / here)
        for root in (".", tmp_path / "suite"):
            assert open_suite(Path(root), ["oxford_flowers"]).datasets == ["Flowers102"]


def write_own(root, **images):
    return write(root, *(f"{name}/{i}.JPG" for name, count in images.items() for i in range(count)))


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    folder = write_own(tmp_path / "birds", snow_owl=5, finch=4, crow=2)
    dataset = own.load(folder)
    assert dataset.classes == ["crow", "finch", "snow_owl"] and dataset.name == "birds"
    assert [sum(i.label == c for i in dataset.train) for c in range(3)] == [1, 2, 2]
    assert [sum(i.label == c for i in dataset.test) for c in range(3)] == [1, 2, 3]
    items = below(folder, dataset.train + dataset.test)
    assert len(set(items)) == 11 and all(path.split("/")[0] == dataset.classes[label] for path, label in items)
    monkeypatch.chdir(folder)
    suite = open_suite(tmp_path, ["DTD", "."])
    assert suite.datasets == ["DTD", "birds"] and suite.load("birds").classes == dataset.classes
    assert open_suite(None, [str(folder), "pets"]).datasets == ["pets", "birds"]
    assert open_suite(None, [str(folder), f"{folder}/"]).datasets == ["birds"]
    for other in ("birds", "bir ds"):  # result files are without spaces
        with pytest.raises(DataError, match="another folder of that name"):
            open_suite(None, [str(folder), str(write_own(tmp_path / "b" / other, x=2))])
    for taken in ("PETS", "Average (test)"):
        with pytest.raises(DataError, match="this one is a dataset's of the suite, a table's"):
            open_suite(None, [str(write_own(tmp_path / taken, x=2))])


def test_listings(tmp_path):
    write(tmp_path, "inner/x", "2", "1", ".hidden")
    (tmp_path / "a link").symlink_to(tmp_path / "inner")
    assert list_folder(tmp_path) == (["a link", "inner"], ["1", "2"])
    with pytest.raises(DataError, match="c: not a readable folder .No such file"):
        list_folder(tmp_path / "c")


def test_both_suites(tmp_path):
    mini, paper_suite = open_suite(None), open_suite(tmp_path)
    assert (mini.name, paper_suite.name) == ("mini", "paper")
    assert mini.meta_epochs == 50 and paper_suite.meta_epochs is None
    for suite in (mini, paper_suite):
        assert len(suite.datasets) == 11 and len(suite.training) == 6
    assert mini.weights.exists() and paper_suite.weights is None
    with pytest.raises(DataError, match="nowhere: no such folder; --data"):
        open_suite(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no dataset 'nowhere' in the mini suite, and no folder"):
        open_suite(None, ["nowhere"])
