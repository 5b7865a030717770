"""The sources of settings, and the errors for invalid ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lastgood import config
from lastgood.config import file as configuration
from lastgood.config.file import schema
from lastgood.config.settings import Settings, resolve
from lastgood.config.tables import Tables
from lastgood.errors import UsageError

NOTHING = "Nothing was read or changed."


def written(folder: Path, text: str) -> Path:
    file = folder / "lastgood.toml"
    file.write_text(text)
    return file


def refused(given: dict[str, config.Value], environment: dict[str, str], folder: Path) -> tuple[str, str, str]:
    with pytest.raises(UsageError) as caught:
        resolve(given, environment, folder)
    return caught.value.message, caught.value.hint, caught.value.state


def test_the_registry_and_the_settings_have_the_same_names() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"file", "origins", "tables"}
    assert fields == {each.name for each in config.OPTIONS} - {"config"}
    with pytest.raises(LookupError, match="no option is called 'colour'"):
        config.option("colour")


def test_without_anything_libpq_decides(tmp_path: Path) -> None:
    settings = resolve({}, {}, tmp_path)
    assert (settings.db, settings.store, settings.fence, settings.format) == ("", Path("backups"), "now", "plain")
    assert settings.origins["db"] == "libpq's own settings"
    assert settings.state.name == "lastgood"
    assert settings.file is None


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'db = "postgresql://file/x"\nstore = "points"\nfence = "at-swap"\n')
    environment = {"DATABASE_URL": "postgresql://url/x"}
    assert resolve({}, {}, tmp_path).db == "postgresql://file/x"
    assert resolve({}, {}, tmp_path).origins["db"] == str(file)
    assert resolve({}, environment, tmp_path).db == "postgresql://url/x"
    environment["LASTGOOD_DB"] = "postgresql://own/x"
    assert resolve({}, environment, tmp_path).db == "postgresql://own/x"
    settings = resolve({"db": "postgresql://given/x"}, environment, tmp_path)
    assert (settings.db, settings.origins["db"]) == ("postgresql://given/x", "--db")
    assert settings.fence == "at-swap"


def test_folders_in_the_file_start_where_the_file_lies(tmp_path: Path) -> None:
    written(tmp_path, 'store = "points"\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    settings = resolve({}, {}, deep)
    assert settings.store == tmp_path / "points"
    assert settings.file == tmp_path / "lastgood.toml"


def test_a_file_can_be_named(tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text('db = "host=named"\n')
    assert resolve({"config": named}, {}, tmp_path).db == "host=named"
    assert resolve({}, {"LASTGOOD_CONFIG": str(named)}, tmp_path).db == "host=named"
    assert refused({"config": tmp_path / "none.toml"}, {}, tmp_path) == (
        f'cannot read "{tmp_path}/none.toml": no such file',
        "Name an existing file, or write one: lastgood init",
        NOTHING,
    )


def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    (tmp_path / "lastgood.toml").symlink_to("/srv/config/lastgood.toml")
    for folder in (tmp_path, deep):
        assert refused({}, {}, folder) == (
            f'cannot read "{tmp_path}/lastgood.toml": it is a link to "/srv/config/lastgood.toml", which does not '
            "exist",
            "Correct the link, or remove it to continue without a configuration file.",
            NOTHING,
        )


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    file = written(tmp_path, 'stor = "x"\n')
    assert refused({}, {}, tmp_path) == (f'cannot read "{file}": unknown key "stor"', 'Did you mean "store"?', NOTHING)
    written(tmp_path, 'zzz = "x"\n')
    assert (
        refused({}, {}, tmp_path)[1]
        == "The known keys are: db, store, state, key_file, format, fence, reopen_when, on_failure, strict, "
        f"build_as, jobs, max_wal_lag, throttle, {', '.join(configuration.TABLES)}."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db = ", 'cannot read "{file}": Invalid value (at end of document)'),
        ("db = 5", 'cannot use "db" in "{file}": it must be a string'),
        ('fence = "later"', 'cannot use "fence" in "{file}": it must be "now" or "at-swap"'),
        ("store = true", 'cannot use "store" in "{file}": it must be a string'),
        ("jobs = 0", 'cannot use "jobs" in "{file}": it must be a whole number, 1 or more'),
        ("jobs = true", 'cannot use "jobs" in "{file}": it must be a whole number, 1 or more'),
        (
            'max_wal_lag = "much"',
            'cannot use "max_wal_lag" in "{file}": it must be a size like 500MB or 2GB, 16 MB or more',
        ),
        (
            "throttle = 1000",
            'cannot use "throttle" in "{file}": it must be a size like 500MB or 2GB a second, 64 kB or more',
        ),
    ],
)
def test_an_error_in_the_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    assert refused({}, {}, tmp_path)[0] == message.format(file=file)


def test_how_hard_a_load_may_press(tmp_path: Path) -> None:
    settings = resolve({}, {}, tmp_path)
    assert (settings.jobs, settings.max_wal_lag, settings.throttle) == (None, 1 << 30, None)
    written(tmp_path, 'jobs = 3\nmax_wal_lag = 268435456\nthrottle = "50MB/s"\n')
    settings = resolve({}, {"LASTGOOD_MAX_WAL_LAG": "2.5 GB"}, tmp_path)
    assert (settings.jobs, settings.max_wal_lag, settings.throttle) == (3, 5 << 29, 50 << 20)
    assert resolve({"jobs": "16"}, {}, tmp_path).jobs == 16
    assert refused({"jobs": "many"}, {}, tmp_path) == (
        "cannot use --jobs: it must be a whole number, 1 or more",
        "`lastgood COMMAND --help` lists the options and their values.",
        NOTHING,
    )


@pytest.mark.parametrize("key", ["db", "build_as"])
def test_a_password_in_the_file_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    file = written(tmp_path, f'{key} = "postgresql://app:geheim@db.example.org/crm"\n')
    message, hint, _ = refused({}, {}, tmp_path)
    assert message == f'cannot use "{file}": its "{key}" contains a password'
    assert hint == "Remove the password from the file and put it in ~/.pgpass or the variable PGPASSWORD."


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "50%", "a?b", "x@y/z:%"])
def test_a_password_that_needs_encoding_is_explained_and_not_shown(tmp_path: Path, password: str) -> None:
    message, hint, state = refused({}, {"DATABASE_URL": f"postgresql://app:{password}@db/crm"}, tmp_path)
    assert message == ("cannot parse the database URL from DATABASE_URL: the password contains reserved characters")
    assert hint == (
        "Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or remove the password from the URL and put it in "
        "~/.pgpass or the variable PGPASSWORD."
    )
    assert state == NOTHING


def test_what_libpq_does_not_understand_is_refused_without_its_message(tmp_path: Path) -> None:
    message, _, _ = refused({"db": "host=x password=ge heim"}, {}, tmp_path)
    assert message == "cannot parse the connection string from --db: libpq cannot parse it"
    message, hint, _ = refused({"db": "nonsense"}, {}, tmp_path)
    assert message == "cannot parse the connection string from --db: it is neither a URL nor a list of key=value"
    assert hint == (
        'Give it as "postgresql://user@host:5432/name" or "host=… dbname=…". For a database of this machine: '
        "dbname=nonsense"
    )


def test_settings_do_not_show_the_database_url() -> None:
    assert "geheim" not in repr(resolve({"db": "postgresql://u:geheim@h/d"}, {}))


TABLES = """
on_failure = "undo"

