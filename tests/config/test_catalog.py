"""Finding named files, and reading YAML with nothing guessed and every place known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effnas.config import catalog
from effnas.config.catalog import Node, find, load_yaml, names
from effnas.errors import CatalogError, SpaceError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str) -> Node:
    return load_yaml(text, "file.yaml", error=SpaceError)


def fails_at(line: int, column: int, text: str, message: str = "") -> None:
    with pytest.raises(SpaceError, match=message) as raised:
        read(text)
    assert str(raised.value).startswith(f"file.yaml:{line}:{column}: ")


def test_the_working_folder_hides_the_package_and_a_path_hides_both(folder: Path) -> None:
    (folder / "rewards").mkdir()
    (folder / "rewards" / "v2.yaml").write_text("expression: A\n")
    (folder / "rewards" / "mine.yaml").write_text("expression: S\n")
    assert find("rewards", "v2").origin == "working folder"
    assert find("rewards", "v2").text == "expression: A\n"
    assert {"mine", "v2", "tunas"} <= set(names("rewards"))
    (folder / "v2").write_text("expression: P\n")
    for path in ("v2", "rewards/mine.yaml", "./v2"):
        assert find("rewards", path).origin == "path"
        assert find("rewards", path).text == Path(path).read_text()


def test_an_installed_package_uses_its_own_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = folder / "lib" / "effnas" / "assets" / "rewards"
    shipped.mkdir(parents=True)
    (shipped / "only.yaml").write_text("expression: A\n")
    monkeypatch.setattr(catalog.resources, "files", lambda package: folder / "lib" / package)
    assert names("rewards") == ["only"]
    assert find("rewards", "only").origin == "package"
    # What stands two levels up is no checkout, and not taken for one.
    (folder / "search_spaces").mkdir()
    monkeypatch.chdir(shipped)
    (folder / "search_spaces" / "x.yaml").write_text("stages: []\n")
    assert names("search_spaces") == []


def test_what_cannot_be_found_or_read_is_said_in_one_line(folder: Path) -> None:
    Path("empty.yaml").write_text("\n")
    Path("latin.yaml").write_bytes(b"# caf\xe9\n")
    Path("folder.yaml").mkdir()
    for name, message in {
        "v22": "no reward is called 'v22'; did you mean 'v2'",
        "": "no reward is called ''",
        "x" * 5000: "no reward is called",
        "a\0b": "no reward is called",
        "nowhere/v2.yaml": "no file 'nowhere/v2.yaml'.*did you mean 'v2'",
        "a\0b.yaml": "cannot be read",
        "x" * 5000 + ".yaml": "cannot be read",
        "folder.yaml": "folder.yaml: cannot be read .is a directory",
        "empty.yaml": "empty.yaml: the file is empty",
        "latin.yaml": "latin.yaml: not UTF-8 text .byte 6",
    }.items():
        with pytest.raises(CatalogError, match=message) as raised:
            find("rewards", name)
        assert "\n" not in str(raised.value)
    with pytest.raises(CatalogError, match="no search space is called"):
        find("search_spaces", "nothing like it")


def test_values_are_read_as_they_are_asked_for() -> None:
    root = read("n: 3\nx: 30e6\nt: no\nl: [1, two]\nm: {a: {b: c}}\nq: 'it''s'\nnothing:\n")
    keys = root.mapping()
    assert keys["n"].integer(minimum=3) == 3
    assert keys["n"].number() == 3.0
    assert keys["x"].number() == 30e6
    assert keys["t"].text() == "no"
    assert [item.text() for item in keys["l"].sequence()] == ["1", "two"]
    assert keys["m"].mapping()["a"].mapping(known=("b",), required=("b",))["b"].text() == "c"
    assert keys["q"].text() == "it's"
    assert keys["nothing"].text() == ""


@pytest.mark.parametrize(
    "text", ["no", "0x10", "010", "0o7", "1_000", "1:30", ".inf", ".nan", "1e999", "~", "", "[1]"]
)
def test_the_traps_of_yaml_are_no_numbers(text: str) -> None:
    node = read(f"k: {text}").mapping()["k"]
    for ask in (node.integer, node.number):
        with pytest.raises(SpaceError, match=r"^file.yaml:1:\d: expected a"):
            ask()


def test_a_wrong_kind_is_an_error_with_its_place() -> None:
    keys = read("a: 1\nb: [x]\nc: {d: 1.5}\n").mapping()
    for node, ask, place in [
        (keys["a"], "sequence", "1:4"),
        (keys["a"], "mapping", "1:4"),
        (keys["b"], "text", "2:4"),
        (keys["b"], "integer", "2:4"),
        (keys["c"], "sequence", "3:4"),
        (keys["c"].mapping()["d"], "integer", "3:8"),
    ]:
        with pytest.raises(SpaceError, match=f"^file.yaml:{place}: expected"):
            getattr(node, ask)()
    with pytest.raises(SpaceError, match="1 is too small; the least is 2"):
        keys["a"].integer(minimum=2)


@pytest.mark.slow
def test_what_is_ambiguous_or_clever_is_refused_where_it_stands() -> None:
    fails_at(3, 1, "a: 1\nb: 2\na: 3\n", "'a' is there already, in line 1")
    fails_at(1, 4, "a: &x 1\nb: *x\n", "anchors")
    fails_at(1, 4, "a: *x\n", r"anchors|undefined")
    fails_at(2, 3, "a:\n  <<: {b: 1}\n", "<<")
    fails_at(1, 4, "a: !!python/object/apply:os.system ['true']\n", "tags")
    fails_at(1, 4, "a: !x b\n", "tags")
    fails_at(2, 1, "a: 1\n---\nb: 2\n", "second document")
    fails_at(1, 3, "? [a]\n: b\n", "key")
    fails_at(1, 22, "[" * 1000 + "]" * 1000, "deep")
    for empty in ("", "\n\n", "# nothing\n", "---\n", "---\n...\n"):
        fails_at(1, 1, empty, "empty")


@given(st.text(st.sampled_from("abc<|>.. ^*'\"\\:#-é")), st.data())
def test_an_offset_points_at_its_character_however_it_is_quoted(
    value: str, data: st.DataObject
) -> None:
    written = {
        "single": "'" + value.replace("'", "''") + "'",
        "double": '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"',
    }
    for line in written.values():
        node = read(f"key:  {line}  # comment").mapping()["key"]
        assert node.text() == value
        if value:
            offset = data.draw(st.integers(0, len(value) - 1))
            place = node.location(offset)
            assert place.excerpt[place.column - 1] in (value[offset], "\\")
            assert place.excerpt[: place.column - 1].count("a") == value[:offset].count("a")


@given(st.text("ab:-[]{}?,&*!|>'\"%@`# \n\t0\\~<=.\x00\ufeff\x85é", max_size=40))
def test_any_text_is_yaml_or_the_error_asked_for(text: str) -> None:
    try:
        place = read(text).location()
        seen = f"{place.source}:{place.line}:"
    except SpaceError as error:
        seen = str(error)
    assert re.match(r"file\.yaml:[1-9]", seen)
