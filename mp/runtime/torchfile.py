"""Files of tensors in torch's formats: written whole, read as data, and held against what they should be.

Zip archives are read, the form before 1.6, and TorchScript's archives. Nothing that a file says is executed: tensors
and plain containers are rebuilt here. torch.load is never asked, as it doesn't compare checksums, and runs TorchScript.
"""
import io
import math
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from mp.runtime.errors import reason, short_of_memory
from mp.runtime.files import write_whole

SCRIPT = "/constants.pkl"  # only TorchScript's archives have it
BEFORE_ZIP = (0x1950A86A20F9469CFC6C, 1001)  # with which the form before 1.6 begins, each a pickle: a mark, a version
TYPES = {"Float": torch.float, "Half": torch.half, "BFloat16": torch.bfloat16, "Double": torch.double,
         "Long": torch.long, "Int": torch.int, "Short": torch.short, "Char": torch.int8, "Byte": torch.uint8,
         "Bool": torch.bool, "ComplexFloat": torch.cfloat, "ComplexDouble": torch.cdouble}
STORAGES = {f"{word}Storage": dtype for word, dtype in TYPES.items()} | {"UntypedStorage": torch.uint8}
TENSORS_IN = ("torch._utils", "torch._tensor", "torch.serialization")  # torch's functions that rebuild tensors


class ForeignObjects(ValueError):
    """A file holds more than tensors, numbers, strings and containers of these: this project wrote none such."""


def write(path: Path, value: dict | Tensor) -> None:
    """Write tensors, numbers, strings, lists and dicts, as torch.save does. Raises UserError if it can't be written."""
    def save(temporary: Path) -> None:
        with open(temporary, "wb") as f:  # a file object, so that the bytes don't depend on the file's name
            torch.save(value, f)

    write_whole(path, save)


def load(path: Path, objects: bool = False, script: bool = False) -> Any:
    """Return what torch.save wrote, on the CPU.

    `script`: read a TorchScript archive, too; its modules are dicts of their attributes. `objects`: read a file that
    holds other Python objects, too, such as an optimiser; each becomes an Inert, as modules do.
    Raises OSError, MemoryError, ForeignObjects, and ValueError with the reason for all else.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                return load_zip(file, objects, script)
            file.seek(0)
            if file.read(2) == b"PK":
                raise EOFError  # an archive without its end
            return load_before_zip(file, objects)
    except (OSError, ForeignObjects):
        raise
    except Exception as e:  # there is nothing that damaged bytes don't raise
        if short_of_memory(e):
            raise MemoryError from None
        raise ValueError(reason(e)) from None


class Inert(dict):
    """A stand-in for whatever a file names besides tensors and containers: holds its attributes and does nothing."""

    __hash__ = object.__hash__

    def __init__(self, *_, **__):
        super().__init__()

    def __call__(self, *_, **__):
        return Inert()

    def __setstate__(self, attributes):
        if isinstance(attributes, dict):
            self.update(attributes)

    def append(self, *_):
        """Take, like `extend` and `add`, what lists and sets of unknown kinds are filled with."""

    extend = add = append


def tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, _=False, hooks=None, marks=None) -> Tensor:
    """Return a tensor's view of its storage, which is flat. Raises RuntimeError if it would leave it, and ValueError
    for `marks`: that the numbers are meant with another sign."""
    if marks:
        raise ValueError("numbers to be negated or conjugated")
    return storage.as_strided(size, stride, offset)


REBUILT = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": lambda storage, offset, size, stride, _, hooks, dtype, marks=None: tensor(
        storage.view(dtype), offset, size, stride, marks=marks),
    "torch._utils._rebuild_parameter": lambda data, *_: data,  # a learnt tensor is a tensor here
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "_codecs.encode": lambda text, *_: text.encode("latin1"),  # bytes, in pickles of an early protocol
    "torch.Size": torch.Size, "torch.device": torch.device,
    "collections.OrderedDict": OrderedDict, "collections.Counter": Counter,
    "builtins.set": set, "builtins.bytearray": bytearray, "builtins.complex": complex}


class Reader(pickle.Unpickler):
    """Rebuilds tensors and containers. Everything else that the file names is refused, or with `objects` Inert.

    `find_storage` gives the flat tensor of one storage: of its type, its name in the file, and its length.
    """

    def __init__(self, file: BinaryIO, objects: bool, find_storage: Callable[[torch.dtype, str, int], Tensor]):
        super().__init__(file)
        self.objects, self.find_storage = objects, find_storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the file. Raises ForeignObjects for an unknown one without `objects`."""
        full = f"{module}.{name}".replace("__builtin__", "builtins")  # as Python 2 called it
        if full in REBUILT:
            return partial(REBUILT[full])  # a new one each time, as a file may set its attributes
        if module.startswith("torch") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        is_odd_tensor = module in TENSORS_IN and name.startswith("_")  # sparse, quantised, without numbers
        if not self.objects and not is_odd_tensor:
            raise ForeignObjects(f"Python objects ({full[:80]}), which aren't loaded")
        return Inert

    def persistent_load(self, about: tuple) -> Tensor:
        """Return the storage that `about` tells: a word, its type, its name, its device, its length."""
        _, dtype, name, _, length = about[:5]
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError
        return self.find_storage(dtype, name, length)


