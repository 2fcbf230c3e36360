"""Where a command goes: sockets, managers far away, and the contexts that lead there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stackd.api.client import Client
from stackd.api.cluster import IssuedUser, IssueUserRequest
from stackd.api.views import UserView
from stackd.base.errors import NotFound, StackdError
from stackd.base.time import HOUR, Duration, Instant
from stackd.cli.contexts import Context, context_path, encode_context, encode_token, load_context, read_context
from stackd.engine.parts import UserRole
from stackd.security.authority import Authority
from stackd.security.identity import NodeKey, UserIdentity

from cli_control import a_rotation
from cli_runner import NOW, Stackd

SOCKET = "unix:///run/stackd.sock"


@pytest.fixture(scope="module")
def ann() -> Context:
    """A context whose certificate lives for an hour from the time at which commands run."""
    signer, key = Authority.create(NOW), NodeKey.create()
    identity = UserIdentity("ann", UserRole.VIEWER, "cluster1")
    certificate = signer.issue(key.request(), identity, NOW, Duration(HOUR))
    return Context(
        name="ann",
        role="viewer",
        managers=("10.0.0.1:2377", "10.0.0.2:2377"),
        certificate=certificate.decode(),
        key=key.pem().decode(),
        roots=signer.root.pem.decode(),
    )


@pytest.fixture
def home(tmp_path: Path, ann: Context, stackd: Stackd) -> Path:
    """A home with the context `shop`, and an environment that names neither host nor context."""
    path = tmp_path / ".config" / "stackd" / "contexts" / "shop.json"
    path.parent.mkdir(parents=True)
    path.touch(mode=0o600)
    path.write_text(encode_context(ann))
    stackd.environment = {"HOME": str(tmp_path), "STACKD_DATA_DIR": "/data"}
    return tmp_path


def hosts(stackd: Stackd, *arguments: str, **environment: str) -> list[str]:
    """Where `service ls` goes."""
    stackd.environment |= environment
    stackd.control.hosts.clear()
    ended = stackd("service", "ls", *arguments)
    assert ended.code == 0, ended.err
    return stackd.control.hosts


def test_a_command_goes_to_this_machines_daemon_unless_told_otherwise(stackd: Stackd, home: Path) -> None:
    assert hosts(stackd) == ["unix:///data/stackd.sock"]
    assert hosts(stackd, STACKD_HOST=SOCKET) == [SOCKET]
    assert hosts(stackd, "--host", "unix:///other") == ["unix:///other"]
    assert stackd.control.material is None


@pytest.mark.parametrize("by", ["name", "path", "environment", "token"])
def test_a_context_leads_to_its_managers_with_its_certificate(stackd: Stackd, home: Path, ann: Context, by: str) -> None:
    managers = ["tcp://10.0.0.1:2377", "tcp://10.0.0.2:2377"]
    match by:
        case "name":
            assert hosts(stackd, "--context", "shop") == managers
        case "path":
            assert hosts(stackd, "--context", str(context_path("shop", stackd.environment))) == managers
        case "token":
            assert hosts(stackd, STACKD_CONTEXT=encode_token(ann)) == managers
        case _:
            assert hosts(stackd, STACKD_CONTEXT="shop") == managers
    assert stackd.control.material == ann.material(NOW)


def test_the_command_line_counts_for_more_than_the_environment(stackd: Stackd, home: Path) -> None:
    assert hosts(stackd, "--context", "shop", STACKD_HOST=SOCKET)[0] == "tcp://10.0.0.1:2377"
    assert hosts(stackd, "--host", SOCKET, STACKD_CONTEXT="shop") == [SOCKET]


def test_an_address_far_away_is_asked_with_the_certificate_of_the_context(stackd: Stackd, home: Path) -> None:
    assert hosts(stackd, "--host", "tcp://10.0.0.9", "--context", "shop") == ["tcp://10.0.0.9"]
    assert stackd.control.material is not None
    assert hosts(stackd, "--host", "tcp://10.0.0.8", STACKD_CONTEXT="shop") == ["tcp://10.0.0.8"]
    assert hosts(stackd, STACKD_HOST="tcp://10.0.0.7", STACKD_CONTEXT="shop") == ["tcp://10.0.0.7"]


def test_a_context_for_a_socket_is_an_error_of_usage(stackd: Stackd, home: Path) -> None:
    assert stackd("service", "ls", "--host", SOCKET, "--context", "shop").code == 64


def test_an_expired_certificate_is_told_before_anybody_is_asked(stackd: Stackd, home: Path, ann: Context) -> None:
    with pytest.raises(StackdError) as expired:
        ann.material(Instant(NOW + 2 * HOUR))
    assert expired.value.code == "cli.context.expired"


def test_a_context_that_is_not_there_or_none_at_all_is_refused(stackd: Stackd, home: Path) -> None:
    with pytest.raises(NotFound) as missing:
        load_context("nothing", stackd.environment)
    assert missing.value.code == "cli.context.unknown"
    path = context_path("shop", stackd.environment)
    for content in ("", "{}", path.read_text().replace('"Context"', '"Stack"')):
        path.write_text(content)
        with pytest.raises(StackdError) as damaged:
            load_context("shop", stackd.environment)
        assert damaged.value.code == "cli.context.damaged"


def test_a_user_token_is_refused_unless_it_is_whole(ann: Context) -> None:
    token = encode_token(ann)
    assert load_context(f"{token}\n", {}) == ann
    for broken in (token[:-30], token[:40], "STKU-1-", f"{token[:60]}*{token[61:]}", f"STKU-1-{token}"):
        with pytest.raises(StackdError) as damaged:
            load_context(broken, {})
        assert damaged.value.code == "cli.context.damaged"
        assert token not in str(damaged.value)


def test_a_user_token_holds_the_certificate_of_one_key(stackd: Stackd, ann: Context) -> None:
    stackd.control.issued = IssuedUser(certificate=ann.certificate.encode(), roots=b"roots", managers=("10.0.0.3:2377",))
    ended = stackd("cluster", "ca", "user", "ci", "--role", "deployer", "--token")
    context = load_context(ended.out, {})
    assert (context.name, context.role, context.managers) == ("ci", "deployer", ("10.0.0.3:2377",))
    assert NodeKey.load(context.key.encode()).request()


def test_a_context_that_others_may_read_is_refused(stackd: Stackd, home: Path) -> None:
    context_path("shop", stackd.environment).chmod(0o644)
    ended = stackd("service", "ls", "--context", "shop")
    assert ended.code == 1
    assert "error[cli.context.open]" in ended.err


def test_who_replaces_the_root_from_afar_has_a_context_of_the_new_one_where_the_old_one_lay(stackd: Stackd, home: Path) -> None:
    path = context_path("shop", stackd.environment)
    former = read_context(path)
    stackd.control.user_list = [UserView(name="ann", role="viewer", created_at=None)]
    stackd.control.issued = IssuedUser(certificate=former.certificate.encode(), roots=b"both", managers=("10.0.0.3:2377",))
    ended = stackd("cluster", "ca", "rotate", "--detach", "--context", "shop")
    assert ended.err == f"the context {path} is a new one\n"
    request = next(one for one in stackd.control.requests if isinstance(one, IssueUserRequest))
    assert (request.name, request.role, request.life_seconds) == ("ann", UserRole.VIEWER, 3600)
    present = read_context(path)
    assert (present.roots, present.managers) == ("both", ("10.0.0.3:2377",))
    assert NodeKey.load(present.key.encode()).request()
    assert present.key != former.key
    assert path.stat().st_mode & 0o777 == 0o600


def with_a_token(stackd: Stackd, ann: Context, *, host: str = "") -> str:
    """An environment with a user token and, perhaps, a manager's address; the certificate that ann is issued again."""
    former = encode_token(ann)
    stackd.environment = {"STACKD_CONTEXT": former} | ({"STACKD_HOST": host} if host else {})
    stackd.control.user_list = [UserView(name="ann", role="viewer", created_at=None)]
    stackd.control.issued = IssuedUser(certificate=ann.certificate.encode(), roots=b"both", managers=("10.0.0.3:2377",))
    return former


