"""`data` and `mp` are common names: where a script finds another `data`, one line says so."""
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def run_script(folder, text):
    """The exit code and the last line of errors of a script that lies in the folder, with this project in PYTHONPATH."""
    script = folder / "script.py"
    script.write_text(text)
    ended = subprocess.run([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=folder, capture_output=True, text=True)
    return ended.returncode, ended.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize("place, text", [
    ("data/__init__.py", "from mp import UserError"), ("data.py", "import data\nimport mp.settings")])
def test_another_data_is_named(place, text, tmp_path):
    other = tmp_path / place
    other.parent.mkdir(exist_ok=True)
    other.write_text("")
    code, says = run_script(tmp_path, text)
    assert code == 1 and says.startswith(f"ImportError: mp: needs the package data of {ROOT}, and here `data` is {other}; put")


def test_a_data_that_comes_from_no_file_is_named(tmp_path):
    code, says = run_script(tmp_path, "import sys, types\nsys.modules['data'] = types.ModuleType('data')\nimport mp")
    assert code == 1 and "and here `data` is none; put" in says


def test_a_folder_of_pictures_called_data_is_no_package(tmp_path):
    """Nor does it matter by which way this project is reached."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.png").write_text("")
    assert run_script(tmp_path, "import mp.settings, data.errors") == (0, "")
    link = tmp_path / "link"
    link.symlink_to(ROOT)
    assert run_script(tmp_path, f"import sys\nsys.path[:0] = [{str(link)!r}]\nimport mp.settings, data.errors") == (0, "")
