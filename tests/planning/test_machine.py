"""Constants of machines: each says where it comes from, and can be another one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hf_distill.planning.machine import MACHINES, SOURCES, Machine, machine_named


def test_no_constant_is_without_a_source():
    assert set(SOURCES) == {field.name for field in fields(Machine)} - {"name"}
    assert all(field.metadata["help"] for field in fields(Machine))


@pytest.mark.parametrize("name", MACHINES)
def test_no_machine_is_faster_than_its_parts(name):
    machine = MACHINES[name]
    assert 0 < machine.utilisation < 1
    assert 0 < machine.reached <= 1
    assert machine.memory_bandwidth > machine.inside >= machine.between / machine.per_node
    assert machine.inside_latency <= machine.between_latency
    assert machine.hub <= machine.site


def test_nodes_are_full_before_another_one_is_taken():
    machine = MACHINES["h100"]
    assert [machine.nodes(gpus) for gpus in (1, 8, 9, 16, 1024)] == [1, 1, 2, 2, 128]


def test_a_constant_is_changed_and_nothing_else():
    machine = machine_named("h100", ["between=12.5e9", "per_node=4"])
    assert (machine.between, machine.per_node, machine.flops) == (12.5e9, 4, MACHINES["h100"].flops)
    assert isinstance(machine.per_node, int)


@pytest.mark.parametrize("change", ["between", "between=", "between=fast", "between=0", "between=-1", "between=inf"])
def test_a_constant_that_is_no_number_is_refused(change):
    with pytest.raises(ValueError, match="FIELD=NUMBER, above 0"):
        machine_named("h100", [change])


def test_a_typo_is_answered_with_the_nearest_name():
    with pytest.raises(ValueError, match="Did you mean `a100`"):
        machine_named("a10")
    with pytest.raises(ValueError, match=r"machine\.betwen: unknown key\. Did you mean `between`"):
        machine_named("h100", ["betwen=1e9"])
