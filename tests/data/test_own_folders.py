"""Folders as people have them: endings, what is left out, divided folders, and class names that read alike."""
import itertools
import random
from pathlib import Path

import pytest
from PIL import Image

from data import folder as own
from data.errors import DataError
from data.images import FORMATS, open_image
from data.readers import ENDINGS, files_below, list_folder

PICTURE = Image.new("RGB", (9, 7), "red")


def write(root, *names):
    """Empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def below(folder, found):
    return [(Path(item.source).relative_to(folder).as_posix(), item.label) for item in found]


@pytest.mark.parametrize("ending, kind", [
    (".jpg", "JPEG"), (".jpeg", "JPEG"), (".jpe", "JPEG"), (".jfif", "JPEG"), (".png", "PNG"), (".gif", "GIF"),
    (".pgm", "PPM"), (".pbm", "PPM"), (".pnm", "PPM"), (".ppm", "PPM"), (".webp", "WEBP"), (".tif", "TIFF"),
    (".tiff", "TIFF"), (".bmp", "BMP"), (".avif", "AVIF")])
def test_every_ending_of_what_can_be_opened_is_taken(ending, kind, tmp_path):
    """In either case; and such a file can indeed be opened."""
    mode = {".pgm": "L", ".pbm": "1"}.get(ending, "RGB")
    for number, name in enumerate(("crow/a", "crow/B", "owl/a", "owl/B")):
        file = tmp_path / (name + (ending.upper() if name.endswith("B") else ending))
        file.parent.mkdir(exist_ok=True)
        PICTURE.resize((9, 7 + number)).convert(mode).save(file, kind)
    dataset = own.load(tmp_path)
    assert len(dataset.train) == len(dataset.test) == 2 and not dataset.notes
    for item in dataset.train + dataset.test:
        assert open_image(item.source).width == 9


def test_endings_are_those_of_the_formats_alone():
    kinds = Image.registered_extensions()
    assert {kinds[ending] for ending in ENDINGS} == set(FORMATS)
    assert not {".eps", ".ps", ".psd", ".pdf", ".jp2", ".ico", ".h5"} & set(ENDINGS)


def test_what_is_left_out_is_counted_and_named(tmp_path):
    write(tmp_path, *(f"{name}/{n}.jpg" for name in ("crow", "owl") for n in range(2)))
    assert not own.load(tmp_path).notes
    hidden = write(tmp_path, "crow/.DS_Store", ".ipynb_checkpoints/1.jpg", "__MACOSX/crow/1.jpg", "lost+found/x")
    assert own.load(hidden).classes == ["crow", "owl"] and not own.load(hidden).notes
    write(tmp_path, "crow/noending", "crow/3.heic", "owl/young/1.jpg", "owl/Thumbs.db", "readme.txt")
    dataset = own.load(tmp_path)
    note, = dataset.notes
    assert note.startswith("left out 5 files or folders such as 'readme.txt', ") and ".jpg" in note and ".avif" in note
    assert len(dataset.train) == len(dataset.test) == 2


def test_a_link_to_itself_is_an_image_as_one_that_leads_nowhere(tmp_path):
    write(tmp_path, "crow/a.png", "owl/a.png", "owl/b.png", "other/a.png")
    for name, target in (("crow/b.png", "nowhere"), ("owl/c.png", "c.png")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "other/on").symlink_to("..")
    assert list_folder(tmp_path / "owl") == ([], ["a.png", "b.png", "c.png"])
    assert list_folder(tmp_path / "crow") == ([], ["a.png", "b.png"])
    with pytest.raises(DataError, match="/on: not a readable folder"):
        files_below(tmp_path)


def test_images_that_are_for_training_and_for_testing_are_counted(tmp_path):
    """By their bytes, also of another class and name; what differs in one byte far from the places that are sampled is
    another image, and empty files are none."""
    large = bytes(100_000)
    contents = {"train/crow/1.jpg": b"one", "train/crow/2.jpg": large, "train/owl/1.jpg": b"two", "train/owl/2.jpg": b"",
                "test/crow/7.jpg": b"one", "test/crow/8.jpg": large[:20_000] + b"x" + large[20_001:], "test/owl/9.jpg": b"",
                "test/owl/7.jpg": b"one", "test/owl/8.jpg": b"six"}
    for name, content in contents.items():
        (write(tmp_path, name) / name).write_bytes(content)
    note, = own.load(tmp_path).notes
    assert note.startswith("2 of 5 test images are also training images, byte for byte")
    (tmp_path / "test/crow/9.jpg").write_bytes(large)
    assert own.load(tmp_path).notes[0].startswith("3 of 6 test images")
    for name in ("test/crow/9.jpg", "test/crow/7.jpg", "test/owl/7.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    assert not own.load(tmp_path).notes


def test_an_image_twice_in_an_undivided_folder_is_counted_if_one_is_for_testing(tmp_path):
    for name in ("crow/1.jpg", "crow/2.jpg", "owl/1.jpg", "owl/2.jpg"):
        (write(tmp_path, name) / name).write_bytes(b"same" if "crow" in name else name.encode())
    note, = own.load(tmp_path).notes
    assert note.startswith("1 of 2 test images")


@pytest.mark.parametrize("names, taken", [
    (("train", "val"), ("train", "val")), (("Training", "Testing1"), ("Training", "Testing1")),
    (("train", "dev"), ("train", "dev")), (("train", "test", "extra"), ("train", "test")),
    (("train_set", "validation_set", "test_set"), ("train_set", "test_set")), (("TRAIN", "valid"), ("TRAIN", "valid")),
    (("train", "train2", "val", "dev"), ("train", "val")), (("train", "eval", "test"), ("train", "test"))])
def test_parts_are_known_by_how_their_names_begin(names, taken, tmp_path):
    write(tmp_path, *(f"{part}/{name}/1.jpg" for part in names for name in ("crow", "owl")))
    dataset = own.load(tmp_path)
    assert dataset.classes == ["crow", "owl"]
    for part, found in zip(taken, (dataset.train, dataset.test)):
        assert below(tmp_path, found) == [(f"{part}/crow/1.jpg", 0), (f"{part}/owl/1.jpg", 1)]
    rest = sorted(set(names) - set(taken))
    assert len(dataset.notes) == bool(rest)
    assert not rest or f"left out {len(rest)} files or folders such as '{rest[0]}'" in dataset.notes[0]


def test_a_part_without_class_folders_is_none(tmp_path):
    """A test part of images alone can't be tested on; the validation part can."""
    write(tmp_path, "test/1.jpg", *(f"{part}/{name}/1.jpg" for part in ("train", "val") for name in ("crow", "owl")))
    dataset = own.load(tmp_path)
    assert below(tmp_path, dataset.test) == [("val/crow/1.jpg", 0), ("val/owl/1.jpg", 1)]
    assert "left out 1 files or folders such as 'test'" in dataset.notes[0]


