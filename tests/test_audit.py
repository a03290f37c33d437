"""A chain that was changed says so, at the line where it was; a line cut short is put aside and nothing else is lost."""

import json
import os
from pathlib import Path

import pytest

from agent.audit import Chain, digest, verify


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Four rows."""
    made = Chain(tmp_path / "audit.jsonl")
    for number in range(4):
        made.add(made.row("promote", {"to": number, "reason": "a\u2028b ü"}, "anna"))
    return made


def lines(chain: Chain) -> list[bytes]:
    return chain.file.read_bytes().splitlines(keepends=True)


def test_a_chain_as_it_was_written_holds(chain: Chain) -> None:
    assert verify(chain.file) == [] and [row["detail"]["to"] for row in chain.rows()] == [0, 1, 2, 3]


def test_no_file_is_no_problem_and_no_row(tmp_path: Path) -> None:
    assert verify(tmp_path / "none.jsonl") == [] and Chain(tmp_path / "none.jsonl").rows() == []


@pytest.mark.parametrize("field, value", [("what", "rollback"), ("by", "somebody"), ("at", "2020"), ("detail", {}),
                                          ("hash", "0" * 64)])
def test_a_changed_row_is_named(chain: Chain, field: str, value: object) -> None:
    rows = lines(chain)
    rows[1] = json.dumps(json.loads(rows[1]) | {field: value}).encode() + b"\n"
    chain.file.write_bytes(b"".join(rows))
    assert "line 2 " in verify(chain.file)[0] and "was changed after it was written" in verify(chain.file)[0]


def test_a_changed_row_with_a_new_hash_is_found_at_the_row_after_it(chain: Chain) -> None:
    rows = lines(chain)
    changed = json.loads(rows[1]) | {"by": "somebody"}
    rows[1] = json.dumps(changed | {"hash": digest(changed)}).encode() + b"\n"
    chain.file.write_bytes(b"".join(rows))
    assert "line 3 " in verify(chain.file)[0]


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_removed_row_is_found_at_the_row_after_it(chain: Chain, gone: int) -> None:
    rows = lines(chain)
    del rows[gone]
    chain.file.write_bytes(b"".join(rows))
    assert f"line {gone + 1} " in verify(chain.file)[0] and "removed" in verify(chain.file)[0]


def test_rows_that_changed_places_are_found(chain: Chain) -> None:
    rows = lines(chain)
    rows[1], rows[2] = rows[2], rows[1]
    chain.file.write_bytes(b"".join(rows))
    assert "line 2 " in verify(chain.file)[0]


def test_a_row_without_a_hash_in_the_middle_is_named(chain: Chain) -> None:
    rows = lines(chain)
    rows.insert(2, b'{"what": "promote"}\n')
    chain.file.write_bytes(b"".join(rows))
    assert "line 3 (promote) has no hash" in verify(chain.file)[0]


def test_a_line_that_is_no_json_in_the_middle_is_named_and_stays(chain: Chain) -> None:
    rows = lines(chain)
    rows.insert(2, b"\xff nonsense\n")
    chain.file.write_bytes(b"".join(rows))
    chain.mend()
    assert verify(chain.file) == ["audit.jsonl, line 3 cannot be read."] and lines(chain) == rows


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_line_cut_short_is_put_aside_and_told(chain: Chain, kept: int) -> None:
    rows = lines(chain)
    torn = rows[3][:kept]
    chain.file.write_bytes(b"".join(rows[:3]) + torn)
    assert "line 4 was cut short" in verify(chain.file)[0]
    chain.mend()
    *before, told = chain.rows()
    assert verify(chain.file) == [] and len(before) == 3 and told["what"] == "torn"
    assert (chain.file.parent / told["detail"]).read_bytes() == torn
    chain.mend()
    assert len(chain.rows()) == 4  # told once


def test_a_mending_that_was_itself_killed_is_finished(chain: Chain) -> None:
    rows = lines(chain)
    chain.file.write_bytes(b"".join(rows[:3]) + rows[3][:9])
    chain.mend()
    os.truncate(chain.file, sum(map(len, rows[:3])))  # killed after the cut, before it was told
    chain.mend()
    assert [row["what"] for row in chain.rows()] == ["promote"] * 3 + ["torn"] and verify(chain.file) == []


def test_a_last_line_that_lacks_its_end_alone_is_whole(chain: Chain) -> None:
    whole = chain.file.read_bytes()
    chain.file.write_bytes(whole[:-1])
    chain.mend()
    assert chain.file.read_bytes() == whole


def test_a_row_that_took_effect_is_added_once(chain: Chain) -> None:
    row = chain.row("promote", {"to": 9}, "anna")
    for _ in range(2):
        chain.mend(row)
    assert chain.rows()[-1] == row and len(chain.rows()) == 5 and verify(chain.file) == []


def test_a_row_that_took_effect_is_added_after_its_own_torn_line_is_put_aside(chain: Chain) -> None:
    row = chain.row("promote", {"to": 9}, "anna")
    with chain.file.open("ab") as stream:
        stream.write(json.dumps(row).encode()[:30])
    chain.mend(row)
    assert [each["what"] for each in chain.rows()[3:]] == ["promote", "promote", "torn"]
    assert chain.rows()[4] == row and verify(chain.file) == []


def test_a_row_that_does_not_follow_is_not_added(chain: Chain) -> None:
    row = chain.row("promote", {"to": 9}, "anna")
    chain.file.write_bytes(b"".join(lines(chain)[:2]))
    chain.mend(row)
    assert len(chain.rows()) == 2


def test_lines_of_before_there_were_hashes_are_gone_on_from_and_cannot_change_afterwards(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "audit.jsonl")
    chain.file.write_text('{"what": "publish", "detail": "shop@0002"}\n{"what": "champion"}\n', encoding="utf-8")
    assert verify(chain.file) == []
    chain.mend()
    chain.add(chain.row("promote", {}, "anna"))
    assert verify(chain.file) == [] and [row["what"] for row in chain.rows()][2:] == ["from_here", "promote"]
    chain.file.write_bytes(chain.file.read_bytes().replace(b"0002", b"0003"))
    assert verify(chain.file) == ["audit.jsonl, line 3: the lines before it are not those that it goes on from."]
