"""Files that use what few real ones do, with the official client's answers (tests/fixtures/oracle)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from official_client import DELIBERATE, comparable, differences, our_bodies, our_config, read_yaml

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "fixtures" / "oracle").glob("*/stack.yml"))


def folders_with(name: str) -> list[object]:
    return [pytest.param(folder, id=folder.name) for folder in FOLDERS if (folder / name).exists()]


def meant(found: list[str], form: str) -> list[str]:
    return [line for line in found if not any(part in line for part, where in DELIBERATE if where == form)]


@pytest.mark.parametrize("folder", folders_with("config.yml"))
def test_a_file_is_shown_as_by_the_official_client(folder: Path) -> None:
    answer = our_config(folder)
    assert answer.messages == ()
    assert meant(differences(answer.result, read_yaml((folder / "config.yml").read_bytes())), "config") == []


@pytest.mark.parametrize("folder", folders_with("specs.json"))
def test_a_file_means_the_requests_of_the_official_client(folder: Path) -> None:
    answer = our_bodies(folder)
    assert answer.messages == ()
    expected = json.loads((folder / "specs.json").read_text())
    assert meant(differences(comparable(answer.result), comparable(expected)), "specs") == []


@pytest.mark.parametrize("folder", folders_with("config.error"))
def test_what_the_official_client_cannot_read_is_refused(folder: Path) -> None:
    assert not our_config(folder).accepted


@pytest.mark.parametrize("folder", folders_with("deploy.error"))
def test_what_the_official_client_cannot_send_is_refused(folder: Path) -> None:
    assert not our_bodies(folder).accepted


# Single settings of a service, in every form that it may have

SETTINGS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "fixtures" / "oracle" / "settings.json").read_text())


def a_folder(path: Path, setting: str) -> Path:
    """The folder in which the official client was given the setting."""
    image = "" if setting.startswith("image") else "    image: nginx\n"
    objects = "networks: {net: }\nvolumes: {vol: }\nconfigs: {conf: {file: c.txt}}\nsecrets: {sec: {file: c.txt}}\n"
    (path / "stack.yml").write_text(f'version: "3.13"\nservices:\n  s:\n{image}    {setting}\n{objects}')
    (path / "c.txt").write_text("x")
    (path / "e.env").write_text("A=1\nB\n")
    (path / "bad.env").write_text("export A=1\n")
    return path


@pytest.mark.parametrize("row", SETTINGS, ids=lambda row: row["setting"])
def test_a_setting_means_what_it_means_to_the_official_client(row: dict[str, Any], tmp_path: Path) -> None:
    """It is refused where the client can't read or send it, except (`newer`) where the newer specification allows it."""
    folder = a_folder(tmp_path, row["setting"])
    config, bodies = our_config(folder), our_bodies(folder)
    assert config.accepted == (row["config"] is not None or row.get("newer", False)), config.messages
    if row["config"] is not None:
        assert meant(differences(config.result["services"]["s"], row["config"]), "config") == []
        assert bodies.accepted == (row["body"] is not None), bodies.messages
    if row["body"] is not None:
        assert meant(differences(comparable(bodies.result["services"][0]), comparable(row["body"])), "specs") == []
