"""What is counted as free, and what a run is taken to need."""

from dataclasses import replace

import pytest

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig
from quorem.errors import UserError
from quorem.plan import memory
from quorem.plan.memory import check_memory, free_bytes
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.plan.sizes import TRAINED_BYTES, describe
from quorem.training import processes

V2 = {"memory.max": "{limit}", "memory.current": "600", "memory.stat": "anon 500\ninactive_file 100\n"}
V1 = {
    "memory/memory.limit_in_bytes": "{limit}",
    "memory/memory.usage_in_bytes": "600",
    "memory/memory.stat": "cache 100\ninactive_file 100\n",
}


def control_group(folder, files, limit):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(limit=limit))


@pytest.fixture
def groups(monkeypatch, tmp_path):
    """Where control groups are, and what says in which of them this process is."""
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/job/step\n3:cpuset:/other\n0::/job/step\n")
    return tmp_path


@pytest.mark.parametrize("where", ["", "job", "job/step"])
@pytest.mark.parametrize("files", [V1, V2], ids=["v1", "v2"])
def test_a_control_group_leaves_less_than_the_machine_has(groups, files, where):
    machine = free_bytes()
    files = {f"{name.rpartition('/')[0]}/{where}/{name.rpartition('/')[2]}".lstrip("/"): files[name] for name in files}
    control_group(groups, files, 1000)
    assert free_bytes() == 1000 - 600 + 100  # files kept in memory make room
    control_group(groups, files, 100)
    assert free_bytes() == 0
    control_group(groups, files, 2**63 - 4096)  # what stands for no limit in version 1
    assert free_bytes() == pytest.approx(machine, rel=0.2)


def test_a_group_without_a_limit_is_no_limit_and_others_are_not_its(groups):
    control_group(groups, V2, "max")
    control_group(groups, {f"other/{name}": text for name, text in V2.items()}, 1000)
    assert free_bytes() > 10**6


@pytest.fixture
def config():
    model = {"size": "small", "vocab_size": 2000, "embedding": {"kind": "qr"}}
    return resolve(from_mapping(PretrainConfig, {"model": model, "train": {"batch_size": 1}}))


def test_processes_of_one_machine_share_its_memory(monkeypatch, config):
    needed = check_memory(Plan.of(config, 2000))
    monkeypatch.setattr(memory, "free_bytes", lambda: 3 * needed)
    check_memory(Plan.of(config, 2000))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(UserError, match=r"GB in each of 4 processes.*, and .* is free"):
        check_memory(Plan.of(config, 2000))


def test_layers_shared_out_need_less_in_each_process(monkeypatch, config):
    whole = check_memory(Plan.of(config, 2000))
    monkeypatch.setattr(processes, "count", lambda: 4)
    monkeypatch.setattr(memory, "free_bytes", lambda: whole - 1)
    with pytest.raises(UserError, match=r"or train\.shard_layers=true"):
        check_memory(Plan.of(config, 2000))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**12)
    sharded = check_memory(Plan.of(replace(config, train=replace(config.train, shard_layers=True)), 2000))
    parts = describe(Plan.of(config, 2000))["parts"]
    layers = sum(part.parameters for part in parts if part.name.endswith(" encoder"))
    assert layers > 10**6
    assert sharded == whole - layers * TRAINED_BYTES * 3 // 4
