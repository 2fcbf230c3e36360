"""The engine over generated histories: it is safe after every entry, decides nothing twice, and gets there in the end.

`ToyCluster` checks after each entry that the state and the step to it are safe and that a step right after its own
decision decides nothing; these tests supply the histories.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import HealthCheck, given
from hypothesis import settings as options
from hypothesis import strategies as st
from stackd.base.time import SECOND, Duration
from stackd.engine.inputs import (
    ForceUpdate,
    Input,
    RemoveService,
    RemoveStack,
    RollbackService,
    ScaleService,
)
from stackd.engine.parts import Availability
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import (
    Dependency,
    DependencyCondition,
    FailureAction,
    Placement,
    Port,
    PublishMode,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    ServiceSettings,
    TaskSpec,
    UpdateConfig,
    UpdateOrder,
)

from engine_builders import (
    BAD,
    CRASHING,
    ENDING,
    FLAPPING,
    SOMEBODY,
    ToyCluster,
    a_spec,
    settings,
)

NODES = 3
SERVICES = ("web", "db")

delays = st.sampled_from([0, Duration(SECOND // 2), Duration(2 * SECOND)])
update_configs = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay_ns=delays,
    failure_action=st.sampled_from(FailureAction),
    monitor_ns=st.sampled_from([1, SECOND]),
    max_failure_ratio=st.sampled_from([0.0, 0.5]),
    order=st.sampled_from(UpdateOrder),
    progress_deadline_ns=st.sampled_from([0, Duration(2 * SECOND), Duration(600 * SECOND)]),
)
policies = st.builds(
    RestartPolicy,
    condition=st.sampled_from(RestartCondition),
    delay_ns=delays,
    max_attempts=st.sampled_from([0, 0, 2]),
    window_ns=st.sampled_from([0, 3 * SECOND]),
)
images = st.sampled_from(["v1", "v2", "v3", BAD, CRASHING, ENDING, FLAPPING])
modes = st.sampled_from([ServiceMode.REPLICATED, ServiceMode.REPLICATED, *ServiceMode])
after_db = st.builds(Dependency, service=st.just("db"), condition=st.sampled_from(DependencyCondition), required=st.just(False))


@st.composite
def service_settings(draw: st.DrawFn) -> ServiceSettings:
    return settings(
        draw(st.integers(0, 5)),
        mode=draw(modes),
        update=draw(update_configs),
        rollback=draw(update_configs),
        drain_start_first=draw(st.booleans()),
        max_concurrent=draw(st.integers(0, 2)),
    )


@st.composite
def deployments(draw: st.DrawFn) -> Deploy:
    """`web` may depend on `db`, not the other way round."""
    service, spec, wanted = draw(services), draw(task_specs()), draw(service_settings())
    if service == "web" and draw(st.booleans()):
        wanted = msgspec.structs.replace(wanted, depends_on=(draw(after_db),))
    return Deploy(service, spec, wanted)


@st.composite
def task_specs(draw: st.DrawFn, images: st.SearchStrategy[str] = images) -> TaskSpec:
    port = draw(st.sampled_from([0, 0, 8080]))
    return a_spec(
        draw(images),
        restart=draw(policies),
        placement=Placement(
            constraints=draw(st.sampled_from([(), (), ("node.hostname != host1",)])),
            max_per_node=draw(st.sampled_from([0, 0, 1])),
        ),
        fence=draw(st.sampled_from([False, False, True])),
        reservations=Resources(nano_cpus=draw(st.sampled_from([0, 10**9]))),
        ports=(Port(target=80, published=port, mode=PublishMode.HOST),) if port else (),
    )


@dataclass(frozen=True)
class Deploy:
    service: str
    spec: TaskSpec
    settings: ServiceSettings


@dataclass(frozen=True)
class Scale:
    service: str
    replicas: int


@dataclass(frozen=True)
class Command:
    name: str
    service: str


@dataclass(frozen=True)
class NodeAction:
    name: str
    node: int


@dataclass(frozen=True)
class Pass:
    """Rounds of toy nodes; `steps` of 100 ms."""

    steps: int


@dataclass(frozen=True)
class Kill:
    """The n-th running task fails."""

    number: int


@dataclass(frozen=True)
class NewLeader:
    """All timers are lost; a full pass has to find everything again."""


services = st.sampled_from(SERVICES)
actions = st.one_of(
    deployments(),
    deployments(),
    st.builds(Scale, services, st.integers(0, 6)),
    st.builds(Command, st.sampled_from(["force", "rollback", "remove", "remove-stack"]), services),
    st.builds(
        NodeAction,
        st.sampled_from(["crash", "recover", "drain", "pause", "activate", "shrink", "remove"]),
        st.integers(1, NODES),
    ),
    st.builds(Pass, st.integers(1, 8)),
    st.builds(Pass, st.integers(1, 30)),
    st.builds(Kill, st.integers(0, 5)),
    st.builds(NewLeader),
)


class History:
    """Carries out actions on a toy cluster; refused commands are fine."""

    def __init__(self) -> None:
        self.cluster = ToyCluster(nodes=NODES, cpus=4)
        self.wanted: dict[str, tuple[str, TaskSpec, ServiceSettings]] = {}

    def do(self, action: object) -> None:
        cluster = self.cluster
        match action:
            case Deploy(service, spec, wanted):
                self.wanted[service] = (service, spec, wanted)
                cluster.deploy(*self.wanted.values())
            case Scale(service, replicas):
                cluster.submit(ScaleService(name=f"shop_{service}", replicas=replicas, principal=SOMEBODY))
            case Command("force", service):
                cluster.submit(ForceUpdate(name=f"shop_{service}", principal=SOMEBODY))
            case Command("rollback", service):
                cluster.submit(RollbackService(name=f"shop_{service}", principal=SOMEBODY))
            case Command("remove", service):
                self.wanted.pop(service, None)
                cluster.submit(RemoveService(name=f"shop_{service}", principal=SOMEBODY))
            case Command():
                self.wanted.clear()
                cluster.submit(RemoveStack(name="shop", principal=SOMEBODY))
            case NodeAction(name, node):
                self._act_on_node(name, node)
            case Pass(steps):
                cluster.rounds(steps)
            case Kill(number):
                running = [task for task in cluster.view.tasks.values() if cluster.state(task) is TaskState.RUNNING]
                running = [task for task in running if task.node_id in cluster.alive]
                if running:
                    cluster.report(running[number % len(running)], TaskState.FAILED, error="killed")
            case NewLeader():
                cluster.new_leader()
            case other:
                raise AssertionError(other)

    def _act_on_node(self, name: str, node: int) -> None:
        match name:
            case "crash":
                self.cluster.crash(node)
            case "recover":
                self.cluster.recover(node)
            case "drain":
                self.cluster.drain(node)
            case "shrink":
                self.cluster.shrink(node)
            case "remove":
                self.cluster.remove_node(node)
            case "pause":
                self.cluster.drain(node, Availability.PAUSE)
            case _:
                self.cluster.drain(node, Availability.ACTIVE)

    def heal(self) -> None:
        for node in range(1, NODES + 1):
            self.cluster.recover(node)
            self.cluster.drain(node, Availability.ACTIVE)


LIMITS = options(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@LIMITS
@given(st.lists(actions, max_size=25))
def test_every_entry_of_any_history_is_safe_and_leaves_nothing_to_add(history: list[object]) -> None:
    run = History()
    for action in history:
        run.do(action)


@LIMITS
@given(st.lists(actions, max_size=15), task_specs(st.sampled_from(["v1", "v4"])), st.integers(0, 3), update_configs)
def test_after_any_history_a_good_spec_converges_once_faults_stop(
    history: list[object], spec: TaskSpec, replicas: int, update: UpdateConfig
) -> None:
    run = History()
    for action in history:
        run.do(action)
    run.heal()
    stop_first = UpdateConfig(parallelism=update.parallelism, delay_ns=update.delay_ns, monitor_ns=update.monitor_ns)
    patient = TaskSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__ if name != "restart"})
    run.wanted = {"web": ("web", patient, settings(min(replicas, 2), update=stop_first))}
    run.cluster.deploy(*run.wanted.values())
    run.cluster.settle()


@LIMITS
@given(st.lists(actions, max_size=12))
def test_after_a_stack_is_removed_nothing_of_it_is_left(history: list[object]) -> None:
    run = History()
    for action in history:
        run.do(action)
    run.heal()
    run.do(Command("remove-stack", "web"))
    run.cluster.until(lambda: not run.cluster.view.services and not run.cluster.view.tasks, limit=400)  # a fence lasts 30 s
    assert not run.cluster.view.statuses
    assert not run.cluster.view.rollouts


commands = st.one_of(
    st.builds(ScaleService, name=st.just("shop_web"), replicas=st.integers(0, 6), principal=st.just(SOMEBODY)),
    st.builds(ForceUpdate, name=st.just("shop_web"), principal=st.just(SOMEBODY)),
    st.builds(RollbackService, name=st.just("shop_web"), principal=st.just(SOMEBODY)),
)


@LIMITS
@given(st.lists(st.tuples(commands, st.integers(0, 4)), max_size=8), st.integers(0, 8))
def test_commands_decided_together_or_cut_off_anywhere_are_as_safe_as_one_by_one(
    plan: list[tuple[Input, int]], cut: int
) -> None:
    cluster = ToyCluster(nodes=2)
    cluster.run(a_spec("v1"), settings(3))
    cluster.settle()
    if plan[:cut]:
        cluster.submit(*(command for command, _ in plan[:cut]))
    cluster.new_leader()  # another leader takes over here
    for command, rounds in plan[cut:]:
        cluster.submit(command)
        cluster.rounds(rounds)
    cluster.settle()
