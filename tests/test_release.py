"""The checks of `make release`: each kind of wrong archive and changelog is named."""

import datetime
import re
import runpy
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RELEASE = runpy.run_path(str(ROOT / ".ci" / "release.py"))
CLEAN_ROOM = runpy.run_path(str(ROOT / ".ci" / "clean_room.py"))
TODAY = datetime.date(2030, 5, 17)


def wheel_names():
    names = [f"keras_dpt/{x.relative_to(ROOT / 'keras_dpt')}" for x in RELEASE["_modules"]()]
    names += [f"keras_dpt_presets/{x.name}" for x in (ROOT / "presets").glob("*.json")]
    names += [f"keras_dpt_presets/{x}/model.weights.h5" for x in RELEASE["BUNDLED"]]
    return names + [f"keras_dpt-1.dist-info/licenses/{x}" for x in RELEASE["LICENSES"]]


def test_a_wheel_with_too_little_or_too_much():
    check, names = RELEASE["check_wheel"], wheel_names()
    assert check(names) == []
    for name in ("keras_dpt/cards.py", "keras_dpt_presets/dpt_large.json", names[-1]):
        (problem,) = check([x for x in names if x != name])
        assert Path(name).name in problem
    assert (
        "keras_dpt/tests/test_a.py must not be" in check([*names, "keras_dpt/tests/test_a.py"])[0]
    )
    problems = check([*names, "tests/test_a.py"])
    assert any("['keras_dpt', 'keras_dpt_presets', 'tests']" in x for x in problems)


def test_a_source_archive():
    files = ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "presets/LICENSES.md"]
    files += [x.relative_to(ROOT).as_posix() for x in RELEASE["_modules"]()]
    files += [f"presets/{x}/model.weights.h5" for x in RELEASE["BUNDLED"]]
    names = [f"keras_dpt-1/{x}" for x in files]
    assert RELEASE["check_sdist"](names) == []
    assert RELEASE["check_sdist"](names[1:]) == ["The source archive lacks pyproject.toml."]
    assert "tests/a.py must not be" in RELEASE["check_sdist"]([*names, "keras_dpt-1/tests/a.py"])[0]


@pytest.mark.parametrize(
    ("heading", "problem"),
    [
        ("1.2.0 - 2030-05-17", None),
        ("1.2.0 - 2030-05-18", "is to come"),
        ("1.2.0 - unreleased", "put the date there, as 2030-05-17"),
        ("1.1.0 - 2030-01-01", "its newest is 1.1.0"),
    ],
)
def test_changelog(heading, problem):
    text = (
        f"# Changelog\n\n## {heading}\n\n### Added\n\n- A thing.\n\n## 1.0.0 - 2029-01-01\n\n- Old."
    )
    found = RELEASE["check_changelog"](text, "1.2.0", TODAY)
    assert found == [] if problem is None else problem in found[0]
    if problem is None:
        expected = "keras_dpt 1.2.0\n\nAdded\n\n- A thing."
        assert RELEASE["tag_text"](text, "1.2.0") == expected


def test_the_own_changelog_is_of_the_own_version():
    from keras_dpt.version import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    problems = RELEASE["check_changelog"](text, __version__, datetime.date.today())
    assert all("put the date there" in x for x in problems)
    assert RELEASE["tag_text"](text, __version__).startswith(f"keras_dpt {__version__}\n\nAdded")


def test_clean_room_runs_the_readme_with_bundled_presets():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = CLEAN_ROOM["first_blocks"](text)
    assert len(blocks) == CLEAN_ROOM["BLOCKS"]
    for block in blocks:
        compile(block, "README.md", "exec")
    assert 'DPTDepth.from_preset("dpt_mini_nyuv2"' in blocks[0]
    assert 'DPTDepth.from_preset("dpt_mini_nyuv2_metric"' in blocks[2]
    assert not any(name in "".join(blocks) for name in ('"dpt_hybrid"', '"dpt_large"'))


def test_clean_room_has_the_files_that_the_readme_names(tmp_path):
    CLEAN_ROOM["_files"](tmp_path)
    blocks = "".join(CLEAN_ROOM["first_blocks"]((ROOT / "README.md").read_text(encoding="utf-8")))
    written = set(re.findall(r'save\("([^"]+)"', blocks))
    named = set(re.findall(r'"([\w/]+\.\w{3,4})"', blocks)) - written
    assert "examples/motorcycle.jpg" in named
    assert [name for name in sorted(named) if not (tmp_path / name).is_file()] == []


def test_metadata_name_the_licence(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("a.dist-info/METADATA", "Version: 1.2\nLicense-Expression: Apache-2.0\n")
    assert RELEASE["_metadata"](tmp_path / "a.whl")["License-Expression"] == "Apache-2.0"


def workflow(name):
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_ci_runs_what_has_to_pass_on_each_python():
    job = workflow("ci.yml")["jobs"]["run"]
    versions = job["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert "bash .ci/run" in commands(job)
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    stated = re.findall(r"Python :: (3\.\d+)", metadata)
    assert stated == versions and f'requires-python = ">={versions[0]}"' in metadata


def test_publishing_needs_no_secret():
    """By the identity of the workflow; what is published is what was checked and installed."""
    jobs = workflow("publish.yml")["jobs"]
    assert {"make release", "make test-wheel"} <= set(commands(jobs["build"]))
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["publish"]["needs"] == "build"
    assert "secrets." not in (ROOT / ".github" / "workflows" / "publish.yml").read_text()


def test_targets_of_make_are_those_of_the_workflows():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert {"release", "test-wheel"} <= set(targets)
