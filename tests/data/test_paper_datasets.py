"""The paper's datasets, read from small folders of the same form, and what is said when something is wrong."""
import csv
import itertools
import json
from pathlib import Path

import pytest

from data import folder as own
from data import paper
from data.dataset import Item
from data.errors import DataError
from data.readers import list_folder
from data.suite import key, open_suite


def write_split(root, name, classes=3, **changes):
    """A dataset folder with a split file; `changes` replaces whole parts of it."""
    row = paper.TABLE[name]
    folder = root / row.folder
    (folder / row.images).mkdir(parents=True, exist_ok=True)
    split = {part: [[f"class{c}/{part}{i}.jpg", c, f"name {c}"] for c in reversed(range(classes)) for i in range(2)]
             for part in ("train", "val", "test")}
    (folder / row.labels).write_text(json.dumps(split | changes))
    return folder


def test_the_table_is_the_papers():
    with open("data/table2.csv", newline="") as f:
        order = list(dict.fromkeys(line["dataset"] for line in csv.DictReader(f)))
    assert sorted(paper.NAMES) == sorted(order)
    assert len(paper.TRAINING) == 6 and set(order[:6]) == set(paper.TRAINING)
    assert all("{}" in row.template for row in paper.TABLE.values())


@pytest.mark.parametrize("name", [n for n, row in paper.TABLE.items() if row.labels.startswith("split")])
def test_split_files(name, tmp_path):
    folder = write_split(tmp_path, name)
    dataset = paper.load(name, tmp_path)
    assert dataset.classes == ["name 0", "name 1", "name 2"] and len(dataset.test) == 6
    assert dataset.train[0] == Item(str(folder / paper.TABLE[name].images / "class2/train0.jpg"), 2)  # the file's order


def test_a_linked_folder(tmp_path):
    folder = write_split(tmp_path / "elsewhere", "DTD")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "dtd").symlink_to(folder)
    assert len(paper.load("DTD", tmp_path / "here").train) == 6


def test_aircraft(tmp_path):
    folder = tmp_path / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_bytes("\ufeff747-100\r\nA 320\r\n".encode())
    (folder / "images_variant_train.txt").write_text("0001 A 320\n0002 747-100\n")
    (folder / "images_variant_test.txt").write_text("0003 A 320\n")
    dataset = paper.load("FGVC Aircraft", tmp_path)
    assert dataset.classes == ["747-100", "A 320"]
    assert dataset.train == [Item(str(folder / "images" / "0001.jpg"), 1), Item(str(folder / "images" / "0002.jpg"), 0)]
    (folder / "images_variant_test.txt").write_text("0003 A 320\n0004 A 321\n")
    with pytest.raises(DataError, match="images_variant_test.txt, line 2: variant 'A 321'"):
        paper.load("FGVC Aircraft", tmp_path)
    (folder / "images_variant_test.txt").write_text("../3 A 320\n")
    with pytest.raises(DataError, match="images_variant_test.txt, line 1 leaves the image folder: '../3'"):
        paper.load("FGVC Aircraft", tmp_path)
    for part in ("train", "test"):
        file = folder / f"images_variant_{part}.txt"
        whole = file.read_text()
        file.write_text(" \n\n")
        with pytest.raises(DataError, match=f"images_variant_{part}.txt: no image is listed"):
            paper.load("FGVC Aircraft", tmp_path)
        file.write_text(whole)
    (folder / "images_variant_test.txt").write_text("0003 A 320\n")
    (folder / "variants.txt").write_text("747-100\nA 320\nA 321\n")
    with pytest.raises(DataError, match="variants.txt: class 2 of 3 has no training image"):
        paper.load("FGVC Aircraft", tmp_path)
    (folder / "variants.txt").write_text("747-100\n \nA 320\n")
    with pytest.raises(DataError, match="variants.txt, line 2 has no name"):
        paper.load("FGVC Aircraft", tmp_path)
    (folder / "variants.txt").write_bytes(b"\xff\xfe7")
    with pytest.raises(DataError, match="variants.txt: not readable as text"):
        paper.load("FGVC Aircraft", tmp_path)


