"""The commands as a person runs them: exit codes, JSON, and one sentence for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent.settings import Settings


def retune(*arguments: str, home: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent.surfaces.cli", *arguments, "--home", str(home)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=Path(__file__).parent.parent)


def test_ask_prints_everything_that_an_app_needs(settings: Settings):
    run = retune("ask", "finance", "What would a loan of $12,000 at 6.5% over 5 years cost me a month?", "--json", home=settings.home)
    assert run.returncode == 0, run.stderr
    table = json.loads(run.stdout)
    assert {"answer", "intent", "confidence", "abstained", "sources", "tools", "bundle", "turn_id", "session_id", "flags",
            "timings_ms"} <= set(table)
    assert table["intent"] == "loan_payment" and "$234.79" in table["answer"] and table["bundle"] == "finance@0001"


def test_chat_reads_questions_from_a_pipe_and_finds_the_domain_of_each(settings: Settings):
    questions = ("what would I pay a month for $12,000 at 6.5% over 5 years?\nCan I take ibuprofen together with warfarin?\n"
                 "where is my order LK-10482\n/why\n/up\n/nonsense\n")
    run = retune("chat", home=settings.home, stdin=questions)
    assert run.returncode == 0, run.stderr
    assert "$234.79" in run.stdout and "finance@0001" in run.stdout
    assert "medical@0001" in run.stdout and "warfarin" in run.stdout.lower()
    assert "customer_service@0001" in run.stdout and "LK-10482" in run.stdout
    assert "Noted: a good answer." in run.stdout and "There is no command /nonsense" in run.stdout
    assert "tool tools.orders:order_status" in run.stdout


@pytest.mark.parametrize("arguments, word", [
    (("ask", "nowhere", "hi"), "no domain"), (("versions", "nowhere"), "no domain"),
    (("train", "finance", "--recipe", "nothing"), "no recipe"), (("evaluate", "nowhere"), "no domain")])
def test_a_mistake_is_one_sentence_and_exit_1(arguments, word, settings: Settings):
    run = retune(*arguments, home=settings.home)
    assert run.returncode == 1 and word in run.stderr and "Traceback" not in run.stderr


def test_usage_is_exit_2(home: Path):
    assert retune("ask", home=home).returncode == 2


def test_doctor_finds_a_ready_home_well_and_names_the_remedy_otherwise(settings: Settings, tmp_path: Path):
    well = retune("doctor", "--json", home=settings.home)
    findings = json.loads(well.stdout)
    assert well.returncode == 0 and all(finding["ok"] for finding in findings), well.stdout
    empty = retune("doctor", home=tmp_path / "empty")
    assert empty.returncode == 1 and "retune models" in empty.stdout


def test_versions_lists_the_starter_bundle(settings: Settings):
    rows = json.loads(retune("versions", "medical", "--json", home=settings.home).stdout)
    assert rows[0]["bundle"] == "medical@0001" and rows[0]["alias"] == "champion"


def test_bench_router_measures_rows_of_ones_own(settings: Settings, tmp_path: Path):
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    rows = [("refund please", "refund"), ("money back", "refund"), ("return my cash", "refund"), ("where is it", "where"),
            ("has it shipped", "where"), ("track parcel", "where")]
    train.write_text("".join(json.dumps({"text": text, "intent": intent}) + "\n" for text, intent in rows), encoding="utf-8")
    test.write_text(json.dumps({"text": "give me my money back", "intent": "refund"}) + "\n", encoding="utf-8")
    run = retune("bench", "router", "--train", str(train), "--test", str(test), "--method", "frozen", "--json", home=settings.home)
    table = json.loads(run.stdout)
    assert table["accuracy"] == 1.0 and table["n_train"] == 6 and {"ece", "p50_ms", "p99_ms", "train_s", "threshold"} <= set(table)
    test.write_text("not json\n", encoding="utf-8")
    broken = retune("bench", "router", "--train", str(train), "--test", str(test), home=settings.home)
    assert broken.returncode == 1 and "line 1" in broken.stderr
