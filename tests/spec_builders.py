"""Builders for tests of the stack-file loader: a file from a few lines, and what is wrong with one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import dedent

from stackd.base.errors import Problem, SpecErrors
from stackd.spec.files import DictFiles
from stackd.spec.load import LoadedStack, load_stack
from stackd.spec.nodes import Mapping as MappingNode
from stackd.spec.nodes import Node, Scalar, Sequence
from stackd.spec.stack import ServiceSpec
from stackd.spec.surroundings import Surroundings

FILE = "shop/stack.yaml"
SIDE_FILES = {"site.conf": b"listen 80;\n", "password": b"hush", "app.env": b"COLOUR=blue\n# a comment\nHOME\nNOWHERE\n"}
ENVIRONMENT = {"HOME": "/home/ann", "TAG": "1.4", "EMPTY": "", "COMPOSE_PROFILES": "all"}

EVERY_KEY = """\
version: "3.8"
name: shop
x-defaults: &defaults
  stop_grace_period: 20s
  labels: {team: web}
services:
  web:
    <<: *defaults
    image: registry.example.com/shop/web:${TAG:-latest}
    entrypoint: ["/entry"]
    command: serve --name "the shop"
    environment:
      LEVEL: info
      WORKERS: 4
      HOME:
    env_file: [app.env]
    working_dir: /srv
    user: "1000:1000"
    hostname: shop
    ports:
      - 8080:80
      - target: 53
        published: 5353
        protocol: udp
        mode: host
    volumes:
      - data:/var/lib/data
      - ./html:/srv/html:ro
      - /cache
      - type: tmpfs
        target: /tmp
        tmpfs: {size: 64M}
    configs:
      - site
      - {source: site, target: /etc/site.conf, mode: 0440, uid: "7", gid: "8"}
    secrets: [password]
    healthcheck:
      test: [CMD, curl, -f, "http://localhost"]
      interval: 1m30s
      timeout: 5s
      start_period: 10s
      retries: 3
    stop_signal: SIGQUIT
    networks: [default]
    deploy:
      mode: replicated
      replicas: 1
      labels: [tier=front, public]
      update_config:
        parallelism: 2
        delay: 5s
        failure_action: rollback
        monitor: 30s
        max_failure_ratio: 0.2
        order: stop-first
      rollback_config: {parallelism: 0, failure_action: continue}
      restart_policy: {condition: on-failure, delay: 1s, max_attempts: 3, window: 1m}
      resources:
        limits: {cpus: "0.5", memory: 64M, pids: 100}
        reservations: {cpus: 0.25, memory: 32M}
      placement:
        constraints: [node.role==manager]
  agent:
    image: agent
    restart: on-failure:2
    deploy: {mode: global}
networks: {default: }
volumes:
  data: {driver: local, driver_opts: {type: nfs}, labels: {keep: "yes"}}
configs:
  site: {file: site.conf}
secrets:
  password: {file: ./password}
