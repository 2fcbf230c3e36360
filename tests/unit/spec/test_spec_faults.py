"""What is refused, with which code, at which place, and with what advice."""

from __future__ import annotations

import pytest
from stackd.base.errors import SpecErrors

from spec_builders import load, problem_of, problems_of, service_file


@pytest.mark.parametrize(
    ("settings", "code", "message", "hint"),
    [
        # Keys
        ("comand: x", "spec.key.unknown", 'unknown key "comand" under services.web', 'did you mean "command"?'),
        ("deploy: {replcas: 3}", "spec.key.unknown", '"replcas" under services.web.deploy', 'did you mean "replicas"?'),
        ("uts: host", "spec.key.unsupported", '"uts" under services.web is not supported yet', ""),
        ("x-stackd: {wave: 1}", "spec.key.unsupported", '"wave" under services.web.x-stackd', ""),
        ("scale: 3", "spec.key.unsupported", '"scale"', "write it as deploy.replicas"),
        ("mem_limit: 64m", "spec.key.unsupported", '"mem_limit"', "deploy.resources.limits.memory"),
        ("x-stackd: {hooks: []}", "spec.key.unsupported", '"hooks" under services.web.x-stackd is not supported yet', ""),
        ("x-stackd: {fense: true}", "spec.key.unknown", '"fense" under services.web.x-stackd', 'did you mean "fence"?'),
        ("deploy: {x-stackd: {}}", "spec.key.unknown", '"x-stackd" under services.web.deploy says nothing', "top level"),
        # Types
        ("user: 1000", "spec.type", "services.web.user must be text; it is the number 1000", 'put it in quotes: "1000"'),
        ("dns: [1.1.1.1, 1.1.1.1]", "spec.list.duplicate", "services.web.dns.1 stands twice", "remove one"),
        ("cap_add: [NET_ADMN]", "spec.capability.bad", 'no capability "NET_ADMN"', "did you mean NET_ADMIN?"),
        ("ulimits: {nofiles: 5}", "spec.ulimit.bad", 'there is no limit "nofiles"', "nofile"),
        ("ulimits: {core: {soft: 5}}", "spec.ulimit.bad", "services.web.ulimits.core has no hard", "one number for both"),
        ("devices: [ttyUSB0]", "spec.device.bad", '"ttyUSB0" is not a device', "SOURCE[:TARGET[:rwm]]"),
        ("devices: [{target: /dev/x}]", "spec.device.bad", "services.web.devices.0 has no source", None),
        ("tmpfs: '/run:huge=always'", "spec.tmpfs.bad", '"/run:huge=always" has an unknown option', "size and mode"),
        ("tmpfs: [run]", "spec.path.relative", '"run" is not an absolute path', None),
        ("dns: localhost", "spec.address.bad", '"localhost" is not an address', None),
        ("extra_hosts: [db]", "spec.host.bad", '"db" is not a host', "NAME:ADDRESS"),
        ("platform: Linux AMD", "spec.platform.bad", '"Linux AMD" is not a platform', "linux/amd64"),
        ("pull_policy: sometimes", "spec.value.choice", "must be one of always, missing", None),
        ("profiles: ['a b', all]", "spec.name.bad", "can't name a profile", None),
        ("shm_size: big", "spec.size.bad", '"big" is not a size', None),
        ("credential_spec: {file: a, registry: b}", "spec.credentials.bad", "says more than one thing", "keep one"),
        ("depends_on: {db: {required: false}}", "spec.dependency.bad", "depends_on.db has no condition", "service_healthy"),
        ("depends_on: {db: {condition: service_healthy}}", "spec.reference.undefined", 'no service "db"', None),
        ("depends_on: [web]", "spec.dependency.cycle", "wait for each other: web -> web", None),
        ("extends: other", "spec.extends.bad", 'there is no service "other" in shop/stack.yaml', None),
        ("extends: web", "spec.extends.cycle", '"web" extends itself', None),
        ("networks: [front]", "spec.reference.undefined", 'there is no network "front"', "under networks"),
        ("deploy: {placement: {preferences: [{spread: node.role}]}}", "spec.placement.bad", "not a label", "node.labels.NAME"),
        ("deploy: {placement: {preferences: [{}]}}", "spec.placement.bad", "says nothing to spread over", None),
        ("deploy: {endpoint_mode: dns}", "spec.value.choice", "must be one of vip, dnsrr", None),
        ("deploy: {resources: {reservations: {generic_resources: [{}]}}}", "spec.resources.generic", "no resource", None),
        ("pids_limit: 5\ndeploy: {resources: {limits: {pids: 6}}}", "spec.resources.conflict", "different things", "keep one"),
        ("volumes: [{type: volume, target: /a, volume: {subpath: ../b}}]", "spec.path.outside", "leads out of", None),
        ("command: {a: b}", "spec.type", "services.web.command must be text; it is a mapping", None),
        ("command: [sleep, 5]", "spec.type", "services.web.command.1 must be text; it is the number 5", 'in quotes: "5"'),
        ("environment:", "spec.type", "must be a mapping or a list of KEY=VALUE; it is empty", "give it a value, or remove"),
        ("environment: {A: [1]}", "spec.type", "services.web.environment.A must be text or a number; it is a list", None),
        ("ports: 80", "spec.type", "services.web.ports must be a list; it is the number 80", None),
        ("deploy: {replicas: many}", "spec.type", 'must be a whole number; it is the text "many"', None),
        ("deploy: {replicas: 1.5}", "spec.type", "must be a whole number; it is the number 1.5", None),
        ("deploy: {update_config: {delay: 10}}", "spec.type", "must be a duration; it is the number 10", 'add a unit: "10s"'),
        ("healthcheck: {disable: maybe}", "spec.type", 'must be true or false; it is the text "maybe"', None),
        # Values
        ("deploy: {mode: glboal}", "spec.value.choice", "must be one of replicated, global", 'did you mean "global"?'),
        ("deploy: {rollback_config: {failure_action: rollback}}", "spec.value.choice", "must be one of pause, continue", None),
        ("deploy: {replicas: -1}", "spec.value.range", "must be between 0 and 100000; it is -1", None),
        ("deploy: {update_config: {max_failure_ratio: 2}}", "spec.value.range", "must be between 0 and 1; it is 2", None),
        ("deploy: {mode: global, replicas: 2}", "spec.deploy.mode", "replicas can't be given", "one task on each"),
        ("stop_grace_period: 10 seconds", "spec.duration.bad", '"10 seconds" is not a duration', "write numbers with units"),
        ("stop_grace_period: '10'", "spec.duration.bad", '"10" is not a duration', 'add a unit: "10s"'),
        ("stop_signal: SIGTREM", "spec.signal.bad", 'there is no signal "SIGTREM"', "did you mean SIGTERM?"),
        ("hostname: a b", "spec.hostname.bad", "is not a host name", ""),
        ("hostname: '{{.Node.Name}}'", "spec.template.bad", "there is no Name here", ".Node.Hostname"),
        ("environment: {SLOT: '{{.Task.Slot}'}", "spec.template.bad", "services.web.environment.SLOT", ""),
        ("volumes: ['/srv/{{.Slot}}:/a']", "spec.template.bad", "services.web.volumes.0", ""),
        ("working_dir: srv", "spec.path.relative", '"srv" is not an absolute path', ""),
        ("command: \"echo 'hello\"", "spec.command.bad", "a quote is not closed", ""),
        ("restart: sometimes", "spec.restart.bad", '"sometimes" is not a restart policy', "unless-stopped"),
        ("deploy: {resources: {limits: {memory: 64Q}}}", "spec.size.bad", '"64Q" is not a size', "64M"),
        ("deploy: {resources: {limits: {memory: 64}}}", "spec.resources.too_small", "must be at least 4M", "unit"),
        ("deploy: {resources: {limits: {cpus: '0.0001'}}}", "spec.resources.too_small", "must be at least 0.001", None),
        ("deploy: {resources: {limits: {cpus: half}}}", "spec.cpus.bad", '"half" is not a number of CPUs', None),
        ("deploy: {resources: {limits: {cpus: '1'}, reservations: {cpus: '2'}}}", "spec.resources.exceeded", "more cpus", None),
        ("deploy: {placement: {constraints: [node.rol == manager]}}", "spec.constraint.bad", "node.rol", "node.role?"),
        ("environment: ['A B=1', '=x']", "spec.pair.bad", '"" is not a name', "write NAME=VALUE"),
        ("healthcheck: {test: [curl, localhost]}", "spec.healthcheck.bad", 'begins with "curl"', 'put "CMD"'),
        ("healthcheck: {test: [CMD]}", "spec.healthcheck.bad", "names no command", None),
        ("healthcheck: {test: x, disable: true}", "spec.healthcheck.bad", "has a test, and is disabled", None),
        ("healthcheck: {interval: 10us}", "spec.value.range", "must be at least 1ms", None),
        # Ports
        ("ports: [80a]", "spec.port.bad", '"80a" is not a published port', "the form is"),
        ("ports: ['70000:80']", "spec.port.bad", "a port outside of 1 to 65535", None),
        ("ports: ['8000-8002:80-81']", "spec.port.bad", "publishes 3 ports for 2 targets", "equally long"),
        ("ports: ['80:80/http']", "spec.port.bad", 'no protocol that ports have ("http")', "tcp, udp or sctp"),
        ("ports: [{published: 80}]", "spec.port.bad", "has no target", None),
        ("ports: ['80:80', '80:81']", "spec.port.duplicate", "80/tcp is already published by this service in line 4", None),
        (
            "ports: [{target: 80, published: 80, mode: host}]\ndeploy: {mode: global, update_config: {order: start-first}}",
            "spec.port.start_first",
            "a new task can't start while the old one listens on port 80",
            "use order: stop-first",
        ),
        ("ports: [80]\ndeploy: {endpoint_mode: dnsrr}", "spec.port.dnsrr", "services.web.ports.0", "mode: host"),
        # Mounts
        ("volumes: ['data:/data']", "spec.reference.undefined", 'there is no volume "data"', "define it at the top level"),
        ("volumes: ['./a:b']", "spec.mount.bad", '"b" is not an absolute path inside of the task', None),
        ("volumes: ['./a:/']", "spec.mount.bad", "would cover everything", None),
        ("volumes: ['./a:/a:r0']", "spec.mount.bad", 'unknown option "r0"', "ro, rw and nocopy"),
        ("volumes: [a]", "spec.mount.bad", '"a" is not an absolute path', None),
        ("volumes: ['aa:']", "spec.mount.bad", "is not a volume", "SOURCE:TARGET"),
        ("volumes: ['C:\\a:/a']", "spec.mount.bad", "is a path of Windows", None),
        ("volumes: [{type: bind, target: /a}]", "spec.mount.bad", "a bind mount needs a source", None),
        ("volumes: [{target: /a}]", "spec.mount.bad", "has no type", None),
        ("volumes: [{type: cluster, target: /a}]", "spec.mount.bad", "a mount of type cluster needs a source", None),
        ("volumes: [{type: disk, target: /a}]", "spec.value.choice", "must be one of bind, volume", None),
        ("volumes: [{type: tmpfs, target: /a, volume: {nocopy: true}}]", "spec.mount.options", "incompatible with", None),
        ("volumes: [/a, /a]", "spec.mount.duplicate", "/a is already taken by services.web.volumes.0", None),
        # References
        ("configs: [sight]", "spec.reference.undefined", 'there is no config "sight"', "define it at the top level"),
        ("configs: ['']", "spec.value.form", "services.web.configs.0 must not be empty", None),
        ("env_file: ''", "spec.value.form", "services.web.env_file must not be empty", None),
        ("healthcheck: {test: ''}", "spec.value.form", "services.web.healthcheck.test must not be empty", None),
        ("secrets: [{target: x}]", "spec.reference.bad", "has no source", None),
        ("env_file: nowhere.env", "spec.file.missing", 'there is no file "nowhere.env"', None),
        ("env_file: ../../etc/passwd", "spec.file.escapes", "lies outside of the stack's source", "beside the stack file"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_with_its_code_and_advice(settings: str, code: str, message: str, hint: str | None) -> None:
    problem = problem_of(service_file(settings))
    assert problem.code == code
    assert message in problem.message
    assert (hint or "") in (problem.hint or "")
    assert problem.position is not None
    assert problem.position.line >= 4


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("{}", "spec.services.missing", "the stack has no services"),
        ("services: {}", "spec.services.missing", "the stack has no services"),
        ("[]", "spec.type", "the file must be a mapping; it is a list"),
        ("services: []", "spec.type", "services must be a mapping; it is a list"),
        ("services: {web: }", "spec.type", "services.web must be a mapping; it is empty"),
        ("services: {web: {}}", "spec.image.missing", "services.web has no image"),
        ("services: {web: {image: Shop/Web}}", "spec.image.bad", '"Shop/Web" is not an image reference'),
        ("services: {we.b: {image: x}}", "spec.name.bad", "\"we.b\" can't name a service"),
        ("version: '2.4'\nservices: {web: {image: x}}", "spec.version.unsupported", 'version "2.4" is another language'),
        ("name: My Shop\nservices: {web: {image: x}}", "spec.name.bad", "\"My Shop\" can't name a stack"),
        (f"name: {'s' * 40}\nservices: {{{'w' * 40}: {{image: x}}}}", "spec.name.bad", "more than 63 characters"),
        ("models: {}\nservices: {web: {image: x}}", "spec.key.unsupported", '"models" at the top level'),
        ("x-stackd: {prune: x}\nservices: {web: {image: x}}", "spec.key.unsupported", '"prune" under x-stackd'),
        ("volumes: {a: {external: true, driver: x}}\nservices: {web: {image: x}}", "spec.external.conflict", "can't be given"),
        ("volumes: {a: {external: {name: x}, name: y}}\nservices: {web: {image: x}}", "spec.external.conflict", "has name and"),
        ("secrets: {a: }\nservices: {web: {image: x}}", "spec.type", "secrets.a must be a mapping"),
        ("secrets: {a: {file: ''}}\nservices: {web: {image: x}}", "spec.file.unnamed", "secrets.a.file names no file"),
        ("secrets: {a: {labels: {}}}\nservices: {web: {image: x}}", "spec.file.unnamed", "secrets.a doesn't say what"),
        ("secrets: {a: {file: x, content: y}}\nservices: {web: {image: x}}", "spec.file.conflict", "has file and content"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_its_code(text: str, code: str, message: str) -> None:
    problem = problem_of(text)
    assert problem.code == code
    assert message in problem.message


def test_all_faults_are_found_at_once_in_the_order_of_the_file() -> None:
    found = problems_of("""
        services:
          web:
            imag: nginx
            deploy: {replicas: many}
            volumes: [data:/data]
          db:
            image: postgres
            env_file: nowhere.env
        secrets: {password: {file: gone}}
        """)
    assert [(problem.position and problem.position.line, problem.code) for problem in found] == [
        (3, "spec.image.missing"),
        (4, "spec.key.unknown"),
        (5, "spec.type"),
        (6, "spec.reference.undefined"),
        (9, "spec.file.missing"),
        (10, "spec.file.missing"),
    ]


def test_after_fifty_errors_only_their_number_is_told() -> None:
    keys = "\n".join(f"key{number}: x" for number in range(80))
    found = problems_of(service_file(keys))
    assert len(found) == 51
    assert (found[-1].code, found[-1].message) == ("spec.more", "30 more errors are not listed")


def test_a_fault_in_an_anchor_is_told_once_where_it_is_written() -> None:
    problem = problem_of("""
        x-common: &common
          image: nginx
          stop_signal: SIGFOO
        services:
          a: *common
          b: {<<: *common}
          c: *common
        """)
    assert (problem.code, problem.position and problem.position.line) == ("spec.signal.bad", 4)


def test_a_value_that_could_not_be_interpolated_is_told_once() -> None:
    problem = problem_of("services: {web: {image: '${IMAGE:?name an image}'}}")
    assert (problem.code, problem.message) == ("spec.variable.required", 'the variable "IMAGE" must be set: name an image')


def test_an_unknown_key_hints_at_the_keys_there_are_if_none_is_near() -> None:
    problem = problem_of(service_file("deploy: {restart_policy: {zzz: 1}}"))
    assert problem.hint == "the keys here are: condition, delay, max_attempts, window"


# Ports of several services


def test_two_services_cannot_publish_one_port() -> None:
    problem = problem_of("""
        services:
          a: {image: x, ports: ["8080:80"]}
          b: {image: x, ports: ["8080:81"]}
        """)
    assert problem.code == "spec.port.duplicate"
    assert problem.message == 'services.b.ports.0: port 8080/tcp is already published by the service "a" in line 3'


@pytest.mark.parametrize(
    "other",
    [
        "'8080:80/udp'",
        "'8081:80'",
        "'80'",
        "{target: 80, published: 8080, mode: host}",
    ],
)
def test_ports_that_do_not_meet_are_free(other: str) -> None:
    first = "{target: 80, published: 8080, mode: host}"
    assert not problems_of(f"services: {{a: {{image: x, ports: [{first}]}}, b: {{image: x, ports: [{other}]}}}}")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("'127.0.0.1:80:80'", "'10.0.0.1:80:80'", False),
        ("'127.0.0.1:80:80'", "'80:81'", True),
        ("'80:81'", "'127.0.0.1:80:80'", True),
        ("'127.0.0.1:80:80'", "'127.0.0.1:80:81'", True),
    ],
)
def test_one_port_may_be_published_on_two_addresses(first: str, second: str, clash: bool) -> None:
    found = problems_of(f"services: {{a: {{image: x, ports: [{first}]}}, b: {{image: x, ports: [{second}]}}}}")
    assert [problem.code for problem in found] == ["spec.port.duplicate"] * clash


@pytest.mark.parametrize("ports", ["'80:80'", "{target: 80, published: 80, mode: host}"])
def test_a_port_in_host_mode_excludes_one_in_ingress_mode(ports: str) -> None:
    host = "{target: 80, published: 80, mode: host}"
    text = f"services: {{a: {{image: x, ports: [{host}]}}, b: {{image: x, ports: [{ports}, '80:81']}}}}"
    assert "spec.port.duplicate" in {problem.code for problem in problems_of(text)}


def test_a_stack_publishes_a_limited_number_of_ports() -> None:
    ranges = ", ".join(f"{first}-65535" for first in range(1, 100))
    services = ", ".join(f"s{number}: {{image: x, ports: [{ranges}]}}" for number in range(100))
    assert problem_of(f"services: {{{services}}}").code == "spec.limit.ports"


def test_many_tasks_may_publish_a_port_that_is_chosen_for_each() -> None:
    assert not problems_of(service_file("ports: [80]\ndeploy: {replicas: 3, update_config: {order: start-first}}"))


# Side files


def test_a_relative_bind_mount_is_refused_where_there_is_no_folder() -> None:
    problem = problem_of(service_file("volumes: ['./html:/srv/html']"), directory=None)
    assert problem.code == "spec.mount.relative_in_git"
    assert not problems_of(service_file("volumes: ['/srv/html:/srv/html']"), directory=None)


def test_a_home_folder_is_refused_where_there_is_none() -> None:
    assert problem_of(service_file("volumes: ['~/html:/srv/html']"), environment={}).code == "spec.mount.home"


@pytest.mark.parametrize(
    ("section", "size", "code"),
    [
        ("configs", 1000 * 1024, "spec.file.too_large"),
        ("secrets", 500 * 1024, "spec.file.too_large"),
        ("secrets", 0, "spec.file.empty"),
    ],
)
def test_a_file_that_is_too_large_or_empty_is_refused(section: str, size: int, code: str) -> None:
    text = service_file(f"{section}: [a]", f"{section}: {{a: {{file: a}}}}")
    assert problem_of(text, files={"a": b"x" * size}).code == code


@pytest.mark.parametrize("section", ["configs", "secrets"])
def test_the_largest_file_is_taken(section: str) -> None:
    size = {"configs": 1000, "secrets": 500}[section] * 1024 - 1
    load(service_file(f"{section}: [a]", f"{section}: {{a: {{file: a}}}}"), files={"a": b"x" * size})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\n=2\n", "has no variable's name in line 2"),
        (b"A B=1\n", 'has blanks in the name "A B" in line 1'),
        (b"A=\xff\n", "is not UTF-8"),
        (b"A=\0\n", "has a zero byte in line 1"),
    ],
)
def test_a_wrong_env_file_is_refused_with_its_line(content: bytes, message: str) -> None:
    problem = problem_of(service_file("env_file: app.env"), files={"app.env": content})
    assert problem.code == "spec.env_file.bad"
    assert message in problem.message