def load_zip(file: BinaryIO, objects: bool, script: bool) -> Any:
    """Read an archive: a folder with a pickle, and a file for each storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        entries = {name: archive.read(name) for name in names}  # zipfile holds each to its checksum
    if len(entries) < len(names):
        raise ValueError("two entries of one name")
    is_script = any(name.endswith(SCRIPT) for name in names)
    if is_script and not script:
        raise ValueError("a TorchScript archive")
    folder = names[0].partition("/")[0]
    byte_order = sys.byteorder.encode()
    if entries.get(f"{folder}/byteorder", byte_order) != byte_order:
        raise ValueError("numbers of another byte order")

    @cache
    def find_storage(dtype: torch.dtype, name: str, _: int) -> Tensor:
        content = entries.pop(f"{folder}/data/{name}")  # the tensor has a copy, which can be written to
        return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)

    return Reader(io.BytesIO(entries[f"{folder}/data.pkl"]), objects or is_script, find_storage).load()


def load_before_zip(file: BinaryIO, objects: bool) -> Any:
    """Read the form before torch 1.6: five pickles, of which the fourth is the content and the fifth names the
    storages; then the length and bytes of each storage."""
    size = file.seek(0, 2)
    file.seek(0)
    storages = {}

    def find_storage(dtype: torch.dtype, name: str, length: int) -> Tensor:
        if name not in storages:
            if not 0 <= length * dtype.itemsize <= size:
                raise EOFError
            storages[name] = torch.empty(length, dtype=dtype, device="cpu")
        return storages[name]

    def unpickle() -> Any:
        return Reader(file, objects, find_storage).load()

    if any(unpickle() != mark for mark in BEFORE_ZIP):
        raise pickle.UnpicklingError
    unpickle()  # how the machine that wrote it holds numbers
    content, names = unpickle(), unpickle()
    if set(names) != storages.keys():
        raise EOFError
    for name in names:
        length = int.from_bytes(file.read(8), "little")
        storage_bytes = storages[name].view(torch.uint8).numpy()
        if length != len(storages[name]) or file.readinto(storage_bytes) < len(storage_bytes):
            raise EOFError
    return content


def mismatch(value: Any, like: Any, name: str = "it") -> str:
    """Return what keeps `value`, read from a file, from taking the place of `like`; "" if nothing does.

    Dicts and lists have the same entries, tensors the same type and shape, and every number is finite.
    """
    if isinstance(like, Tensor):
        return tensor_mismatch(value, like, name)
    if isinstance(like, dict):
        value = value if isinstance(value, dict) else {}
        if value.keys() != like.keys():
            return f"{name} holds {', '.join(map(str, value)) or 'nothing'}, not {', '.join(map(str, like))}"
        entries = [(value[key], like[key], key) for key in like]
    elif isinstance(like, list):
        if not isinstance(value, list) or len(value) != len(like):
            return f"{name} isn't a list of {len(like)}"
        entries = [(inner, inner_like, name) for inner, inner_like in zip(value, like)]
    else:
        is_finite = not isinstance(value, float) or math.isfinite(value)
        return "" if type(value) is type(like) and is_finite else f"{name} is {str(value)[:40]}"
    for entry in entries:
        if trouble := mismatch(*entry):
            return trouble
    return ""


def tensor_mismatch(value: Any, like: Tensor, name: str) -> str:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return f"{name} is not a plain tensor"
    if value.shape != like.shape:
        return f"{name} is {list(value.shape)}, this model needs {list(like.shape)}"
    if value.dtype != like.dtype:
        return f"{name} holds {value.dtype}, not {like.dtype}"
    return "" if value.isfinite().all() else f"{name} holds NaN or infinite values"