"""

FURTHER_KEYS = """\
name: shop
x-stackd: {executor: docker, fence: true}
services:
  web:
    image: nginx
    cap_add: [net_admin]
    cap_drop: [CAP_MKNOD, ALL]
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_started, required: false}
    deploy:
      endpoint_mode: dnsrr
      resources:
        reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}
      placement:
        preferences: [{spread: node.labels.zone}, {spread: node.labels.rack}]
        max_replicas_per_node: 2
    devices: ["/dev/ttyUSB0:/dev/modem:rw", {source: /dev/fuse}]
    dns: 10.0.0.53
    dns_opt: [ndots:2]
    dns_search: [example.com]
    extra_hosts: ["db=10.0.0.7", "v6:::1"]
    group_add: [audio, 44]
    healthcheck: {test: [CMD, ok], start_interval: 1s}
    init: true
    logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}
    networks:
      front: {aliases: [www], driver_opts: {mtu: 1400}}
      their: {aliases: [shop]}
      host:
    oom_score_adj: 100
    pids_limit: 100
    platform: linux/arm64
    privileged: true
    profiles: [all]
    pull_policy: if_not_present
    read_only: true
    runtime: runsc
    secrets: [theirs]
    configs: [text, variable]
    security_opt: [no-new-privileges:true]
    shm_size: 128m
    stdin_open: true
    sysctls: {net.core.somaxconn: 1024}
    tmpfs: ["/run:size=64m,mode=1770", /tmp]
    tty: true
    ulimits: {nofile: 1024, core: {soft: 0, hard: -1}}
    volumes:
      - /srv:/srv:rslave,ro
      - {type: bind, source: /new, target: /new, bind: {create_host_path: true}}
      - {type: volume, source: data, target: /data, volume: {subpath: a/b}}
      - {type: tmpfs, target: /scratch, tmpfs: {size: 1m, mode: 01777}}
      - {type: cluster, source: data, target: /cluster}
      - {type: image, source: tools, target: /tools}
    x-stackd: {drain: start-first, executor: process, update: {progress_deadline: 1h}}
  db:
    extends: {service: base}
    credential_spec: {config: text}
    isolation: default
    deploy: {mode: replicated-job, replicas: 4}
  base: {image: postgres, stop_grace_period: 1m, x-stackd: {drain: start-first}}
networks:
  front:
    driver: overlay
    driver_opts: {encrypted: ""}
    internal: true
    attachable: true
    enable_ipv6: true
    labels: {tier: front}
    ipam: {driver: default, config: [{subnet: 10.1.0.0/16, gateway: 10.1.0.1, ip_range: 10.1.4.0/24}]}
  their: {external: true, name: their-net}
  host: {external: true, name: host}
volumes: {data: }
configs:
  text: {content: "listen 80;\\n", template_driver: golang, labels: {a: b}}
  variable: {environment: HOME, name: variable-config}
secrets:
  theirs: {external: true}
  vault: {driver: vault, driver_opts: {path: a}}
"""


def load(
    text: str | bytes,
    *,
    file: str = FILE,
    name: str | None = None,
    files: Mapping[str, bytes] = SIDE_FILES,
    directory: str | None = "/srv/shop",
    environment: Mapping[str, str] = ENVIRONMENT,
) -> LoadedStack:
    """The stack that `text` means; lines may be indented as the test is."""
    data = text if isinstance(text, bytes) else dedent(text).encode()
    return load_stack(data, Surroundings(file, name, DictFiles(files, directory=directory), environment))


def problems_of(text: str | bytes, **options: object) -> tuple[Problem, ...]:
    """Everything that is wrong with the file; () if it is right."""
    try:
        load(text, **options)  # type: ignore[arg-type]
    except SpecErrors as error:
        return error.problems
    return ()


def problem_of(text: str | bytes, **options: object) -> Problem:
    """The only thing that is wrong with the file."""
    found = problems_of(text, **options)
    assert len(found) == 1, [f"{problem.position}: {problem.code}: {problem.message}" for problem in found]
    return found[0]


def a_service(settings: str = "", **options: object) -> ServiceSpec:
    """The service `web` of a file where it has an image and `settings`."""
    loaded = load(service_file(settings), **options)  # type: ignore[arg-type]
    return next(service for service in loaded.spec.services if service.name == "web")


def service_file(settings: str = "", rest: str = "") -> str:
    """A file with one service, `web`, that has an image and `settings`, and further sections `rest`."""
    lines = ["services:", "  web:", "    image: nginx"]
    lines += [f"    {line}" for line in dedent(settings).strip("\n").splitlines()]
    return "\n".join([*lines, dedent(rest)]) + "\n"


def as_yaml(document: object) -> bytes:
    """A document as YAML: JSON is a part of it."""
    return json.dumps(document, ensure_ascii=False).encode()


def plain(node: Node) -> object:
    """A tree as plain data, for a validator that knows no places."""
    match node:
        case MappingNode():
            return {name: plain(entry.value) for name, entry in node.entries.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value
        case _:
            raise AssertionError(node)
