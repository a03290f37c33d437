"""The database under the store: what was logged stays, a damaged file is never touched, a backup is whole."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from agent import database, migrations, schema, store
from agent.errors import StoreError
from agent.paths import MIGRATIONS
from agent.store import Store, wal_bug
from agent.types import Route, Turn

ROOT = Path(__file__).parent.parent
ROUTE = Route("loan_payment", 0.91, (("loan_payment", 0.91), ("rates", 0.06)), 0.04)


def turn(id="t1", session="s1", **changes):
    made = Turn(id, session, "finance", "finance@0001", "I am Ann", "I am [NAME]", reply="Hello")
    return replace(made, **({"state": "answered"} | changes))


def url(path):
    return f"sqlite:///{path / 'retune.db'}"


def fill(url, count=3):
    """Log so many turns of session s1."""
    with closing(Store(url)) as made:
        made.open()
        for number in range(1, count + 1):
            made.log(turn(f"t{number}", reply="word " * 50), {"at": number})


def filled(path, count=3):
    """A file that was closed cleanly, with so many turns of session s1."""
    fill(url(path), count)
    return path / "retune.db"


def child(code, *args, wait=True):
    """Run Python in a process of its own; `wait`: until its end, which must be a good one."""
    begin = "import sys\nfrom agent.store import Store\nfrom agent.types import Turn\n"
    run = subprocess.Popen(
        [sys.executable, "-c", begin + code, *map(str, args)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    if not wait:
        return run
    said = run.communicate(timeout=120)[0]
    assert run.returncode == 0
    return said


def codes(running):
    """How the processes ended, once all have."""
    for run in running:
        run.communicate(timeout=120)
    return [run.returncode for run in running]


LOGGER = """
store = Store(sys.argv[1])
store.open()
for number in range(int(sys.argv[3])):
    id = f"{sys.argv[2]}{number}"
    store.log(Turn(id, "s1", "finance", "b", "q", id, state="answered", reply="r"), {"last": id})
    print(id, flush=True)
