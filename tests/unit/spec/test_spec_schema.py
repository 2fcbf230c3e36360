"""The JSON schema: it is one, it says the same as the readers, and editors get all they show from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from stackd.spec.interpolate import interpolate
from stackd.spec.load import parse
from stackd.spec.problems import Problems
from stackd.spec.read import keys
from stackd.spec.read.value import Keys
from stackd.spec.schema import schema_text
from stackd.spec.stack import REPLICAS_MAX

from spec_builders import EVERY_KEY, FURTHER_KEYS, plain, service_file

SCHEMA: dict[str, Any] = json.loads(schema_text())
DEFINITIONS = SCHEMA["definitions"]
DEPLOY = DEFINITIONS["deploy"]["properties"]
SERVICE = DEFINITIONS["service"]["properties"]
IPAM = DEFINITIONS["network"]["properties"]["ipam"]["anyOf"][0]
GENERIC = DEPLOY["resources"]["properties"]["reservations"]["properties"]["generic_resources"]["items"]
COPY = Path(__file__).parents[3] / "schemas" / "stack.schema.json"


def test_the_copy_for_editors_is_the_schema_that_is_shipped() -> None:
    assert COPY.read_text("utf-8") == schema_text()


def test_the_schema_is_draft_7() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def mappings(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and "additionalProperties" in schema:
            yield path, schema
        for name, part in schema.items():
            yield from mappings(part, f"{path}.{name}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from mappings(part, f"{path}.{index}")


def test_every_property_is_described_and_has_a_default() -> None:
    for path, schema in mappings(SCHEMA):
        for name, part in schema["properties"].items():
            assert part.get("description"), f"{path}.{name}"
            assert "default" in part, f"{path}.{name}"


def test_no_mapping_takes_unknown_keys() -> None:
    for path, schema in mappings(SCHEMA):
        assert schema["additionalProperties"] is False, path


@pytest.mark.parametrize(
    ("known", "schema"),
    [
        (keys.STACK, SCHEMA),
        (keys.SERVICE, DEFINITIONS["service"]),
        (keys.HEALTHCHECK, DEFINITIONS["healthcheck"]),
        (keys.PORT, DEFINITIONS["port"]),
        (keys.FILE_REFERENCE, DEFINITIONS["file_reference"]),
        (keys.DEPLOY, DEFINITIONS["deploy"]),
        (keys.UPDATE, DEPLOY["update_config"]),
        (keys.UPDATE, DEPLOY["rollback_config"]),
        (keys.RESTART_POLICY, DEPLOY["restart_policy"]),
        (keys.RESOURCES, DEPLOY["resources"]),
        (keys.LIMITS, DEPLOY["resources"]["properties"]["limits"]),
        (keys.RESERVATIONS, DEPLOY["resources"]["properties"]["reservations"]),
        (keys.PLACEMENT, DEPLOY["placement"]),
        (keys.MOUNT, DEFINITIONS["mount"]),
        (keys.MOUNT_BIND, DEFINITIONS["mount"]["properties"]["bind"]["anyOf"][0]),
        (keys.MOUNT_VOLUME, DEFINITIONS["mount"]["properties"]["volume"]["anyOf"][0]),
        (keys.MOUNT_TMPFS, DEFINITIONS["mount"]["properties"]["tmpfs"]["anyOf"][0]),
        (keys.VOLUME, DEFINITIONS["volume"]),
        (keys.EXTERNAL, DEFINITIONS["volume"]["properties"]["external"]["anyOf"][1]),
        (keys.NETWORK, DEFINITIONS["network"]),
        (keys.IPAM, IPAM),
        (keys.POOL, IPAM["properties"]["config"]["items"]),
        (keys.CONFIG, DEFINITIONS["config"]),
        (keys.SECRET, DEFINITIONS["secret"]),
        (keys.INCLUDE, DEFINITIONS["include"]),
        (keys.EXTENDS, SERVICE["extends"]["anyOf"][1]),
        (keys.ENV_FILE, DEFINITIONS["env_file"]),
        (keys.DEPENDENCY, DEFINITIONS["dependency"]),
        (keys.LOGGING, SERVICE["logging"]["anyOf"][0]),
        (keys.CREDENTIALS, SERVICE["credential_spec"]["anyOf"][0]),
        (keys.ULIMIT, SERVICE["ulimits"]["additionalProperties"]["anyOf"][2]),
        (keys.DEVICE, SERVICE["devices"]["anyOf"][0]["items"]["anyOf"][1]),
        (keys.SERVICE_NETWORK, DEFINITIONS["attachment"]),
        (keys.GENERIC_RESOURCE, GENERIC),
        (keys.DISCRETE_RESOURCE, GENERIC["properties"]["discrete_resource_spec"]["anyOf"][0]),
        (keys.PREFERENCE, DEPLOY["placement"]["properties"]["preferences"]["items"]),
        (keys.STACK_EXTENSION, DEFINITIONS["stack_extension"]),
        (keys.SERVICE_EXTENSION, DEFINITIONS["service_extension"]),
        (keys.UPDATE_EXTENSION, DEFINITIONS["service_extension"]["properties"]["update"]["anyOf"][0]),
        (keys.OBJECT_EXTENSION, DEFINITIONS["object_extension"]),
    ],
)
def test_the_schema_knows_the_keys_that_are_taken(known: Keys, schema: dict[str, Any]) -> None:
    assert set(schema["properties"]) == known.known | set(known.ignored)


def test_the_schema_has_the_limits_of_the_engine() -> None:
    for section in (
        DEPLOY["replicas"],
        *(DEPLOY[name]["properties"]["parallelism"] for name in ("update_config", "rollback_config")),
    ):
        assert section["anyOf"][0]["maximum"] == REPLICAS_MAX


def test_no_key_is_both_read_and_refused() -> None:
    for places in vars(keys).values():
        if isinstance(places, Keys):
            assert not places.known & set(places.later)


@pytest.mark.parametrize("interpolated", [False, True])
@pytest.mark.parametrize("written", [EVERY_KEY, FURTHER_KEYS])
def test_a_file_with_every_key_is_valid_before_and_after_interpolation(interpolated: bool, written: str) -> None:
    problems = Problems()
    text = written + "\n  extra: {file: '${FILE:-x}'}\n"
    root = parse(text.encode(), "file", problems)
    if interpolated:
        interpolate(root, {}, problems)
    errors = [error.message for error in Draft7Validator(SCHEMA).iter_errors(plain(root))]
    assert errors == []


@pytest.mark.parametrize(
    "settings",
    [
        "deploy: {replicas: '${N}', mode: '${MODE}', update_config: {delay: '${D}', order: '$ORDER', max_failure_ratio: '$R'}}",
        "stop_grace_period: ${GRACE:-10s}",
        "deploy: {resources: {limits: {cpus: '${CPUS}', memory: '${MEMORY:-64M}', pids: '${PIDS}'}}}",
        "healthcheck: {disable: '${OFF:-no}', interval: '$I', retries: '$N'}",
        "ports: [{target: '${PORT}', published: '${PORT}', protocol: '$P', mode: '$M'}]",
        "configs: [{source: a, mode: '${MODE}', uid: '${ID}'}]",
        "restart: ${RESTART}",
    ],
)
def test_variables_may_stand_wherever_a_number_or_a_word_is_expected(settings: str) -> None:
    root = parse(service_file(settings).encode(), "file", Problems())
    assert not list(Draft7Validator(SCHEMA).iter_errors(plain(root)))