def test_imagenet(tmp_path):
    folder = tmp_path / "imagenet"
    for part in ("train", "val"):
        for wnid in ("n02", "n01"):
            (folder / "images" / part / wnid).mkdir(parents=True)
            for i in (2, 1):
                (folder / "images" / part / wnid / f"{part}{i}.JPEG").touch()
    (folder / "classnames.txt").write_text("n01 tench\nn02 great white shark\n")
    dataset = paper.load("ImageNet", tmp_path)
    assert dataset.classes == ["tench", "great white shark"]
    assert [(Path(i.source).name, i.label) for i in dataset.test] == [
        ("val1.JPEG", 0), ("val2.JPEG", 0), ("val1.JPEG", 1), ("val2.JPEG", 1)]
    for part in ("train", "val"):  # as people have them: archives that aren't unpacked
        (folder / "images" / part / "n02" / "n02.tar").touch()
        assert paper.load("ImageNet", tmp_path) == dataset
    for file in (folder / "images" / "val" / "n02").glob("*.JPEG"):
        file.unlink()
    with pytest.raises(DataError, match="val/n02: no images .*unpack the archive"):
        paper.load("ImageNet", tmp_path)
    for text, message in (("n01 tench\n", "n02: .*classnames.txt has no name for it"),
                          ("n01 tench\nn02\n", "classnames.txt, line 2: 'n02' isn't an id and a name"),
                          ("n01 tench\nn01 carp\n", "classnames.txt, line 2: n01 has two names")):
        (folder / "classnames.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            paper.load("ImageNet", tmp_path)
    (folder / "classnames.txt").write_text("n01 tench\n")
    (folder / "images" / "train").rename(folder / "elsewhere")
    (folder / "images" / "train").mkdir()
    with pytest.raises(DataError, match="train: no folders"):
        paper.load("ImageNet", tmp_path)


@pytest.mark.parametrize("train, message", [
    ([["/etc/passwd", 0, "x"]], "train entry 0 leaves the image folder: '/etc/passwd'"),
    ([["a/../../x.jpg", 0, "x"]], "leaves the image folder"),
    ([["a.jpg", 0, "  "]], "train entry 0 is .*, not .image path, label, class name"),
    ([["a.jpg", 0, "x"], ["b.jpg", 0, "y"]], "train entry 1: class 0 is 'x' and 'y'"),
    ([["a.jpg", 1, "name 1"], ["b.jpg", 2, "name 2"]], "class 0 .* has no training image"),
    ([["a.jpg", 0]], "train entry 0 is .* not"),
    ([["a.jpg", "0", "x"]], "not .image path, label, class name"),
    ([], "no list 'train', or an empty one"),
])
def test_damaged_split_files_are_named(train, message, tmp_path):
    write_split(tmp_path, "DTD", train=train)
    with pytest.raises(DataError, match=message) as e:
        paper.load("DTD", tmp_path)
    assert "split_zhou_DescribableTextures.json" in str(e.value)


def test_what_is_missing_is_named_with_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"DTD: no folder .*dtd.*DATASETS.md"):
        paper.load("DTD", tmp_path)
    folder = write_split(tmp_path, "DTD")
    (folder / "split_zhou_DescribableTextures.json").write_text('{"train": [')
    with pytest.raises(DataError, match="not readable as JSON.*fetch it again"):
        paper.load("DTD", tmp_path)
    (folder / "split_zhou_DescribableTextures.json").unlink()
    with pytest.raises(DataError, match="no file .*1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"):
        paper.load("DTD", tmp_path)
    with pytest.raises(DataError, match="no dataset 'MNIST'"):
        paper.load("MNIST", tmp_path)
    for name in ("Stanford Cars", "SUN397"):
        with pytest.raises(DataError, match="any copy .* with the same file names"):
            paper.load(name, tmp_path)


def test_what_must_have_test_images(tmp_path):
    """The dataset; its new classes may have none."""
    write_split(tmp_path, "DTD", test=[])
    with pytest.raises(DataError, match="split_zhou_DescribableTextures.json: no list 'test', or an empty one"):
        paper.load("DTD", tmp_path)
    write_split(tmp_path, "DTD", test=[["class0/test0.jpg", 0, "name 0"]])
    assert [item.label for item in paper.load("DTD", tmp_path).test] == [0]


@pytest.fixture
def imagenet(tmp_path):
    """Its folder, with two classes of one image for training and one for testing."""
    folder = tmp_path / "imagenet"
    for part, name in itertools.product(("train", "val"), ("n01", "n02")):
        (folder / "images" / part / name).mkdir(parents=True)
        (folder / "images" / part / name / f"{name}.JPEG").touch()
    (folder / "classnames.txt").write_text("n01 tench\nn02 great white shark\n")
    return folder