"""


# Opening


def test_open_makes_the_folders_the_file_and_the_newest_schema(tmp_path):
    with closing(Store(url(tmp_path / "a" / "b c ü"))) as made:
        made.open()
        assert made.check() == []
    assert (tmp_path / "a" / "b c ü" / "retune.db").exists()


def test_every_connection_is_durable_patient_and_without_mmap(sqlite_db):
    for at in (sqlite_db.reading, sqlite_db.writing):
        with at() as connection:

            def ask(name, connection=connection):
                return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

            assert ask("journal_mode") == "wal" and ask("synchronous") == 2
            assert ask("busy_timeout") >= 10_000 and not ask("mmap_size")
            assert ask("foreign_keys") == 1


def test_opening_again_keeps_every_row(new_url):
    fill(new_url)
    with closing(Store(new_url)) as again:
        again.open()
        assert again.session("s1", "finance")["turns"] == 3
        assert again.turn("t2")["seq"] == 2


def test_a_clean_close_leaves_one_file_and_can_be_repeated(tmp_path):
    made = Store(url(tmp_path))
    made.open()
    made.log(turn(), {})
    made.close()
    made.close()
    assert {file.name for file in tmp_path.iterdir()} <= {"retune.db", "retune.db.lock"}


def test_a_process_that_ends_without_close_still_closes_cleanly(tmp_path):
    child(LOGGER, url(tmp_path), "t", 3)
    assert not (tmp_path / "retune.db-wal").exists()


def test_the_conversations_can_be_read_by_their_owner_only(tmp_path):
    assert filled(tmp_path).stat().st_mode & 0o077 == 0


def test_the_tables_are_what_the_migrations_make(db):
    tables = [each for each in vars(schema).values() if isinstance(each, sa.Table) and (db.path or each is not schema.places)]
    for table in tables:
        made = {column["name"] for column in sa.inspect(db.engine).get_columns(table.name)}
        assert made == set(table.columns.keys())
    search = {"words", "words_config", "words_data", "words_docsize", "words_idx"}  # the full-text index, as SQLite keeps it
    search = search if db.path else set()
    assert {table.name for table in tables} | search | {"retune_version"} == set(sa.inspect(db.engine).get_table_names())


def test_the_newest_migration_is_the_last_by_name():
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.known()[-1]]


def test_many_processes_can_open_a_database_that_is_not_there_yet(new_url):
    running = [child(LOGGER, new_url, f"p{n}-", 2, wait=False) for n in range(4)]
    assert codes(running) == [0] * 4
    with closing(Store(new_url)) as made:
        made.open()
        assert made.session("s1", "finance")["turns"] == 8


def test_what_a_killed_first_start_left_is_no_obstacle(tmp_path):
    (tmp_path / "retune.db.new").write_bytes(b"half")
    (tmp_path / "retune.db.new-journal").write_bytes(b"half")
    filled(tmp_path)


def test_a_newer_schema_is_refused_and_left(new_url):
    fill(new_url)
    with closing(Store(new_url)) as made:
        made.open()
        with made.writing() as at:
            at.exec_driver_sql("UPDATE retune_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"made by a newer Retune; update Retune"):
        Store(new_url).open()
    assert "newer" in Store(new_url).check()[0]


def test_another_programs_database_is_refused_and_left(tmp_path):
    file = tmp_path / "retune.db"
    with closing(sqlite3.connect(file)) as at, at:
        at.execute("CREATE TABLE sessions (x)")
    before = file.read_bytes()
    with pytest.raises(StoreError, match="not a database of Retune's"):
        Store(url(tmp_path)).open()
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    ["retune.db", "", "sqlite://", "sqlite:///:memory:", "mysql+pymysql://u:p@h/d", "no://x"],
)
def test_a_url_that_cannot_be_a_store_is_a_sentence(wrong):
    with pytest.raises(StoreError, match="sqlite:///"):
        Store(wrong)


# Damage


def refused(path):
    """Open must fail with the sentence for damage, and leave every byte."""
    files = [file for file in (path / "retune.db", path / "retune.db-wal") if file.exists()]
    before = {file: file.read_bytes() for file in files}
    with pytest.raises(StoreError, match=r"retune\.db is damaged and was left as it is; move it"):
        Store(url(path)).open()
    assert all(file.read_bytes() == held for file, held in before.items())
    assert Store(url(path)).check()
    assert all(file.read_bytes() == held for file, held in before.items())


@pytest.mark.parametrize("size", [0, 1, 10, 99, 100, 512, 4095, 4096, 10_000, -4096, -1])
def test_a_truncated_file_is_refused_and_left(tmp_path, size):
    file = filled(tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    refused(tmp_path)


@pytest.mark.parametrize("size", [7, 100, 4096, 50_000])
def test_random_garbage_is_refused_and_left(tmp_path, size):
    (tmp_path / "retune.db").write_bytes(os.urandom(size))
    refused(tmp_path)


def test_a_flipped_bit_anywhere_in_the_header_loses_no_turn(tmp_path):
    file = filled(tmp_path)
    whole, read = file.read_bytes(), 0
    for place in range(100):
        broken = bytearray(whole)
        broken[place] ^= 0b101
        file.write_bytes(broken)
        made = Store(url(tmp_path))
        try:
            made.open()
        except StoreError as error:
            assert str(file) in str(error)
            assert file.read_bytes() == broken
        else:
            assert [row["id"] for row in made.sessions()] == ["s1"]
            assert len(made.history("s1", 9)) == 3
            read += 1
        made.close()
    assert 20 < read < 80


@pytest.mark.parametrize("place, count", [(0, 16), (100, 8), (0, 4096)])
def test_damage_with_a_journal_beside_it_leaves_both(tmp_path, place, count):
    run = child(LOGGER + "import time; time.sleep(60)", url(tmp_path), "t", 1, wait=False)
    run.stdout.readline()
    run.kill()
    codes([run])
    file = tmp_path / "retune.db"
    broken = bytearray(file.read_bytes())
    broken[place : place + count] = b"\xee" * count
    file.write_bytes(broken)
    assert (tmp_path / "retune.db-wal").stat().st_size > 0
    refused(tmp_path)


def test_a_journal_without_its_database_is_not_thrown_away(tmp_path):
    journal = tmp_path / "retune.db-wal"
    journal.write_bytes(b"turns")
    with pytest.raises(StoreError, match="put the database back or move the journal away"):
        Store(url(tmp_path)).open()
    assert journal.read_bytes() == b"turns" and not (tmp_path / "retune.db").exists()


def test_check_finds_a_damaged_page_that_the_cheap_look_does_not(tmp_path):
    file = filled(tmp_path, count=60)
    broken = bytearray(file.read_bytes())
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as at:
        root = at.execute("SELECT rootpage FROM sqlite_master WHERE name='turns'").fetchone()[0]
    broken[(root - 1) * 4096 : (root - 1) * 4096 + 64] = b"\xff" * 64
    file.write_bytes(broken)
    assert "damaged" in Store(url(tmp_path)).check()[0]
    with closing(Store(url(tmp_path))) as made:
        made.open()
        with pytest.raises(StoreError, match="is damaged and was left as it is"):
            made.turn("t1")


def test_check_finds_rows_that_lost_what_they_belong_to(tmp_path):
    file = filled(tmp_path)
    with closing(sqlite3.connect(file)) as at, at:
        at.execute("DELETE FROM sessions")
    found = Store(url(tmp_path)).check()
    assert len(found) == 3 and "turns lost its sessions" in found[0]


def test_check_of_a_missing_file_says_so_and_makes_nothing(tmp_path):
    assert "does not exist" in Store(url(tmp_path / "no")).check()[0]
    assert list(tmp_path.iterdir()) == []


# A disk that does not take it


def test_a_folder_that_cannot_be_written_is_a_sentence():
    folder = Path(tempfile.mkdtemp())  # tmp_path is hidden from the other user
    try:
        filled(folder)
        for each in (folder, *folder.iterdir()):
            each.chmod(0o555 if each.is_dir() else 0o444)
        code = """