def test_who_replaces_the_root_with_a_user_token_is_given_the_one_that_takes_its_place(stackd: Stackd, ann: Context) -> None:
    former = with_a_token(stackd, ann, host="tcp://10.0.0.1")
    stackd.control.rotations = [a_rotation("n0de5m1q0x8c2z7b4n6a9s1d3"), None]
    ended = stackd("cluster", "ca", "rotate")
    token = ended.out.strip()
    present = load_context(token, {})
    assert (token != former, present.name, present.roots, present.managers) == (True, "ann", "both", ("10.0.0.3:2377",))
    assert ended.err.startswith("the user token of ann works until the rotation ends; this one takes its place\n")
    assert ended.err.endswith("every node has moved\nEvery node uses the new root certificate (r00t).\n")
    assert set(stackd.control.hosts) == {"tcp://10.0.0.1"}
    assert stackd.control.material == present.material(NOW)  # the wait is over a connection that outlasts the rotation


def test_a_script_gets_the_new_user_token_also_when_nobody_waits_long_enough(stackd: Stackd, ann: Context) -> None:
    with_a_token(stackd, ann)
    stackd.control.rotations = [a_rotation("n0de5m1q0x8c2z7b4n6a9s1d3")] * 9
    for arguments, code in ((("--detach",), 0), (("--timeout", "1ms"), 4)):
        ended = stackd("cluster", "ca", "rotate", "-o", "json", *arguments)
        assert ended.code == code, ended.err
        assert load_context(json.loads(ended.out)["token"], {}).roots == "both"


def test_the_key_is_in_no_repr(ann: Context) -> None:
    assert "PRIVATE KEY" not in repr(ann)


def test_an_address_that_is_none_or_lacks_a_certificate_is_refused() -> None:
    for host, code in (("http://here", "api.host.bad"), ("tcp://10.0.0.1", "api.host.no_certificate")):
        with pytest.raises(StackdError) as refused:
            Client(host)
        assert refused.value.code == code