def test_what_systems_leave_in_imagenet_is_no_class(imagenet):
    for part in ("train", "val"):
        (imagenet / "images" / part / "lost+found").mkdir()
    assert paper.load("ImageNet", imagenet.parent).classes == ["tench", "great white shark"]


def test_a_part_of_imagenet_is_told(imagenet, monkeypatch):
    note, = paper.load("ImageNet", imagenet.parent).notes
    assert note == "not the published benchmark: 2 of 1,000 classes, 2 of 1,281,167 training and 2 of 50,000 test images"
    monkeypatch.setitem(paper.TABLE, "ImageNet", paper.TABLE["ImageNet"]._replace(counts=(2, 2, 2)))
    assert not paper.load("ImageNet", imagenet.parent).notes


def refused(imagenet, message):
    with pytest.raises(DataError, match=message):
        paper.load("ImageNet", imagenet.parent)


def test_flat_validation_images(imagenet):
    val = imagenet / "images/val"
    for file in list(val.glob("*/*")):
        file.rename(val / file.name)
        file.parent.rmdir()
        refused(imagenet, "val: no folder n0.; sort the validation images .* valprep.sh")


def test_archives_in_place_of_class_folders(imagenet):
    train = imagenet / "images/train"
    for file in list(train.glob("*/*")):
        file.rename(train / f"{file.stem}.tar")
        file.parent.rmdir()
    refused(imagenet, "train: no folders; unpack each archive")


def test_imagenets_folders_in_other_places(imagenet):
    train = imagenet / "images/train"
    train.rename(imagenet / "train")
    refused(imagenet, "images/train: not a readable folder .*move the folder there if it lies elsewhere")
    train.mkdir()
    (imagenet / "train").rename(train / "train")
    refused(imagenet, "train/train: .*if class folders are in it, move them up to .*images/train")


@pytest.mark.parametrize("name, images", [
    ("Caltech101", "caltech-101/caltech-101/101_ObjectCategories"), ("EuroSAT", "eurosat/EuroSAT_RGB"),
    ("EuroSAT", "eurosat/EuroSAT/2750"), ("EuroSAT", "eurosat/2750/2750"), ("DTD", "dtd/images/images"),
    ("DTD", "dtd/dtd/images"), ("OxfordPets", "oxford_pets/images/images"), ("Stanford Cars", "stanford_cars/cars/unpacked"),
    ("UCF101", "ucf101/UCF-101_midframes"), ("SUN397", "sun397/SUN397/SUN397"), ("Food101", "food-101"),
    ("FGVC Aircraft", "fgvc_aircraft/images/images"), ("FGVC Aircraft", "fgvc_aircraft/fgvc-aircraft-2013b/data/images")])
def test_images_that_lie_elsewhere_in_their_folder(name, images, tmp_path):
    row = paper.TABLE[name]
    folder = tmp_path / row.folder
    if name == "FGVC Aircraft":
        folder.mkdir()
        (folder / row.labels).write_text("A 320\n")
        for part in ("train", "test"):
            (folder / f"images_variant_{part}.txt").write_text("0001 A 320\n")
        first = "0001.jpg"
    else:
        write_split(tmp_path, name)
        if row.images:
            (folder / row.images).rmdir()
        first = "class2/test0.jpg"
    (tmp_path / images / first).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / images / first).touch()
    with pytest.raises(DataError) as e:
        paper.load(name, tmp_path)
    assert f"no image {folder / row.images / first}; it lies at {tmp_path / images / first}: move all" in str(e.value)


@pytest.mark.parametrize("there, wanted", [
    ("split_zhou_DescribableTextures.json", "dtd/split_zhou_DescribableTextures.json"),
    ("dtd/images/split_zhou_DescribableTextures.json", "dtd/split_zhou_DescribableTextures.json"),
    ("food-101/split_zhou_DescribableTextures.json", "dtd/split_zhou_DescribableTextures.json"),
    ("datasets/dtd", "dtd"), ("DTD", "dtd")])
def test_files_and_folders_that_lie_elsewhere(there, wanted, tmp_path):
    folder = write_split(tmp_path, "DTD")
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / wanted).rename(tmp_path / there)
    with pytest.raises(DataError) as e:
        paper.load("DTD", tmp_path)
    assert f"{tmp_path / wanted}; it may be {tmp_path / there}: move that there" in str(e.value)
    assert folder.name == "dtd"


def test_links_that_lead_nowhere_are_not_where_a_thing_lies(tmp_path):
    (tmp_path / "dtd").symlink_to("nowhere")
    with pytest.raises(DataError, match="no folder .*dtd; get it from"):
        paper.load("DTD", tmp_path)


