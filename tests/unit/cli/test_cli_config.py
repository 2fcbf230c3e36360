"""`stackd config`: the long form of stack files, and the requests that they mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runner import Stackd

FILE = """\
services:
  web:
    image: nginx:${TAG:-1.27}
    ports: ["8080:80"]
    volumes: ["./html:/srv"]
    environment: {A: 1}
configs: {site: {file: site.conf}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(FILE)
    (tmp_path / "site.conf").write_text("listen 80;\n")
    return tmp_path


def test_a_file_is_printed_in_its_long_form(stackd: Stackd, folder: Path) -> None:
    ended = stackd("config", "-f", str(folder / "shop.yaml"))
    assert ended.code == 0
    assert (
        ended.out
        == f"""\
version: "3.13"
services:
  web:
    environment:
      A: "1"
    image: nginx:1.27
    ports:
      - mode: ingress
        target: 80
        published: 8080
        protocol: tcp
    volumes:
      - type: bind
        source: {folder}/html
        target: /srv
configs:
  site:
    file: {folder}/site.conf
"""
    )


def test_the_same_is_printed_as_json(stackd: Stackd, folder: Path) -> None:
    document = json.loads(stackd("config", "-f", str(folder / "shop.yaml"), "-o", "json").out)
    assert document["services"]["web"]["image"] == "nginx:1.27"


def test_the_requests_of_the_official_client_are_printed(stackd: Stackd, folder: Path) -> None:
    bodies = json.loads(stackd("config", "-f", str(folder / "shop.yaml"), "-n", "s", "-o", "docker").out)
    assert list(bodies) == ["networks", "secrets", "configs", "services"]
    assert [network["Name"] for network in bodies["networks"]] == ["s_default"]
    assert bodies["configs"][0]["Data"] == "bGlzdGVuIDgwOwo="
    assert bodies["services"][0]["TaskTemplate"]["ContainerSpec"]["Image"] == "nginx:1.27"


def test_several_files_are_one_stack(stackd: Stackd, folder: Path) -> None:
    (folder / "more.yaml").write_text("services: {web: {environment: {B: 2}}}\n")
    paths = ("-f", str(folder / "shop.yaml"), "-f", str(folder / "more.yaml"))
    document = json.loads(stackd("config", *paths, "-o", "json").out)
    assert document["services"]["web"]["environment"] == {"A": "1", "B": "2"}
    assert stackd("validate", *paths, "-n", "shop").out.endswith("1 file, no errors, 1 warning\n")
    assert "2 files" in stackd("validate", *paths).out


def test_a_directory_of_several_stacks_is_no_stack(stackd: Stackd, folder: Path) -> None:
    (folder / "other.yaml").write_text(FILE)
    ended = stackd("config", "-f", str(folder))
    assert ended.code == 64
    assert "has 2 stack files" in ended.err


def test_a_file_that_makes_no_sense_is_printed_all_the_same(stackd: Stackd, folder: Path) -> None:
    (folder / "shop.yaml").write_text("services: {web: {build: ., volumes: ['data:/data']}}\n")
    path = str(folder / "shop.yaml")
    assert stackd("config", "-f", path).code == 0
    assert "no effect in a stack" in stackd("config", "-f", path).err
    refused = stackd("config", "-f", path, "-o", "docker")
    assert refused.code == 1
    assert "spec.image.missing" in refused.err
    assert "spec.reference.undefined" in refused.err


def test_a_file_of_the_wrong_form_is_refused_with_its_places(stackd: Stackd, folder: Path) -> None:
    (folder / "shop.yaml").write_text("services: {web: {imag: x}}\n")
    ended = stackd("config", "-f", str(folder / "shop.yaml"))
    assert ended.code == 1
    assert 'shop.yaml:1:18: error[spec.key.unknown]: unknown key "imag"' in ended.err
