"""Fields of stored records, as the stack file writes them."""

from __future__ import annotations

import pytest
from stackd.cli.filekeys import change_words, file_key


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("container.image", "image"),
        ("container.env", "environment"),
        ("container.mounts", "volumes"),
        ("container.stop_grace_ns", "stop_grace_period"),
        ("container.healthcheck.interval_ns", "healthcheck.interval"),
        ("container.labels.org.example.role", "labels.org.example.role"),
        ("labels.tier", "deploy.labels.tier"),
        ("replicas", "deploy.replicas"),
        ("update.delay_ns", "deploy.update_config.delay"),
        ("restart.max_attempts", "deploy.restart_policy.max_attempts"),
        ("limits.nano_cpus", "deploy.resources.limits.cpus"),
        ("reservations.memory_bytes", "deploy.resources.reservations.memory"),
        ("placement.constraints", "deploy.placement.constraints"),
        ("ports", "ports"),
    ],
)
def test_each_field_leads_to_the_key_that_decides_it(field: str, key: str) -> None:
    assert file_key(field) == key


@pytest.mark.parametrize(
    ("field", "before", "after", "words"),
    [
        ("container.image", "nginx:1.25", "nginx:1.26", ("nginx:1.25", "nginx:1.26")),
        ("replicas", "3", "4", ("3", "4")),
        ("update.delay_ns", "10000000000", "0", ("10s", "0.0s")),
        ("limits.nano_cpus", "500000000", "0", ("0.5", "0")),
        ("limits.memory_bytes", "67108864", "0", ("64MiB", "0")),
        ("container.user", "", "www", ("(unset)", "www")),
        ("container.env", '["A=1","B=2"]', '["A=3","B=2"]', ("A=1", "A=3")),
        ("container.env", '["A=1"]', '["A=1","B=2"]', ("(nothing)", "B=2")),
        (
            "container.configs",
            '[{"source":"app","target":"/app","digest":"0011223344"}]',
            '[{"source":"app","target":"/app","digest":"99887766aa"}]',
            ("app (00112233)", "app (99887766)"),
        ),
        (
            "ports",
            '[{"target":80,"published":8080,"protocol":"tcp","mode":"ingress","host_ip":""}]',
            "[]",
            ("8080:80/tcp", "(nothing)"),
        ),
        ("container.mounts", "[]", '[{"type":"volume","target":"/data","source":"db"}]', ("(nothing)", "db:/data")),
    ],
)
def test_values_are_said_in_the_files_words(field: str, before: str, after: str, words: tuple[str, str]) -> None:
    assert change_words(field, before, after) == words
