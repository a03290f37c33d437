"""Keys: made once, found by their secret, revoked for good; the commands that do so."""

import json
import re

import pytest
from typer.testing import CliRunner

from agent import keys
from agent.errors import DataError
from agent.surfaces import cli


def test_a_key_is_found_by_its_secret_alone_and_the_table_holds_only_its_hash(db):
    secret, made = keys.add(db, "web", "acme", ["feedback", "chat"], 30, 2)
    assert re.fullmatch(r"rtk_[A-Za-z0-9_-]{43}", secret) and made.scopes == ("chat", "feedback")
    assert keys.find(db, secret) == made and keys.listed(db) == [made]
    assert all(keys.find(db, other) is None for other in ("", secret[:-1], secret + "x", "rtk_", "\ud800", made.name))
    with db.reading() as at:
        assert secret not in str(at.exec_driver_sql("SELECT * FROM keys").all())


def test_a_revoked_key_opens_nothing_and_its_name_stays_taken(db):
    assert not keys.any_made(db)
    secret, _ = keys.add(db, "web", "acme", ["chat"])
    first = keys.revoke(db, "web")
    assert keys.find(db, secret) is None and first.revoked and keys.revoke(db, "web") == first and keys.any_made(db)
    with pytest.raises(DataError, match="is or was a key 'web'"):
        keys.add(db, "web", "other", ["chat"])
    with pytest.raises(DataError, match="no key 'nobody'"):
        keys.revoke(db, "nobody")


@pytest.mark.parametrize("name, tenant, scopes, more, said", [
    ("a/b", "acme", ["chat"], {}, "name 'a/b'"), ("", "acme", ["chat"], {}, "name ''"),
    (".x", "acme", ["chat"], {}, "name '.x'"), ("web", "", ["chat"], {}, "tenant ''"),
    ("web", "a/b", ["chat"], {}, "tenant 'a/b'"), ("web", "a" * 65, ["chat"], {}, "tenant"),
    ("web", "acme", ["root"], {}, "scope 'root'"), ("web", "acme", [], {}, "may do nothing"),
    ("web", "acme", ["chat"], {"rate": 0}, "ask nothing"), ("web", "acme\n", ["chat"], {}, "tenant"),
])
def test_a_key_that_cannot_be_is_refused_with_what_can(db, name, tenant, scopes, more, said):
    with pytest.raises(DataError, match=re.escape(said)):
        keys.add(db, name, tenant, scopes, **more)
    assert keys.listed(db) == []


def test_the_commands_make_list_and_revoke_keys(home):
    def run(*words: str) -> str:
        done = CliRunner().invoke(cli.app, ["keys", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "keys add NAME" in run("list")
    made = json.loads(run("add", "web", "--tenant", "acme", "--scope", "chat, admin", "--json"))
    assert made["key"].startswith("rtk_") and made["scopes"] == ["chat", "admin"] and made["tenant"] == "acme"
    assert "cannot be shown again" in run("add", "desk", "--scope", "review")
    listed = run("list")
    assert "web" in listed and "chat,admin" in listed and made["key"] not in listed
    run("revoke", "web")
    (web, desk) = json.loads(run("list", "--json"))
    assert web["revoked"] and not desk["revoked"] and "key" not in desk and desk["tenant"] == "main"


def test_a_tenants_rows_are_found_letter_by_letter(db):
    from agent.types import Turn

    for number, id in enumerate(("acme/1", "ACME/1", "acme0/1", "acme/2", "acm/1", "acme", "a_me/1", "acme/é")):
        db.log(Turn(id=f"t{number}", session=id, domain="finance", bundle="b", question="", redacted="q"), {}, handoff="asked")
    assert {row["id"] for row in db.sessions(prefix="acme/")} == {"acme/1", "acme/2", "acme/é"}
    assert {row["session"] for row in db.handoffs(prefix="a_me/")} == {"a_me/1"}
    assert {row["id"] for row in db.sessions(prefix="ACME/")} == {"ACME/1"} and len(db.sessions()) == 8
    assert len(db.handoffs(limit=3)) == 3 and db.handoff("t0")["session"] == "acme/1" and db.handoff("x") is None