def test_all_files_together_are_limited() -> None:
    configs = ", ".join(f"c{number}: {{file: a}}" for number in range(100))
    found = problems_of(service_file("", f"configs: {{{configs}}}"), files={"a": b"x" * 1_000_000})
    assert {problem.code for problem in found} == {"spec.limit.files"}


@pytest.mark.parametrize("target", ["/", "..", "../.."])
def test_a_config_cannot_cover_everything(target: str) -> None:
    text = service_file(f"configs: [{{source: a, target: {target}}}]", "configs: {a: {file: a}}")
    assert problem_of(text, files={"a": b"1"}).code == "spec.mount.bad"


def test_a_config_and_a_secret_cannot_stand_at_one_place() -> None:
    text = service_file(
        "configs: [{source: a, target: /run/secrets/b}]\nsecrets: [b]",
        "configs: {a: {file: a}}\nsecrets: {b: {file: b}}",
    )
    assert problem_of(text, files={"a": b"1", "b": b"2"}).code == "spec.mount.duplicate"


def test_the_exception_speaks_for_all_problems() -> None:
    with pytest.raises(SpecErrors) as caught:
        load("services: {web: {imag: x}}")
    assert str(caught.value).startswith(
        "shop/stack.yaml:1:12: error[spec.image.missing]: services.web has no image (and 1 more)"
    )