import os
store = Store(sys.argv[1])
if os.getuid() == 0:  # whom no permission stops
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    store.open()
except Exception as error:
    print(repr(error))
"""
        for place in (folder, folder / "new"):
            said = child(code, url(place))
            assert said.startswith("StoreError") and "permission" in said and str(place) in said
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_is_a_file_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        Store(url(tmp_path / "file")).open()


def test_a_full_disk_is_a_sentence_and_the_turn_can_be_logged_later(sqlite_db):
    with sqlite_db.reading() as at:  # one thread meets the same connection each time
        pages = at.exec_driver_sql("PRAGMA page_count").scalar()
        at.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError, match="disk is full; free some space"):
        sqlite_db.log(turn(reply="word " * 10_000), {})
    assert sqlite_db.turn("t1") is None and sqlite_db.sessions() == []
    with sqlite_db.reading() as at:
        at.exec_driver_sql("PRAGMA max_page_count=100000")
    sqlite_db.log(turn(reply="word " * 10_000), {})
    assert sqlite_db.session("s1", "finance")["turns"] == 1


def test_a_disk_that_stops_writing_is_a_sentence_and_keeps_the_turns_before(tmp_path):
    code = """
import resource, signal
store = Store(sys.argv[1])
store.open()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for n in range(1000):
        store.log(Turn(f"t{n}", "s1", "finance", "b", "q", "q", reply="word " * 500), {})
except Exception as error:
    print(n, type(error).__name__, error)
