"""Stacks of several files: put on top of one another, included, extended; and services that a profile leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest
from stackd.base.errors import Problem, SpecErrors
from stackd.spec.assemble import MAX_DEPTH, MAX_FILES
from stackd.spec.files import DictFiles
from stackd.spec.load import LoadedStack, load_document, load_stack
from stackd.spec.render import render
from stackd.spec.stack import MountType, RestartCondition, ServiceSettings, ServiceSpec
from stackd.spec.surroundings import FileText, Surroundings

from official_client import DIRECTORY, ENVIRONMENT, differences, read_yaml

MERGED = Path(__file__).parents[2] / "fixtures" / "merged"


def load(
    *texts: str, files: Mapping[str, str] = {}, environment: Mapping[str, str] = {}, profiles: tuple[str, ...] = ()
) -> LoadedStack:
    """The stack of `texts`, each put on top of those before it; `files` lie beside the first one."""
    first, *others = [dedent(text).encode() for text in texts]
    side_files = DictFiles({path: dedent(text).encode() for path, text in files.items()}, directory="/srv/shop")
    around = Surroundings("shop/stack.yaml", "shop", side_files, environment, profiles=frozenset(profiles))
    return load_stack(first, around, [FileText(text, f"more/override{number}.yaml") for number, text in enumerate(others)])


def service(name: str, *texts: str, **options: object) -> ServiceSpec:
    spec = load(*texts, **options).spec  # type: ignore[arg-type]
    return next(service for service in spec.services if service.name == name)


def problems_of(*texts: str, **options: object) -> tuple[Problem, ...]:
    with pytest.raises(SpecErrors) as caught:
        load(*texts, **options)  # type: ignore[arg-type]
    return caught.value.problems


def problem_of(*texts: str, **options: object) -> Problem:
    found = problems_of(*texts, **options)
    assert len(found) == 1, [f"{problem.position}: {problem.message}" for problem in found]
    return found[0]


# Files on top of one another


def test_two_files_are_merged_as_by_the_official_client() -> None:
    loaded = load_document(
        (MERGED / "base.yml").read_bytes(),
        Surroundings("base.yml", None, DictFiles({}, directory=DIRECTORY), ENVIRONMENT),
        [FileText((MERGED / "override.yml").read_bytes(), "override.yml")],
    )
    ours = read_yaml(render_text(render(loaded.document, DIRECTORY, ENVIRONMENT)))
    assert differences(ours, read_yaml((MERGED / "config.yml").read_bytes())) == [
        # Written values win here also where they are false or zero, which the official client takes for not written.
        ".services.web.init: False is not True",
        ".services.web.stop_grace_period: '0s' is not '5s'",
        ".services.web.tty: missing",
    ]


def render_text(document: object) -> bytes:
    from stackd.cli.yamltext import yaml_text

    return yaml_text(document).encode()


def test_a_later_file_changes_and_adds_services() -> None:
    spec = load(
        "services: {web: {image: a, user: x}}",
        "services: {web: {image: b}, db: {image: c}}",
        "services: {web: {deploy: {replicas: 3}}}",
    ).spec
    assert [(service.name, service.task.container.image) for service in spec.services] == [("db", "c"), ("web", "b")]
    assert spec.services[1].task.container.user == "x"
    assert spec.services[1].settings.replicas == 3


def test_commands_are_replaced_and_other_lists_go_on() -> None:
    container = service(
        "web",
        "services: {web: {image: a, command: [x, y], dns: [1.1.1.1, 1.1.1.2], healthcheck: {test: [CMD, a], retries: 5}}}",
        "services: {web: {command: [z], dns: [1.1.1.3], healthcheck: {test: [CMD, b]}}}",
    ).task.container
    assert container.command == ("z",)
    assert container.dns_servers == ("1.1.1.1", "1.1.1.2", "1.1.1.3")
    assert container.healthcheck is not None
    assert (container.healthcheck.test, container.healthcheck.retries) == (("CMD", "b"), 5)


def test_a_file_that_only_changes_something_needs_no_image() -> None:
    assert service("web", "services: {web: {image: a}}", "services: {web: {tty: true}}").task.container.tty


def test_ports_of_one_number_and_two_protocols_stay_two() -> None:
    ports = service("web", "services: {web: {image: a, ports: ['53:53', '53:53/udp']}}", "services: {web: {ports: ['53:54']}}")
    assert [(port.target, port.protocol) for port in ports.task.ports] == [(53, "udp"), (54, "tcp")]


def test_a_fault_is_shown_in_the_file_that_has_it() -> None:
    first = """
        services:
          web:
            image: a
            deploy: {mode: global}
        """
    second = """
        services:
          web:
            volumes: [data:/data]
            deploy:
              replicas: 2
        """
    found = problems_of(first, second)
    assert [(str(problem.position), problem.code) for problem in found] == [
        ("more/override0.yaml:4:15", "spec.reference.undefined"),
        ("more/override0.yaml:6:7", "spec.deploy.mode"),
    ]


def test_the_source_map_knows_all_files() -> None:
    sources = load("services: {web: {image: a, user: x}}", "services:\n  web:\n    image: b\n").sources
    assert str(sources.position("services.web.image")) == "more/override0.yaml:3:12"
    assert str(sources.position("services.web.user")) == "shop/stack.yaml:1:34"


# extends


def test_a_service_starts_from_the_one_that_it_extends() -> None:
    web = service(
        "web",
        """
        services:
          base: {image: a, environment: {A: 1, B: 1}, command: [x], ports: ["80:80"], labels: {a: b}}
          web:
            extends: base
            environment: {B: 2}
            command: [y]
        """.replace('ports: ["80:80"], ', ""),
    )
    assert web.task.container.env == ("A=1", "B=2")
    assert web.task.container.command == ("y",)
    assert web.task.container.labels == (("a", "b"),)


def test_a_service_of_another_file_keeps_its_own_paths() -> None:
    files = {
        "common/base.yaml": """
            services:
              app:
                image: a
                env_file: app.env
                volumes: ["./html:/srv", "~/x:/x", "/abs:/abs"]
            """,
        "common/app.env": "A=1\n",
    }
    web = service(
        "web",
        "services: {web: {extends: {file: common/base.yaml, service: app}}}",
        files=files,
        environment={"HOME": "/home/ann"},
    )
    assert web.task.container.env == ("A=1",)
    assert [mount.source for mount in web.task.container.mounts] == ["/abs", "/srv/shop/common/html", "/home/ann/x"]


def test_all_files_are_known_to_a_watcher() -> None:
    files = {"base.yaml": "services: {app: {image: a, env_file: app.env}}", "app.env": "A=1"}
    loaded = load("services: {web: {extends: {file: base.yaml, service: app}}}", files=files)
    assert loaded.side_files == (".env", "app.env", "base.yaml")


def test_a_fault_in_an_extended_service_is_shown_where_it_is_written() -> None:
    files = {"base.yaml": "services:\n  app:\n    image: a\n    stop_signal: SIGFOO\n    volumes: [data:/data]\n"}
    found = problems_of("services: {web: {extends: {file: base.yaml, service: app}}}", files=files)
    assert [str(problem.position) for problem in found] == ["shop/base.yaml:4:18", "shop/base.yaml:5:15"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("services: {a: {image: x, extends: a}}", "spec.extends.cycle"),
        ("services: {a: {image: x, extends: nothing}}", "spec.extends.bad"),
        ("services: {a: {image: x, extends: {file: other.yaml}}}", "spec.extends.bad"),
        ("services: {a: {image: x, extends: {file: other.yaml, service: b}}}", "spec.file.missing"),
        ("services: {a: {image: x, extends: {file: ../../x.yaml, service: b}}}", "spec.file.escapes"),
    ],
)
def test_a_service_that_cannot_be_extended_is_refused(text: str, code: str) -> None:
    assert problem_of(text).code == code


def test_services_of_two_files_cannot_extend_each_other() -> None:
    files = {"b.yaml": "services: {b: {image: x, extends: {file: c.yaml, service: c}}}"}
    files["c.yaml"] = "services: {c: {image: x, extends: {file: b.yaml, service: b}}}"
    found = problems_of("services: {a: {image: x, extends: {file: b.yaml, service: b}}}", files=files)
    assert "spec.extends.cycle" in {problem.code for problem in found}


def test_a_chain_of_extended_services_has_a_limit() -> None:
    services = ", ".join(f"s{n}: {{image: x, extends: s{n + 1}}}" for n in range(MAX_DEPTH + 5))
    found = problems_of(f"services: {{{services}, s{MAX_DEPTH + 5}: {{image: x}}}}")
    assert {problem.code for problem in found} == {"spec.limit.depth"}


def test_a_large_base_that_many_services_extend_is_refused() -> None:
    base = ", ".join(f"V{n}: x" for n in range(2000))
    services = ", ".join(f"s{n}: {{extends: base}}" for n in range(400))
    found = problems_of(f"services: {{base: {{image: x, environment: {{{base}}}}}, {services}}}")
    assert "spec.limit.values" in {problem.code for problem in found}


# What a later file takes away

TAGGED = """
    services:
      web:
        image: a
        user: u
        ports: ["80:80"]
        environment: {A: "1", B: "2"}
        env_file: more.env
        healthcheck: {test: [CMD, x], retries: 3}
        deploy: {replicas: 3, labels: {tier: front}}
        networks: {front: {aliases: [w]}, back: }
        x-stackd: {fence: true, update: {progress_deadline: 1m}}
        x-note: {a: 1}
      db: {image: b}
    networks: {front: , back: }
    """


def test_a_marked_value_is_all_that_is_left() -> None:
    upper = """
        services:
          web:
            ports: !override ["81:81"]
            environment: {B: !reset null, C: "3"}
            deploy: !override {replicas: 2}
            networks: !override [back]
            healthcheck: {retries: !reset }
            x-stackd: {fence: !reset null, update: {progress_deadline: !reset null}}
            user: !reset null
          db: !reset null
        """
    spec = load(TAGGED, upper, files={"more.env": "M=1"}).spec
    (web,) = spec.services
    assert [port.published for port in web.task.ports] == [81]
    assert web.task.container.env == ("A=1", "C=3", "M=1")
    assert (web.settings.replicas, web.settings.labels) == (2, ())
    assert [network.network for network in web.task.networks] == ["shop_back"]
    assert web.task.container.healthcheck is not None
    assert (web.task.container.healthcheck.test, web.task.container.healthcheck.retries) == (("CMD", "x"), 0)
    assert (web.task.fence, web.task.container.user) == (False, "")
    assert web.settings.update == ServiceSettings().update


def test_marks_hold_for_what_a_service_extends_and_for_what_is_included() -> None:
    files = {"a.yaml": "services: {db: {image: x, user: u}}", "b.yaml": "services: {db: {user: !reset null}}"}
    text = """
        include: [{path: [a.yaml, b.yaml]}]
        services:
          base: {image: x, labels: {a: "1"}, command: run}
          web: {extends: base, labels: !override {b: "2"}, command: !reset null, x-note: !reset null}
        """
    assert service("db", text, files=files).task.container.user == ""
    web = service("web", text, files=files).task.container
    assert (web.labels, web.command) == ((("b", "2"),), None)


def test_a_mark_holds_for_what_an_anchor_brings() -> None:
    text = "x-base: &base {image: x, user: u}\nservices: {web: {<<: *base, user: !reset null}}"
    assert service("web", text).task.container.user == ""


def test_marks_mean_nothing_where_nothing_lies_below() -> None:
    assert service("web", "services: {web: {image: a, ports: !override ['80:80'], user: !reset null}}").task.ports


@pytest.mark.parametrize(
    "upper",
    [
        "services: {web: {ports: [!reset '80:80']}}",
        "services: {web: {volumes: [{type: volume, target: !override /a}]}}",
        "services: {web: {extends: !reset null}}",
        "services: {web: {env_file: !reset null}}",
        "services: {web: {usr: !reset null}}",
        "include: !reset null",
        "!override {services: {}}",
        "services: {web: {!reset user: a}}",
    ],
)
def test_marks_that_cannot_be_followed_are_refused(upper: str) -> None:
    assert "spec.yaml.tag" in {problem.code for problem in problems_of(TAGGED, upper, files={"more.env": "M=1"})}


# include


def test_an_included_file_adds_its_services_and_objects() -> None:
    files = {
        "db/stack.yaml": """
            services: {db: {image: postgres, volumes: [data:/data, ./init:/init], secrets: [pw]}}
            volumes: {data: }
            secrets: {pw: {file: pw.txt}}
            """,
        "db/pw.txt": "hush",
    }
    spec = load("include: [db/stack.yaml]\nservices: {web: {image: a, depends_on: [db]}}", files=files).spec
    db, web = spec.services
    assert [mount.source for mount in db.task.container.mounts] == ["shop_data", "/srv/shop/db/init"]
    assert [secret.data for secret in spec.secrets] == [b"hush"]
    assert web.settings.depends_on[0].service == "db"


def test_an_included_file_may_be_changed_on_its_way_in() -> None:
    files = {"a.yaml": "services: {db: {image: x, user: u}}", "b.yaml": "services: {db: {image: y}}"}
    text = "include: [{path: [a.yaml, b.yaml]}]\nservices: {web: {image: a}}"
    db = service("db", text, files=files)
    assert (db.task.container.image, db.task.container.user) == ("y", "u")


def test_paths_of_an_included_file_may_start_elsewhere() -> None:
    files = {"sub/a.yaml": "services: {db: {image: x, volumes: ['./d:/d']}}"}
    db = service("db", "include: [{path: sub/a.yaml, project_directory: .}]\nservices: {web: {image: a}}", files=files)
    assert db.task.container.mounts[0].source == "/srv/shop/d"


def test_an_included_file_has_variables_of_its_own_that_give_way_to_those_of_the_project() -> None:
    files = {
        "db/stack.yaml": "services: {db: {image: 'x:${TAG}-${COLOUR}-${SIZE:-s}', environment: [SHADE]}}",
        "db/.env": "TAG=9\nCOLOUR=blue\nSHADE=dark\n",
        "more.env": "COLOUR=red\nSIZE=${COLOUR}l\n",
    }
    tag = {"TAG": "1.4"}
    db = service("db", "include: [db/stack.yaml]\nservices: {web: {image: a}}", files=files, environment=tag)
    assert (db.task.container.image, db.task.container.env) == ("x:1.4-blue-s", ("SHADE=dark",))
    other = "include: [{path: db/stack.yaml, env_file: [more.env]}]\nservices: {web: {image: '${COLOUR:-a}'}}"
    loaded = load(other, files=files, environment=tag)
    assert loaded.spec.services[0].task.container.image == "x:1.4-red-redl"
    assert loaded.spec.services[1].task.container.image == "a"
    assert set(loaded.side_files) == {".env", "db/stack.yaml", "more.env"}


def test_a_variable_file_of_an_include_has_to_be_there() -> None:
    files = {"a.yaml": "services: {db: {image: x}}"}
    problem = problem_of("include: [{path: a.yaml, env_file: gone.env}]\nservices: {web: {image: a}}", files=files)
    assert (problem.code, problem.message) == ("spec.file.missing", 'include.0: there is no file "gone.env"')


def test_what_is_included_may_be_chosen_by_a_variable() -> None:
    files = {"1.4.yaml": "services: {db: {image: x}}"}
    assert (
        service("db", "include: ['${TAG}.yaml']\nservices: {web: {image: a}}", files=files, environment={"TAG": "1.4"}).name
        == "db"
    )


def test_a_file_that_is_included_twice_is_there_once() -> None:
    files = {"a.yaml": "include: [c.yaml]", "b.yaml": "include: [c.yaml]", "c.yaml": "services: {c: {image: x}}"}
    assert [service.name for service in load("include: [a.yaml, b.yaml]", files=files).spec.services] == ["c"]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"a.yaml": "services: {web: {image: b}}"}, "spec.include.conflict"),
        ({"a.yaml": "include: [a.yaml]\nservices: {x: {image: b}}"}, "spec.include.cycle"),
        ({}, "spec.file.missing"),
    ],
)
def test_what_cannot_be_included_is_refused(files: Mapping[str, str], code: str) -> None:
    assert problem_of("include: a.yaml\nservices: {web: {image: a}}", files=files).code == code


def test_a_stack_is_made_of_a_limited_number_of_files() -> None:
    files = {f"f{n}.yaml": f"services: {{s{n}: {{image: x}}}}" for n in range(MAX_FILES + 1)}
    found = problems_of(f"include: [{', '.join(files)}]", files=files)
    assert {problem.code for problem in found} == {"spec.limit.files"}


def test_a_syntax_error_in_an_included_file_is_shown_there() -> None:
    problem = problem_of("include: a.yaml\nservices: {web: {image: a}}", files={"a.yaml": "services:\n  web: [\n"})
    assert (problem.code, problem.position and problem.position.file) == ("spec.yaml.syntax", "shop/a.yaml")


# Env files


def test_an_env_file_that_is_not_required_may_be_missing() -> None:
    loaded = load("services: {web: {image: a, env_file: [{path: no.env, required: false}]}}")
    assert loaded.spec.services[0].task.container.env == ()
    assert loaded.side_files == (".env", "no.env")


def test_the_env_file_of_a_later_file_wins_over_what_an_earlier_file_says() -> None:
    texts = ("services: {web: {image: a, environment: {A: one}}}", "services: {web: {env_file: a.env}}")
    assert service("web", *texts, files={"a.env": "A=two"}).task.container.env == ("A=two",)


# Profiles


PROFILED = """
    services:
      web: {image: a, depends_on: [debug]}
      debug: {image: a, profiles: [debug, all]}
    """


@pytest.mark.parametrize(
    ("profiles", "environment", "expected"),
    [
        ((), {}, ["web"]),
        (("other",), {}, ["web"]),
        (("debug",), {}, ["debug", "web"]),
        ((), {"COMPOSE_PROFILES": "x,all"}, ["debug", "web"]),
        (("*",), {}, ["debug", "web"]),
    ],
)
def test_a_service_with_profiles_is_there_if_one_of_them_is_active(
    profiles: tuple[str, ...], environment: Mapping[str, str], expected: list[str]
) -> None:
    spec = load(PROFILED, profiles=profiles, environment=environment).spec
    assert [service.name for service in spec.services] == expected


def test_what_waits_for_a_service_that_is_left_out_is_told_so() -> None:
    (warning,) = load(PROFILED).warnings
    assert warning.message == 'services.web.depends_on: no profile of the service "debug" is active'


def test_a_stack_of_which_every_service_is_left_out_is_refused() -> None:
    problem = problem_of("services: {web: {image: a, profiles: [x]}}")
    assert (problem.code, problem.message) == ("spec.services.missing", "no profile of any service is active")


# Dependencies


def test_services_that_wait_for_each_other_are_refused_once() -> None:
    problem = problem_of(
        """
        services:
          a: {image: x, depends_on: [b]}
          b: {image: x, depends_on: [c]}
          c: {image: x, depends_on: {b: {condition: service_healthy}}}
          d: {image: x, depends_on: [a, c]}
        """
    )
    assert problem.message == "services wait for each other: b -> c -> b"


# x-stackd


def test_services_take_over_what_the_top_level_says() -> None:
    text = """
        x-stackd: {executor: docker, fence: true, drain: start-first}
        services:
          a: {image: x}
          b: {image: x, x-stackd: {executor: process, fence: false, drain: stop-first}}
        """
    a, b = load(text).spec.services
    assert (a.task.executor, a.task.fence, a.settings.drain_start_first) == ("docker", True, True)
    assert (b.task.executor, b.task.fence, b.settings.drain_start_first) == ("process", False, False)


def test_what_the_top_level_of_a_later_file_says_holds_for_the_services_of_all() -> None:
    files = {"part.yaml": "x-stackd: {executor: docker}\nservices: {c: {image: x}}"}
    texts = (
        "include: part.yaml\nservices: {a: {image: x}, b: {image: x, x-stackd: {fence: false}}}",
        "x-stackd: {fence: true}",
    )
    a, b, c = load(*texts, files=files).spec.services
    assert [(each.task.executor, each.task.fence) for each in (a, b, c)] == [("", True), ("", False), ("docker", True)]


def test_an_extended_service_keeps_what_only_its_base_says() -> None:
    text = """
        services:
          a: {image: x, restart: on-failure, tmpfs: /t, x-stackd: {fence: true}}
          b: {extends: a, x-stackd: {executor: process}}
        """
    b = service("b", text)
    assert (b.task.executor, b.task.fence) == ("process", True)
    assert b.task.restart.condition is RestartCondition.ON_FAILURE
    assert [mount.type for mount in b.task.container.mounts] == [MountType.TMPFS]