[hooks]
stop = ["systemctl", "stop", "crm"]
time_limit = "2min"

[pgbouncer]
admin = "host=127.0.0.1 port=6432"
pause_limit = 5

[health]
url = "https://crm.example.org/health"
json = { status = "ok" }

[watch]
length = "1min"

[check]
max_age = "24h"
free_space = "20GB"

[[validate.rules]]
name = "every opportunity has an owner"
query = "SELECT id FROM opportunities WHERE owner_id IS NULL"

[recover]
folders = ["elsewhere"]
"""


def test_tables_of_the_file(tmp_path: Path) -> None:
    written(tmp_path, TABLES)
    settings = resolve({}, {}, tmp_path)
    tables = settings.tables
    assert settings.on_failure == "undo"
    assert tables.hooks.stop == ("systemctl", "stop", "crm")
    assert (tables.hooks.time_limit, tables.hooks.start) == (120.0, None)
    assert (tables.pgbouncer.admin, tables.pgbouncer.pause_limit) == (("host=127.0.0.1 port=6432",), 5.0)
    assert tables.health is not None
    assert (tables.health.status, tables.health.body) == (200, {"status": "ok"})
    assert tables.watch is not None
    assert (tables.watch.length, tables.watch.every) == (60.0, 5.0)
    assert (tables.check.max_age, tables.check.free_space) == (86400.0, 20 << 30)
    assert (tables.validation.threshold, tables.validation.rules[0].severity) == (85.0, "blocker")
    assert tables.recover.folders == (tmp_path / "elsewhere",)


def test_without_a_file_the_tables_have_their_defaults(tmp_path: Path) -> None:
    tables = resolve({}, {}, tmp_path).tables
    assert tables == Tables()
    assert (tables.health, tables.watch) == (None, None)


REFERENCE = "See the allowed values in docs/reference/configuration.md."


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[hook]", 'cannot read "{file}": unknown key "hook"', 'Did you mean "hooks"?'),
        ("[hooks]\nstopp = ['x']", 'cannot read "{file}": unknown key "hooks.stopp"', 'Did you mean "hooks.stop"?'),
        (
            "[validate]\nrules = [{ name = 'a', query = 'b' }, { name = 'c' }]",
            'cannot use "{file}": "validate.rules[2].query" is missing',
            "See the keys of each table in docs/reference/configuration.md.",
        ),
        (
            "[validate]\nrules = [{ name = 'a', query = 'b', wieght = 2 }]",
            'cannot read "{file}": unknown key "validate.rules[1].wieght"',
            'Did you mean "validate.rules[1].weight"?',
        ),
        (
            "[health]\nurl = 'http://x'\njsn = {}",
            'cannot read "{file}": unknown key "health.jsn"',
            'Did you mean "health.json"?',
        ),
        ("hooks = 5", 'cannot use "hooks" in "{file}": it must be a table', REFERENCE),
        (
            "[hooks]\nstop = 'systemctl stop crm'",
            'cannot use "hooks.stop" in "{file}": it must be a list: ["…", "…"]',
            REFERENCE,
        ),
        (
            "[hooks]\ntime_limit = 'soon'",
            'cannot use "hooks.time_limit" in "{file}": write a duration like 30s, 5min or 24h',
            REFERENCE,
        ),
        (
            "[check]\nfree_space = 'much'",
            'cannot use "check.free_space" in "{file}": write a size like 500MB or 2GB',
            REFERENCE,
        ),
        (
            "[pgbouncer]\nadmin = ['host=a', 'host=a,b port=6432']",
            'cannot use "pgbouncer.admin" in "{file}": it names several hosts: write one entry for each host, in a '
            "list",
            REFERENCE,
        ),
        (
            "[pgbouncer]\nadmin = 'host'",
            'cannot use "pgbouncer.admin" in "{file}": missing "=" after "host" in connection info string',
            REFERENCE,
        ),
        (
            "[pgbouncer]\nadmin = 'host=x password=geheim'",
            'cannot use "pgbouncer.admin" in "{file}": it contains a password: put it in ~/.pgpass or the variable '
            "PGPASSWORD",
            REFERENCE,
        ),
        (
            "[[validate.rules]]\nname = 'a'\nquery = 'b'\nexpect = 1\nat_most = 2",
            'cannot use "validate.rules[1]" in "{file}": give either expect, or at_least and at_most',
            REFERENCE,
        ),
        (
            "[[validate.rules]]\nname = 'a'\nquery = 'b'\nexpect = 1\nof = 'c'",
            'cannot use "validate.rules[1]" in "{file}": "of" cannot be combined with expect, at_least or at_most',
            REFERENCE,
        ),
        (
            "[[validate.rules]]\nname = 'a'\nquery = 'b'\nthreshold = 90",
            'cannot use "validate.rules[1]" in "{file}": "threshold" requires "of"',
            REFERENCE,
        ),
        (
            "[validate]\nrules = [{ name = 'a', query = 'b' }, { name = 'a', query = 'c' }]",
            'cannot use "validate" in "{file}": two rules are called "a"',
            REFERENCE,
        ),
        (
            "[check]\nattested = ['told', 'told']",
            'cannot use "check.attested" in "{file}": it contains "told" twice',
            REFERENCE,
        ),
        (
            "[check]\nattested = ['rehearsal']",
            'cannot use "check.attested" in "{file}": "rehearsal" is an item that lastgood measures: choose another '
            "name",
            REFERENCE,
        ),
        *(
            (
                f'[check]\nattested = ["{name}"]',
                'cannot use "check.attested" in "{file}": each item must be a line of text, without spaces around it',
                REFERENCE,
            )
            for name in ("", " ", "a\\nb")
        ),
        (
            "[health]\nurl = 'https://ann:geheim@app.example.org/health'",
            'cannot use "health.url" in "{file}": it contains a user or a password: send credentials in headers, from '
            "a variable",
            REFERENCE,
        ),
        (
            "[validate]\nthreshold = 101",
            'cannot use "validate.threshold" in "{file}": it must be 100 or less',
            REFERENCE,
        ),
    ],
)
def test_an_error_in_a_table_is_reported(tmp_path: Path, text: str, message: str, hint: str) -> None:
    file = written(tmp_path, text)
    assert refused({}, {}, tmp_path) == (message.format(file=file), hint, NOTHING)


def test_what_windows_writes(tmp_path: Path) -> None:
    file = tmp_path / "lastgood.toml"
    file.write_bytes('store = "d"\n'.encode("utf-8-sig"))
    assert resolve({}, {}, tmp_path).store == tmp_path / "d"
    file.write_bytes('store = "d"\n'.encode("utf-16"))
    assert refused({}, {}, tmp_path) == (
        f'cannot read "{file}": it is not in UTF-8',
        "Save it in UTF-8. (PowerShell's > writes UTF-16.)",
        NOTHING,
    )


def test_all_errors_are_reported_together(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'fence = "later"\nstor = "x"\ndb = "host=x password=geheim"\n'
        "[hooks]\nstop = []\nstatr = ['x']\n[watch]\nevery = 0\n"
        "[[validate.rules]]\nname = 'a'\nseverity = 'grave'\nexpect = [1]\n",
    )
    assert refused({}, {}, tmp_path) == (
        f'cannot use "{file}": it has 9 errors',
        "Fix each of them:\n"
        '"stor": unknown key (Did you mean "store"?)\n'
        '"db": it contains a password (Remove the password from the file and put it in ~/.pgpass or the variable '
        "PGPASSWORD.)\n"
        '"hooks.stop": it must not be empty\n'
        '"hooks.statr": unknown key (Did you mean "hooks.start"?)\n'
        '"watch.every": it must be more than 0\n'
        '"validate.rules[1].query": it is missing (See the keys of each table in docs/reference/configuration.md.)\n'
        '"validate.rules[1].expect": it must be a number, a text, or true or false\n'
        '"validate.rules[1].severity": it must be "blocker" or "warning"\n'
        '"fence": it must be "now" or "at-swap"',
        NOTHING,
    )


def test_the_schema_knows_every_key() -> None:
    found = schema()
    assert set(found["properties"]) == {each.name for each in config.OPTIONS if each.in_file} | set(
        configuration.TABLES
    )
    assert found["properties"]["max_wal_lag"]["anyOf"] == [
        {"type": "integer", "minimum": 16 << 20},
        {"type": "string"},
    ]
    assert "json" in found["$defs"]["Health"]["properties"]
    assert found["$defs"]["OwnRule"]["required"] == ["name", "query"]
    assert all(each["additionalProperties"] is False for each in found["$defs"].values())
