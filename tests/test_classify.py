"""Files of messages through a router: every line gets its row, in order, and a bad one costs no other."""

import json
import tracemalloc

from typer.testing import CliRunner

from agent.classify import EACH, classify
from agent.surfaces.cli import app
from agent.types import Route


class Echo:
    """Routes to the message's first word."""

    def route(self, texts):
        return [Route(text.split()[0], 0.5, ((text.split()[0], 0.5),), 0.25) for text in texts]


def test_every_line_gets_its_row_in_order_whatever_the_threads():
    lines = [f"w{number} where is it\n" for number in range(3 * EACH + 5)]
    for threads in (1, 2, 5):
        rows = list(classify(lines, Echo(), 1000, threads))
        assert [row["intent"] for row in rows] == [line.split()[0] for line in lines]
    assert rows[0] == {"text": "w0 where is it", "intent": "w0", "confidence": 0.5, "oos": 0.25, "ranking": [["w0", 0.5]], "likely": []}


def test_json_lines_and_plain_lines_are_read_private_values_go_and_bad_lines_say_why():
    lines = ['{"text": "mail ann@example.org please", "id": 7}', "", "  plain words ", "{bad", '{"question": "x"}', "x" * 50]
    rows = list(classify(lines, Echo(), 40))
    assert [row.get("intent") for row in rows] == ["mail", "plain", None, None, None]
    assert "ann@example.org" not in json.dumps(rows) and "[EMAIL_1]" in rows[0]["text"]
    assert "not valid JSON" in rows[2]["error"] and rows[2]["line"] == 4
    assert "add \"text\"" in rows[3]["error"] and rows[4]["error"]


def test_memory_does_not_grow_with_the_file():
    def peak(count):
        tracemalloc.start()
        for _ in classify((f"w{number} where is my parcel" for number in range(count)), Echo(), 1000, 2):
            pass
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2 * EACH)  # what is made once
    assert peak(40 * EACH) < 1.5 * peak(4 * EACH)


def test_the_command_writes_a_row_a_message_and_tells_bad_lines_by_its_exit(home, tmp_path, monkeypatch):
    monkeypatch.setenv("RETUNE_HOME", str(home))
    asked, out = tmp_path / "asked.txt", tmp_path / "rows.jsonl"
    asked.write_text("where is my order LK-10482\nhow do I send it back\n", encoding="utf-8")
    came = CliRunner().invoke(app, ["classify", "customer_service", str(asked), "--out", str(out)])
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert came.exit_code == 0 and [row["intent"] for row in rows] == ["order_status", rows[1]["intent"]] and rows[1]["intent"]
    asked.write_text("{\n", encoding="utf-8")
    assert CliRunner().invoke(app, ["classify", "customer_service", str(asked)]).exit_code == 1
    missing = CliRunner().invoke(app, ["classify", "customer_service", str(tmp_path / "none")])
    assert missing.exit_code == 1 and "is no file" in str(missing.exception)