@pytest.mark.parametrize("names", [
    ("train_station", "valley"), ("devil", "testudo", "trainer"), ("images", "owl"), ("bus", "test", "train")])
def test_classes_that_begin_like_parts_stay_classes(names, tmp_path):
    write(tmp_path, *(f"{name}/{n}.jpg" for name in names for n in (1, 2)))
    assert own.load(tmp_path).classes == list(names)


@pytest.mark.parametrize("names, message", [
    (("1.jpg",), "no sub-folders"), (("empty/1.txt", "full/1.jpg", "full/2.jpg"), "empty: no images"),
    (("full/1.jpg", "full/2.jpg", "lonely/1.jpg"), "lonely: 1 images .* needs 2 or more"),
    ((" /1.jpg", "full/1.jpg"), "a class's name, ' ', is empty or can't be printed; rename it"),
    (("Owl/1.jpg", "owl/1.jpg"), "classes 'Owl' and 'owl' read alike; rename or unite them"),
    (("train/crow/1.jpg", "train/owl/1.jpg", "test/crow/1.jpg", "test/emu/1.jpg"), "'emu' is not in both train and"),
    (("train/crow/1.jpg", "train/owl/1.jpg", "test/crow/1.jpg", "test/owl/1.txt"), "test/owl: no images"),
    (("train/1.jpg", "test/1.jpg"), "test, train are no classes; .* a folder of images for each class, or these in"),
    (("images/1.jpg", "images/2.jpg", "masks/1.jpg", "masks/2.jpg"), "images, masks are no classes"),
    (("train/images/1.jpg", "train/labels/1.txt", "val/images/1.jpg", "val/labels/1.txt"), "train: images, labels are"),
    (("train/crow/1.jpg", "train/owl/1.jpg", "test1/1.jpg"), "test1, train are no classes"),
    (("train/crow/1.jpg", "train/owl/1.jpg"), "only the sub-folder 'train'; .* give the folder that they are in"),
])
def test_what_is_no_dataset(names, message, tmp_path):
    with pytest.raises(DataError, match=message):
        own.load(write(tmp_path, *names))


def test_the_division_stays_what_it_was(tmp_path):
    """Half of every class's sorted images, drawn by Python's generator seeded with 1 and the class's name."""
    counts = {"crow": 7, "owl": 4}
    write(tmp_path, *(f"{name}/{n}.jpg" for name in counts for n in range(counts[name])))
    dataset = own.load(tmp_path)
    expected = []
    for name in counts:
        files = [f"{name}/{n}.jpg" for n in range(counts[name])]
        random.Random(f"1/{name}").shuffle(files)
        expected.append((sorted(files[: len(files) // 2]), sorted(files[len(files) // 2 :])))
    train, test = ([file for file, _ in below(tmp_path, found)] for found in (dataset.train, dataset.test))
    assert train == list(itertools.chain(*(first for first, _ in expected)))
    assert test == list(itertools.chain(*(second for _, second in expected)))