"""
    count, kind, said = child(code, url(tmp_path)).split(" ", 2)
    assert kind == "StoreError" and "disk" in said
    with closing(Store(url(tmp_path))) as made:
        made.open()
        assert made.check() == [] and made.session("s1", "finance")["turns"] == int(count) > 0


def test_no_sentence_tells_what_people_wrote(db):
    with db.writing() as at:
        at.exec_driver_sql("ALTER TABLE turns RENAME TO gone")
    with pytest.raises(StoreError) as caught:
        db.log(turn(redacted="my secret"), {})
    assert "secret" not in str(caught.value) and "secret" not in str(caught.value.__cause__)


# Durable, and in order


def test_a_process_killed_right_after_log_returned_loses_nothing(new_url):
    run = child(LOGGER, new_url, "t", 100_000, wait=False)
    said = [run.stdout.readline().strip() for _ in range(40)]
    os.kill(run.pid, signal.SIGKILL)
    said += run.communicate()[0].split()
    with closing(Store(new_url)) as made:
        made.open()
        assert all(made.turn(id) for id in said if id) and len(said) >= 40
        assert made.check() == []
        last = made.last_turn("s1")
        assert made.session("s1", "finance")["state"] == {"last": last["id"]}
        assert made.session("s1", "finance")["turns"] == last["seq"]


def test_two_processes_that_log_to_one_session_never_share_a_place(new_url):
    running = [child(LOGGER, new_url, name, 50, wait=False) for name in "ab"]
    assert codes(running) == [0, 0]
    with closing(Store(new_url)) as made:
        made.open()
        with made.reading() as at:
            places = at.execute(sa.select(store.turns.c.seq)).scalars().all()
        assert sorted(places) == list(range(1, 101))
        assert made.session("s1", "finance")["turns"] == 100


def test_threads_may_log_and_read_at_once(db):
    def work(number):
        db.log(turn(f"t{number}"), {"n": number})
        return len(db.history("s1", 200)) > 0 and db.turn(f"t{number}") is not None

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(120)))
    assert db.last_turn("s1")["seq"] == 120


def test_a_second_store_in_one_process_does_not_disturb_the_first(tmp_path):
    with closing(Store(url(tmp_path))) as one:
        one.open()
        with one.writing() as at:
            at.execute(sa.update(store.sessions).values(turns=0))
        with closing(Store(url(tmp_path))) as two:
            two.open()
            two.log(turn(), {})
        assert one.turn("t1") and one.check() == []
        one.log(turn("t2"), {})
    assert Store(url(tmp_path)).check() == []


@pytest.mark.parametrize(
    "version, bug",
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((4, 0, 0), False)],
)
def test_the_wal_bug_is_known_by_version(monkeypatch, version, bug):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    assert wal_bug() is bug


@pytest.mark.parametrize("version", [(3, 51, 2), (3, 51, 3)])
def test_a_commit_waits_for_the_lock_only_where_the_bug_is(monkeypatch, tmp_path, version):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    with closing(Store(url(tmp_path))) as made, ThreadPoolExecutor(1) as pool:
        made.open()
        with database.hold(tmp_path / "retune.db.lock"):
            logging = pool.submit(made.log, turn(), {})
            if wal_bug():
                with pytest.raises(TimeoutError):
                    logging.result(timeout=0.3)
            else:
                logging.result(timeout=20)
        logging.result(timeout=20)
        assert made.turn("t1")


# Backup


def test_a_backup_is_a_whole_database_made_while_in_use(tmp_path, sqlite_db):
    sqlite_db.log(turn(), {})
    copy = tmp_path / "copies" / "monday.db"
    sqlite_db.backup(copy)
    sqlite_db.log(turn("t2"), {})
    sqlite_db.backup(copy)
    assert [file.name for file in copy.parent.iterdir()] == ["monday.db"]
    assert copy.stat().st_mode & 0o077 == 0
    with closing(Store(f"sqlite:///{copy}")) as again:
        again.open()
        assert again.check() == [] and again.session("s1", "finance")["turns"] == 2


def test_a_backup_never_overwrites_a_living_database(tmp_path, sqlite_db):
    with closing(Store(url(tmp_path / "other"))) as other:
        other.open()
        other.log(turn(), {})
        for place in (tmp_path / "retune.db", tmp_path / "other" / "retune.db"):
            with pytest.raises(StoreError, match="is a database in use"):
                sqlite_db.backup(place)
        assert other.turn("t1")


def test_a_backup_to_an_impossible_place_is_a_sentence(tmp_path, sqlite_db):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="backup cannot be written"):
        sqlite_db.backup(tmp_path / "file" / "copy.db")
