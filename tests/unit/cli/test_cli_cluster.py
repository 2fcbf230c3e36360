"""The cluster group: what is asked of which daemon, and what people are told."""

from __future__ import annotations

import io
import json
import stat
import threading
from pathlib import Path

import pytest
from stackd.api.cluster import (
    AutolockRequest,
    ChangeCertificatesRequest,
    IssueUserRequest,
    RotateRootRequest,
    UserRequest,
)
from stackd.api.control import ClusterRequest, EventsRequest
from stackd.api.local import InitRequest, JoinClusterRequest, LeaveClusterRequest, LocalNodeView, UnlockRequest
from stackd.api.views import UserView
from stackd.base.errors import Refused, Unavailable
from stackd.cli import settling
from stackd.engine.parts import UserRole

from cli_control import a_cluster, a_local_node, a_node, a_rotation
from cli_runner import Stackd

JOIN = "stackd cluster join --token STKN-1-worker 10.0.0.1:2377"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "LOOK_SECONDS", 0.0)


def test_init_prints_how_others_join_by_the_one_port_that_people_see(stackd: Stackd) -> None:
    ended = stackd("cluster", "init", "--advertise-addr", "10.0.0.1")
    assert "Cluster initialized: this node (n0de5m1q0x8c2z7b4n6a9s1d3) is now a manager.\n" in ended.out
    assert f"    {JOIN}\n" in ended.out
    assert stackd.control.requests[0] == InitRequest(advertise="10.0.0.1")


