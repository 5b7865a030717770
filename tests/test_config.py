"""Where settings come from, and what is said when they are wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lastgood import config
from lastgood.errors import UsageError

NOTHING = "Nothing was looked at or changed."


def written(folder: Path, text: str) -> Path:
    file = folder / "lastgood.toml"
    file.write_text(text)
    return file


def refused(given: dict[str, config.Value], environment: dict[str, str], folder: Path) -> tuple[str, str, str]:
    with pytest.raises(UsageError) as caught:
        config.resolve(given, environment, folder)
    return caught.value.message, caught.value.hint, caught.value.state


def test_the_registry_and_the_settings_have_the_same_names() -> None:
    fields = {field.name for field in dataclasses.fields(config.Settings)} - {"file", "origins"}
    assert fields == {each.name for each in config.OPTIONS} - {"config"}
    with pytest.raises(LookupError, match="no option is called 'colour'"):
        config.option("colour")


def test_without_anything_libpq_decides(tmp_path: Path) -> None:
    settings = config.resolve({}, {}, tmp_path)
    assert (settings.db, settings.store, settings.fence, settings.format) == ("", Path("backups"), "now", "plain")
    assert settings.origins["db"] == "libpq's own settings"
    assert settings.state.name == "lastgood"
    assert settings.file is None


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, 'db = "postgresql://file/x"\nstore = "points"\nfence = "at-swap"\n')
    environment = {"DATABASE_URL": "postgresql://url/x"}
    assert config.resolve({}, {}, tmp_path).db == "postgresql://file/x"
    assert config.resolve({}, {}, tmp_path).origins["db"] == str(file)
    assert config.resolve({}, environment, tmp_path).db == "postgresql://url/x"
    environment["LASTGOOD_DB"] = "postgresql://own/x"
    assert config.resolve({}, environment, tmp_path).db == "postgresql://own/x"
    settings = config.resolve({"db": "postgresql://given/x"}, environment, tmp_path)
    assert (settings.db, settings.origins["db"]) == ("postgresql://given/x", "--db")
    assert settings.fence == "at-swap"


def test_folders_in_the_file_start_where_the_file_lies(tmp_path: Path) -> None:
    written(tmp_path, 'store = "points"\n')
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    settings = config.resolve({}, {}, deep)
    assert settings.store == tmp_path / "points"
    assert settings.file == tmp_path / "lastgood.toml"


def test_a_file_can_be_named(tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text('db = "host=named"\n')
    assert config.resolve({"config": named}, {}, tmp_path).db == "host=named"
    assert config.resolve({}, {"LASTGOOD_CONFIG": str(named)}, tmp_path).db == "host=named"
    assert refused({"config": tmp_path / "none.toml"}, {}, tmp_path) == (
        f'cannot read "{tmp_path}/none.toml": no such file',
        "`lastgood init` writes a configuration file.",
        NOTHING,
    )


def test_an_unknown_key_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    file = written(tmp_path, 'stor = "x"\n')
    assert refused({}, {}, tmp_path) == (f'cannot read "{file}": unknown key "stor"', 'Did you mean "store"?', NOTHING)
    written(tmp_path, 'zzz = "x"\n')
    assert (
        refused({}, {}, tmp_path)[1]
        == "The known keys are: db, store, state, format, fence, strict, jobs, max_wal_lag, throttle."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db = ", 'cannot read "{file}": Invalid value (at end of document)'),
        ("db = 5", 'cannot use "db" in "{file}": it must be a text'),
        ('fence = "later"', 'cannot use "fence" in "{file}": it must be "now" or "at-swap"'),
        ("store = true", 'cannot use "store" in "{file}": it must be a text'),
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
def test_what_is_wrong_in_the_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    assert refused({}, {}, tmp_path)[0] == message.format(file=file)


def test_how_hard_a_load_may_press(tmp_path: Path) -> None:
    settings = config.resolve({}, {}, tmp_path)
    assert (settings.jobs, settings.max_wal_lag, settings.throttle) == (None, 1 << 30, None)
    written(tmp_path, 'jobs = 3\nmax_wal_lag = 268435456\nthrottle = "50MB/s"\n')
    settings = config.resolve({}, {"LASTGOOD_MAX_WAL_LAG": "2.5 GB"}, tmp_path)
    assert (settings.jobs, settings.max_wal_lag, settings.throttle) == (3, 5 << 29, 50 << 20)
    assert config.resolve({"jobs": "16"}, {}, tmp_path).jobs == 16
    assert refused({"jobs": "many"}, {}, tmp_path) == (
        "cannot use --jobs: it must be a whole number, 1 or more",
        "`lastgood --help` shows the options.",
        NOTHING,
    )


def test_a_password_in_the_file_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, 'db = "postgresql://app:geheim@db.example.org/crm"\n')
    message, hint, _ = refused({}, {}, tmp_path)
    assert message == f'cannot use "{file}": its "db" contains a password'
    assert hint == "Take the password out of the file and put it into ~/.pgpass or the variable PGPASSWORD."


@pytest.mark.parametrize("password", ["p@ss", "p/ss", "50%", "a?b", "x@y/z:%"])
def test_a_password_that_needs_encoding_is_explained_and_not_shown(tmp_path: Path, password: str) -> None:
    message, hint, state = refused({}, {"DATABASE_URL": f"postgresql://app:{password}@db/crm"}, tmp_path)
    assert message == (
        "cannot read the database URL from DATABASE_URL: its password has characters with a meaning in URLs"
    )
    assert hint == (
        "Write @ as %40, : as %3A, / as %2F, ? as %3F and % as %25, or take the password out of the URL and put it "
        "into ~/.pgpass or the variable PGPASSWORD."
    )
    assert state == NOTHING


def test_what_libpq_does_not_understand_is_refused_without_its_message(tmp_path: Path) -> None:
    message, _, _ = refused({"db": "host=x password=ge heim"}, {}, tmp_path)
    assert message == "cannot read the database from --db: libpq does not understand it"
    message, hint, _ = refused({"db": "nonsense"}, {}, tmp_path)
    assert message == 'cannot read the database from --db: missing "=" after "nonsense" in connection info string'
    assert hint == 'Give it as "postgresql://user@host:5432/name" or "host=… dbname=…".'


def test_settings_do_not_show_the_database_url() -> None:
    assert "geheim" not in repr(config.resolve({"db": "postgresql://u:geheim@h/d"}, {}))
