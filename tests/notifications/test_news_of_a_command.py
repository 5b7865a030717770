"""The notifications of a command, what they leave out, and that their failures do not affect it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lastgood.cli.news import News
from lastgood.config.tables import Notifications, Recipient
from lastgood.context import Context
from lastgood.errors import BadPoint, Failed, UsageError
from lastgood.events import Caution, Event, StageStarted, silent
from lastgood.journal import Journal
from lastgood.notifications import Address, Delivery, Message
from lastgood.postgres.server import Target
from lastgood.screen.news import Story
from lastgood.text.redact import Scrubber

TARGET = Target({"host": "db.example.org", "dbname": "crm"})
STORY = Story(frozenset({"start"}), "started", 'It begins with password "hunter22".')


class Sent:
    """Replaces the sender program."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.will_be: str | None = None
        self.last: Message | None = None
        self.deliveries: list[Delivery] = []

    def __call__(self, addresses: Sequence[Address], limit: float) -> Sent:
        return self

    def send(self, message: Message) -> None:
        self.titles.append(message.title)
        self.last = message
        self.deliveries.append(Delivery("team", message.title, 0.1))

    def set_will(self, message: Message | None) -> None:
        self.will_be = message.title if message is not None else None

    def finish(self, waiting: Callable[[], None]) -> list[Delivery]:
        return self.deliveries


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    found = Sent()
    monkeypatch.setattr("lastgood.cli.news.Messenger", found)
    monkeypatch.setenv("TEAM_URL", "json://127.0.0.1/")
    return found


def news(*words: str) -> News:
    scrub = Scrubber()
    scrub.learn(["hunter22"])
    targets = (Recipient(name="team", url_variable="TEAM_URL"), Recipient(name="gone", url_variable="GONE_URL"))
    return News(Notifications(targets=targets), scrub, words or ("rollback",))


def test_early_errors_are_sent_only_for_unattended_commands(sent: Sent) -> None:
    found = news()
    for unattended, error, titles in (
        (False, BadPoint("cannot find it"), []),
        (True, UsageError("cannot read the command"), []),
        (True, BadPoint("cannot find it"), ["crm on db.example.org: rollback failed, the restore point is unusable"]),
    ):
        sent.titles.clear()
        with pytest.raises(type(error)), found.notifying("rollback", TARGET, unattended=unattended):
            raise error
        assert sent.titles == titles
    sent.titles.clear()
    with pytest.raises(Failed), found.notifying("rollback", TARGET) as notifier:
        emit = notifier.on_work(silent, "run-1", STORY)
        assert sent.titles == []
        emit(StageStarted("build", "build"))
        emit(StageStarted("prove", "prove"))
        assert sent.titles == ["crm on db.example.org: started"]
        assert sent.will_be == "crm on db.example.org: rollback terminated, lastgood was killed"
        broken = Failed("cannot go on")
        notifier.failed(broken)
        raise broken
    assert sent.titles[1:] == ["crm on db.example.org: rollback failed, nothing switched"], "once"
    assert sent.will_be is None
    assert found.run == "run-1"


def test_a_failing_notification_does_not_affect_the_command(sent: Sent, tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, "run-1")
    found = news()

    def defect() -> Story:
        raise ZeroDivisionError

    with found.notifying("rollback", TARGET) as notifier:
        notifier.began("run-1", defect)
        notifier.ended(STORY)
    emitted: list[Event] = []
    found.over(Context(emitted.append, state=tmp_path))
    missing = (
        'variable "GONE_URL" is not set. Set GONE_URL to the address; https://appriseit.com/services/ shows the forms'
    )
    assert emitted == [
        Caution('notification "what happened" to "every target" failed: a defect in lastgood (ZeroDivisionError)'),
        Caution(f'notification "crm on db.example.org: started" to "gone" failed: {missing}'),
    ]
    entries = [(each["target"], each["title"], bool(each["problem"])) for each in journal.replay()]
    assert entries == [
        ("team", "crm on db.example.org: started", False),
        ("every target", "what happened", True),
        ("gone", "crm on db.example.org: started", True),
    ]
    assert sent.last is not None
    assert "hunter22" not in sent.last.text + sent.last.markdown + sent.last.html


def test_the_command_is_sent_without_secrets_and_a_migration_without_its_arguments(sent: Sent) -> None:
    for words, shown in (
        (("rollback", "--db", "postgresql://ann:hunter22@db/crm"), "rollback --db 'postgresql://ann:***@db/crm'"),
        (
            ("deploy", "--label", "a b", "--", "psql", "-c", "ALTER ROLE x PASSWORD 'y'"),
            "deploy --label 'a b' -- psql …",
        ),
        (("deploy", "--", "alembic"), "deploy -- alembic"),
    ):
        with news(*words).notifying("deploy", TARGET) as notifier:
            notifier.began("run-1", STORY)
        assert sent.last is not None
        assert sent.last.text.endswith(f"Server: db.example.org\nCommand: lastgood {shown}\n")


def test_without_targets_nothing_is_made(sent: Sent) -> None:
    def never() -> Story:
        raise AssertionError("made")

    found = News(Notifications(), Scrubber(), ("rollback",))
    with found.notifying("rollback", TARGET) as notifier:
        notifier.began("run-1", never)
        notifier.ended(never)
    assert found.over(Context(state=Path())) == [] and sent.titles == []