def test_init_takes_a_root_that_people_bring(stackd: Stackd, tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(b"root")
    (tmp_path / "root.key").write_bytes(b"key")
    root = ("--ca-cert", str(tmp_path / "root.pem"))
    assert stackd("cluster", "init", *root, "--ca-key", str(tmp_path / "root.key")).code == 0
    assert stackd.control.requests[0] == InitRequest(root=b"root", key=b"key")
    assert stackd("cluster", "init", "--ca-key", str(tmp_path / "root.key")).code == 64


def test_what_is_about_this_machine_is_not_asked_of_another_one(stackd: Stackd) -> None:
    for command in (("init",), ("join", "--token", "T", "10.0.0.1"), ("leave",), ("unlock",)):
        stackd.environment = {"STACKD_CONTEXT": "shop"}
        assert stackd("cluster", *command).code == 64
        stackd.environment = {"STACKD_HOST": "tcp://10.0.0.1"}
        assert stackd("cluster", *command).code == 64
    assert stackd.control.requests == []


def test_join_says_how_far_it_is_and_as_what_the_node_joined(stackd: Stackd) -> None:
    stackd.control.here = a_local_node("worker")
    ended = stackd("cluster", "join", "--token", "STKN-1-t", "--availability", "drain", "10.0.0.1")
    assert ended.out == "This node (n0de5m1q0x8c2z7b4n6a9s1d3) joined the cluster as a worker.\n"
    assert ended.err == "asking 10.0.0.1 for a place in its cluster\nworker: ready\n"
    assert stackd.control.requests[0] == JoinClusterRequest(token="STKN-1-t", manager="10.0.0.1", availability="drain")


def test_join_shows_what_the_daemon_is_at_and_what_it_is_refused_with(stackd: Stackd, monkeypatch: pytest.MonkeyPatch) -> None:
    sights = [a_local_node("idle", doing="asking at 10.0.0.1:2379"), a_local_node("worker", doing="it has a place")]
    seen = threading.Event()

    def local_node() -> LocalNodeView:
        if sights:
            return sights.pop(0)
        seen.set()
        return a_local_node("worker")

    def join(_request: JoinClusterRequest) -> LocalNodeView:
        assert seen.wait(10)
        raise Unavailable("daemon.changing", "this node is changing its role")

    monkeypatch.setattr(stackd.control, "local_node", local_node)
    monkeypatch.setattr(stackd.control, "join_cluster", join)
    ended = stackd("cluster", "join", "--token", "STKN-1-t", "10.0.0.1", "-o", "json")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines()[:3] == [
        "asking 10.0.0.1 for a place in its cluster",
        "asking at 10.0.0.1:2379",
        "worker: it has a place",
    ]
    assert json.loads(ended.err.splitlines()[-1])["code"] == "daemon.changing"


def test_join_waits_for_what_the_node_waits_for(stackd: Stackd) -> None:
    stackd.control.here = a_local_node("worker", message="no manager answers")
    ended = stackd("cluster", "join", "--token", "STKN-1-t", "--timeout", "1ms", "10.0.0.1")
    assert ended.code == 4
    assert "worker: no manager answers\n" in ended.err


def test_a_join_token_is_shown_with_its_command_or_alone(stackd: Stackd) -> None:
    assert f"    {JOIN}\n" in stackd("cluster", "join-token", "worker").out
    assert stackd("cluster", "join-token", "-q", "manager").out == "STKN-1-manager\n"
    assert json.loads(stackd("cluster", "join-token", "worker", "-o", "json").out)["token"] == "STKN-1-worker"
    assert "rotate" not in stackd.control.requests
    assert stackd("cluster", "join-token", "--rotate", "worker").out.startswith("The join token of workers is a new one.\n")
    assert "rotate" in stackd.control.requests


def test_leaving_can_be_forced(stackd: Stackd) -> None:
    assert stackd("cluster", "leave").out == "Node left the cluster.\n"
    stackd("cluster", "leave", "--force")
    assert stackd.control.requests == [LeaveClusterRequest(), LeaveClusterRequest(force=True)]


def test_info_shows_this_node_and_the_cluster(stackd: Stackd) -> None:
    page = stackd("cluster", "info").out
    for line in ("This node:       manager", "Leader:          east", "Nodes:           2, 2 ready", "Autolock:        off"):
        assert f"{line}\n" in page
    document = json.loads(stackd("cluster", "info", "-o", "json").out)
    assert (document["kind"], document["node"]["state"], document["cluster"]["leader"]) == ("ClusterInfo", "manager", "east")


def test_info_on_a_worker_shows_what_it_knows_of_itself(stackd: Stackd) -> None:
    stackd.control.here = a_local_node("worker")
    stackd.control.cluster_failure = Refused("daemon.not_a_manager", "this node is a worker")
    ended = stackd("cluster", "info")
    assert ended.code == 0
    assert "Knows managers:  10.0.0.1:2377\n" in ended.out
    assert "Leader" not in ended.out


def test_info_while_nobody_leads_shows_this_node_and_says_so(stackd: Stackd) -> None:
    stackd.control.cluster_failure = Unavailable("manager.no_leader", "no manager leads at the moment")
    ended = stackd("cluster", "info")
    assert ended.code == 1
    assert ended.out.startswith("This node:       manager\n")
    assert ended.err.startswith("error[manager.no_leader]: no manager leads at the moment\n  hint: if it stays so, bring back")


def test_info_elsewhere_passes_refusals_on(stackd: Stackd) -> None:
    stackd.control.cluster_failure = Refused("api.access.denied", "ann may not")
    assert stackd("cluster", "info").code == 3


def test_settings_go_where_they_belong(stackd: Stackd) -> None:
    pools = ("--default-addr-pool", "10.64.0.0/12", "--default-addr-pool-mask-length", "22")
    ended = stackd("cluster", "update", "--history", "3", *pools, "--cert-expiry", "720h", "--autolock")
    assert stackd.control.requests == [
        ClusterRequest(history=3, address_pools=("10.64.0.0/12",), subnet_bits=22),
        ChangeCertificatesRequest(life_seconds=720 * 3600),
        AutolockRequest(on=True),
        "cluster_info",
    ]
    assert "stackd-unlock-1-new" in ended.err
    assert "stackd-unlock-1-new" not in ended.out


def test_autolock_is_left_alone_unless_named(stackd: Stackd) -> None:
    stackd("cluster", "update", "--rebalance", "1")
    assert stackd.control.requests == [ClusterRequest(rebalance=1), "cluster_info"]
    stackd("cluster", "update", "--no-autolock")
    assert AutolockRequest(on=False) in stackd.control.requests


def test_the_unlock_key_is_read_from_stdin_and_is_no_argument(stackd: Stackd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("stackd-unlock-1-x\n"))
    assert stackd("cluster", "unlock").out == "Unlocked: this node is a manager.\n"
    assert stackd.control.requests == [UnlockRequest(key="stackd-unlock-1-x")]
    assert stackd("cluster", "unlock", "stackd-unlock-1-x").code == 64


def test_the_unlock_key_is_shown_and_rotated(stackd: Stackd) -> None:
    assert "error[cli.autolock.off]" in stackd("cluster", "unlock-key").err
    assert not any(isinstance(request, AutolockRequest) for request in stackd.control.requests)
    stackd.control.key = "stackd-unlock-1-old"
    assert stackd("cluster", "unlock-key", "-q").out == "stackd-unlock-1-old\n"
    assert stackd("cluster", "unlock-key", "-q", "--rotate").out == "stackd-unlock-1-new\n"
    assert stackd.control.requests[-1] == AutolockRequest(on=True, rotate=True)


def test_a_rotation_of_the_root_names_the_nodes_that_are_behind(stackd: Stackd) -> None:
    stackd.control.node_list = (a_node(),)
    stackd.control.rotations = [a_rotation("n0de5m1q0x8c2z7b4n6a9s1d3", "unknown"), a_rotation(), None]
    ended = stackd("cluster", "ca", "rotate")
    assert ended.out == "Every node uses the new root certificate (r00t).\n"
    assert ended.err == "2 nodes still to move: east, unknown\nending\nevery node has moved\n"
    assert RotateRootRequest() in stackd.control.requests


def test_a_rotation_of_the_root_says_whose_contexts_have_to_be_issued_anew(stackd: Stackd) -> None:
    stackd.control.user_list = [
        UserView(name=name, role=role, created_at=None) for name, role in (("ann", "admin"), ("bob", "viewer"))
    ]
    ended = stackd("cluster", "ca", "rotate", "--detach")
    assert "issue them anew for ann (admin), bob (viewer): `stackd cluster ca user NAME --role ROLE`" in ended.err


def test_the_authority_is_shown_with_what_holds_a_rotation_up(stackd: Stackd) -> None:
    stackd.control.info = a_cluster(rotation=a_rotation("n0de"))
    page = stackd("cluster", "ca", "info").out
    assert "Root digest:   r00t\n" in page
    assert "Still behind:  1 node: n0de\n" in page
    stackd.control.info = a_cluster(root_digest="")
    assert stackd("cluster", "ca", "info").out == "The cluster has no certificates.\n"


def test_a_persons_key_is_made_here_and_only_a_request_is_sent(stackd: Stackd) -> None:
    ended = stackd("cluster", "ca", "user", "ann", "--role", "deployer", "--expiry", "24h")
    (request,) = stackd.control.requests
    assert isinstance(request, IssueUserRequest)
    assert (request.name, request.role, request.life_seconds) == ("ann", UserRole.DEPLOYER, 86400)
    assert request.request.startswith(b"-----BEGIN CERTIFICATE REQUEST-----")
    context = json.loads(ended.out)
    assert (context["kind"], context["name"], context["managers"]) == ("Context", "ann", ["10.0.0.1:2377"])
    assert context["key"].startswith("-----BEGIN PRIVATE KEY-----")


def test_a_context_is_written_for_its_owner_alone_and_never_over_a_file(stackd: Stackd, tmp_path: Path) -> None:
    path = tmp_path / "new" / "ann.json"
    asked = ("cluster", "ca", "user", "ann", "--role", "viewer", "--out", str(path))
    assert stackd(*asked).out == f"{path}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = len(stackd.control.requests)
    ended = stackd(*asked)
    assert "error[cli.context.not_written]" in ended.err
    assert len(stackd.control.requests) == before, "nobody was let in for a context that can't be handed over"


def test_people_are_listed_and_shut_out(stackd: Stackd) -> None:
    stackd.control.user_list = (UserView(name="ann", role="viewer", created_at="2026-05-01T11:55:00.000Z"),)
    assert stackd("cluster", "ca", "users").out == "NAME   ROLE     CREATED\nann    viewer   5 minutes ago\n"
    assert stackd("cluster", "ca", "user", "ann", "--rm").out == "ann\n"
    assert stackd.control.requests[-1] == UserRequest(name="ann")
    assert stackd("cluster", "ca", "user", "ann").code == 64
    assert stackd("cluster", "ca", "user", "ann", "--rm", "--role", "viewer").code == 64


def test_a_backup_is_written_whole_and_never_over_a_file(stackd: Stackd, tmp_path: Path) -> None:
    stackd.control.pieces = (b"one", b"two")
    path = tmp_path / "shop.backup"
    assert stackd("cluster", "backup", str(path)).out == f"{path} (6B)\n"
    assert path.read_bytes() == b"onetwo"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "error[raft.backup.exists]" in stackd("cluster", "backup", str(path)).err


def test_going_on_alone_is_asked_for(stackd: Stackd, tmp_path: Path) -> None:
    ended = stackd("cluster", "force-new", "--data-dir", str(tmp_path))
    assert ended.code == 3
    assert "error[cli.confirm]" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_the_audit_is_asked_for_of_the_daemon(stackd: Stackd) -> None:
    stackd("events", "--audit")
    assert stackd.control.requests == [EventsRequest(audit=True)]


def test_every_command_of_the_group_ends_its_help_with_an_example(stackd: Stackd) -> None:
    listed = stackd("cluster", "--help").out.partition("Commands:\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines() if line[2] != " "]
    assert {"init", "join", "join-token", "leave", "unlock", "unlock-key", "backup", "restore", "force-new"} <= set(names)
    for name in names:
        assert "Example" in stackd("cluster", name, "--help").out
