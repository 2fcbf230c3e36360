"""How commands find and read stack files: folders, variables, profiles, several files, other project folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Ended, Stackd

WEB = "services:\n  web:\n    image: nginx:${TAG:-none}\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, contents: dict[str, str]) -> None:
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def long_form(ended: Ended) -> Any:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def image(ended: Ended) -> str:
    return str(long_form(ended)["services"]["web"]["image"])


def test_variables_are_taken_from_the_file_beside_the_stack_file(stackd: Stackd, files: Path) -> None:
    write(files, {"shop/stack.yaml": WEB, "shop/.env": "TAG=1.27", ".env": "TAG=wrong"})
    command = ("config", "-f", "shop/stack.yaml", "-o", "json")
    assert image(stackd(*command)) == "nginx:1.27"
    stackd.environment["TAG"] = "outside"
    assert image(stackd(*command)) == "nginx:outside"


def test_named_files_with_variables_take_its_place(stackd: Stackd, files: Path) -> None:
    write(files, {"shop/stack.yaml": WEB, "shop/.env": "TAG=no", "one.env": "TAG=1\nMINOR=5", "two.env": "TAG=2.$MINOR"})
    assert image(stackd("config", "-f", "shop", "--env-file", "one.env", "--env-file", "two.env", "-o", "json")) == "nginx:2.5"
    missing = stackd("validate", "-f", "shop", "--env-file", "three.env")
    assert (missing.code, missing.err) == (
        1,
        'error[spec.file.missing]: there is no file "three.env"\n  hint: --env-file starts from the current directory\n',
    )


def test_a_mistake_in_variables_is_shown_once_at_its_place(stackd: Stackd, files: Path) -> None:
    write(files, {"a.yaml": WEB, "b.yaml": WEB, ".env": "TAG 1"})
    ended = stackd("validate", "-f", ".")
    assert ended.out == (
        '.env:1:1: error[spec.env_file.bad]: the line has no = after the name "TAG"\n'
        "   1 | TAG 1\n     | ^^^^^  write NAME=VALUE\n2 files, 1 error\n"
    )


@pytest.mark.parametrize("profiles", [("--profile", "debug"), ("--profile", "x", "--profile", "debug"), ("--profile", "*")])
def test_a_profile_can_be_chosen(stackd: Stackd, files: Path, profiles: tuple[str, ...]) -> None:
    write(files, {"shop.yaml": WEB + "  shell: {image: busybox, profiles: [debug]}\n"})
    assert list(long_form(stackd("config", "-f", "shop.yaml", "-o", "json"))["services"]) == ["web"]
    assert list(long_form(stackd("config", "-f", "shop.yaml", "-o", "json", *profiles))["services"]) == ["shell", "web"]


def test_profiles_may_come_from_the_environment(stackd: Stackd, files: Path) -> None:
    write(files, {"shop.yaml": WEB + "  shell: {image: busybox, profiles: [debug]}\n"})
    stackd.environment["COMPOSE_PROFILES"] = "x,debug"
    assert "shell" in long_form(stackd("config", "-f", "shop.yaml", "-o", "json"))["services"]


def test_paths_of_several_files_start_from_the_folder_of_the_first(stackd: Stackd, files: Path) -> None:
    mounts = "services:\n  web:\n    volumes: ['./{0}:/{0}']\n"
    write(files, {"a/one.yaml": WEB + "    volumes: ['./a:/a']\n", "b/two.yaml": mounts.format("b")})
    web = long_form(stackd("config", "-f", "a/one.yaml", "-f", "b/two.yaml", "-o", "json"))["services"]["web"]
    assert [mount["source"] for mount in web["volumes"]] == [f"{files}/a/a", f"{files}/a/b"]


def test_paths_may_start_from_another_folder(stackd: Stackd, files: Path) -> None:
    text = WEB + "    env_file: web.env\n    volumes: ['./html:/srv']\n    extends: {file: base.yml, service: app}\n"
    write(files, {"a/stack.yaml": text, "b/.env": "TAG=3", "b/web.env": "A=1", "b/base.yml": "services: {app: {user: u}}"})
    command = ("config", "-f", "a/stack.yaml", "--project-directory", "b")
    web = long_form(stackd(*command, "-o", "json"))["services"]["web"]
    assert web == {
        "env_file": ["web.env"],
        "environment": {"A": "1"},
        "image": "nginx:3",
        "user": "u",
        "volumes": [{"type": "bind", "source": f"{files}/b/html", "target": "/srv"}],
    }
    bodies = json.loads(stackd(*command, "-o", "docker").out)
    assert bodies["services"][0]["Name"] == "b_web"


def test_mistakes_are_shown_in_the_file_that_has_them_wherever_paths_start(stackd: Stackd, files: Path) -> None:
    text = "services: {web: {extends: {file: base.yml, service: app}}}"
    write(files, {"a/stack.yaml": text, "b/base.yml": "services: {app: {image: x, stop_signal: SIGFOO}}"})
    ended = stackd("validate", "-f", "a/stack.yaml", "--project-directory", "b")
    assert ended.out.startswith("b/base.yml:1:41: error[spec.signal.bad]")
    write(files, {"c/more.yaml": "services: {web: {extends: {file: base.yml, service: app}}}", "b/first.yaml": WEB})
    ended = stackd("validate", "-f", "b/first.yaml", "-f", "c/more.yaml", "-n", "shop")
    assert ended.out.startswith("b/base.yml:1:41: error[spec.signal.bad]")


def test_a_folder_of_several_stacks_has_each_read_in_its_own_folder(stackd: Stackd, files: Path) -> None:
    needs = WEB.replace(":-none", ":?say which")
    write(files, {"a/stack.yaml": needs, "b/compose.yaml": needs, "a/.env": "TAG=1"})
    ended = stackd("validate", "-f", ".")
    assert ended.out.splitlines()[0].startswith("b/compose.yaml:3:18: error[spec.variable.required]")
    assert ended.out.endswith("2 files, 1 error\n")


def test_what_is_deployed_and_planned_is_read_in_the_same_way(stackd: Stackd, files: Path) -> None:
    write(files, {"shop.yaml": WEB + "  shell: {image: busybox, profiles: [debug]}\n", "x.env": "TAG=4"})
    for command in (("plan",), ("apply", "--detach")):
        ended = stackd(*command, "-f", "shop.yaml", "--env-file", "x.env", "--profile", "debug", "-o", "json")
        assert ended.code == 0, ended.err
        (stack,) = stackd.control.requests[-1].stacks
        assert [(each.name, each.task.container.image) for each in stack.services] == [("shell", "busybox"), ("web", "nginx:4")]