def test_an_image_folder_that_is_missing(tmp_path):
    folder = write_split(tmp_path, "EuroSAT")
    (folder / "2750").rmdir()
    with pytest.raises(DataError, match="EuroSAT: no image folder .*2750; get it from .*EuroSAT.zip"):
        paper.load("EuroSAT", tmp_path)


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
        with pytest.raises(DataError, match="a dataset's of the suite.* give the name alone if the suite's dataset is meant"):
            open_suite(tmp_path, [str(tmp_path / word)])


def test_a_name_of_the_suite_and_of_another_folder_here_is_refused(tmp_path, monkeypatch):
    """By whichever of its names; the dataset's own folder is no other."""
    write_own(tmp_path / "here/oxford_flowers", crow=2, owl=2)
    write_own(tmp_path / "here/flowers", crow=2, owl=2)
    write_split(tmp_path / "suite", "Flowers102")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/oxford_flowers").symlink_to(tmp_path / "suite/oxford_flowers")
    for root, name in ((tmp_path / "suite", "oxford_flowers"), (tmp_path / "empty", "oxford_flowers"), (None, "flowers")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(DataError, match=f"^{name}: a dataset of the suite, and a folder here; rename the folder"):
            open_suite(root, ["DTD" if root else "pets", name])
        monkeypatch.chdir(tmp_path / "empty")
        assert len(open_suite(root, [name]).datasets) == 1
    for here in ("suite", "linked"):
        monkeypatch.chdir(tmp_path / here)
        for root in (".", tmp_path / "suite"):
            assert open_suite(Path(root), ["oxford_flowers"]).datasets == ["Flowers102"]


def test_no_name_means_two_datasets():
    words = [key(word) for name in paper.NAMES for word in {*map(key, paper.names_of(name))}]
    assert len(words) == len(set(words))


def write_own(root, **images):
    for name, count in images.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.JPG").touch()
    return root


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    folder = write_own(tmp_path / "birds", snow_owl=5, finch=4, crow=2)
    (folder / "notes.txt").touch()
    (folder / "finch" / "Thumbs.db").touch()
    dataset = own.load(folder)
    assert dataset.classes == ["crow", "finch", "snow_owl"] and dataset.name == "birds"
    assert [sum(i.label == c for i in dataset.train) for c in range(3)] == [1, 2, 2]
    assert [sum(i.label == c for i in dataset.test) for c in range(3)] == [1, 2, 3]
    sources = [i.source for i in dataset.train + dataset.test]
    assert len(set(sources)) == 11 and all(Path(s).parent.name == dataset.classes[i.label]
                                           for s, i in zip(sources, dataset.train + dataset.test))
    assert own.load(folder) == dataset
    monkeypatch.chdir(folder)
    suite = open_suite(tmp_path, ["DTD", "."])
    assert suite.datasets == ["DTD", "birds"] and suite.load("birds").classes == dataset.classes
    assert open_suite(None, [str(folder), "pets"]).datasets == ["pets", "birds"]
    assert open_suite(None, [str(folder), f"{folder}/"]).datasets == ["birds"]
    for other in ("birds", "bir ds"):  # result files are without spaces
        with pytest.raises(DataError, match="another folder of that name"):
            open_suite(None, [str(folder), str(write_own(tmp_path / "b" / other, x=2))])
    with pytest.raises(DataError, match="this one is a dataset's of the suite"):
        open_suite(None, [str(write_own(tmp_path / "PETS", x=2))])


def test_a_folder_of_ones_own_that_is_wrong(tmp_path):
    with pytest.raises(DataError, match="a: no sub-folders"):
        (tmp_path / "a").mkdir()
        own.load(tmp_path / "a")
    with pytest.raises(DataError, match="empty: no images"):
        own.load(write_own(tmp_path / "b", empty=0, full=4))
    with pytest.raises(DataError, match="lonely: 1 images .* needs 2 or more"):
        own.load(write_own(tmp_path / "c", full=4, lonely=1))
    with pytest.raises(DataError, match="a class's name, ' ', is empty or can't be printed; rename it"):
        own.load(write_own(tmp_path / "d", **{"full": 4, " ": 4}))
    with pytest.raises(DataError, match="no dataset 'nowhere' in the mini suite, and no folder"):
        open_suite(None, ["nowhere"])


def test_listings(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("2", "1", ".hidden"):
        (tmp_path / name).touch()
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
