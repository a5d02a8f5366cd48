"""A wheel built from a clean copy holds the same content as the repository, and works from where it is installed."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("ofasys_lite", "instructions", "tasks", "modalities", "presets")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
BUILD = "from setuptools import build_meta; build_meta.build_{kind}('dist')"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy without anything that a build left behind, with its wheel and sdist in dist/."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("clean")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for kind in ("wheel", "sdist"):
        done = subprocess.run(
            [sys.executable, "-c", BUILD.format(kind=kind)], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def wanted() -> dict[str, Path]:
    """Name inside the wheel -> file of the repository."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        inside = "ofasys_lite" if folder == "ofasys_lite" else f"ofasys_lite/{folder}"
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                found[f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"] = path
    return found


def test_the_wheel_holds_every_file_of_code_and_content_and_nothing_else(copy: Path) -> None:
    (path,) = (copy / "dist").glob("*.whl")
    expected = wanted()
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert names == set(expected)
        assert all(wheel.read(name) == expected[name].read_bytes() for name in names)
        info = {name.split("/", 1)[1] for name in wheel.namelist() if ".dist-info/" in name}
    assert {"entry_points.txt", "METADATA"} <= info
    assert any(name.endswith("LICENSE") for name in info)


def test_cards_presets_and_commands_work_from_the_wheel(copy: Path, tmp_path: Path) -> None:
    (path,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path / "site")
    (tmp_path / "own" / "tasks").mkdir(parents=True)
    (tmp_path / "own" / "tasks" / "mine.yaml").write_text(
        "instruction: |\n  [TEXT:q] -> [TEXT:a]\ndata: {train: qa.csv}\n"
    )
    code = (
        "import ofasys_lite, sys\n"
        f"assert ofasys_lite.__file__.startswith({str(tmp_path / 'site')!r}), ofasys_lite.__file__\n"
        "from ofasys_lite.commands.compose import compose\n"
        "from ofasys_lite.commands.run_config import run_config\n"
        f"own = {str(tmp_path / 'own')!r}\n"
        "run = run_config(compose('train', ['tasks=[mine]', 'model=tiny', 'trainer=gpu'], own), (own,))\n"
        "assert run.tasks[0].name == 'mine' and run.settings.model.width == 128\n"
        "assert 'TEXT' in run.modalities\n"
        f"assert run.modalities['TEXT'].path.startswith({str(tmp_path / 'site')!r})\n"
        "from ofasys_lite.commands.app import main\n"
        "sys.exit(main(['fmt', '[TEXT:a]->[TEXT:b]']))\n"
    )
    # -S leaves out what is installed editable; the libraries come back by path
    libraries = [each for each in sys.path if each.endswith("site-packages")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *libraries])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[TEXT:a] -> [TEXT:b]\n"


def test_the_sdist_holds_what_a_build_needs(copy: Path) -> None:
    (path,) = (copy / "dist").glob("*.tar.gz")
    shutil.unpack_archive(path, copy / "unpacked")
    (folder,) = (copy / "unpacked").iterdir()
    for name in (*FOLDERS, *FILES):
        assert (folder / name).exists(), f"{name} is missing in the sdist"
    for each in (ROOT / "presets").rglob("*.yaml"):
        assert (folder / each.relative_to(ROOT)).is_file()


def test_the_console_script_points_at_the_commands() -> None:
    config = configparser.RawConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert config["options.entry_points"]["console_scripts"].strip() == "ofasys-lite = ofasys_lite.commands.app:main"
