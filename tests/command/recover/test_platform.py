"""Platforms are recognised by host, role or configuration, and their steps name what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lastgood.command.recover import platform
from lastgood.config.tables import Recover

MOMENT = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
PROJECT = "abcdefghijklmnopqrst"


@pytest.mark.parametrize(
    ("keywords", "name", "why", "command"),
    [
        (
            {"host": f"db.{PROJECT}.supabase.co"},
            "supabase",
            f'by the host name "db.{PROJECT}.supabase.co"',
            f"supabase backups list --project-ref {PROJECT}",
        ),
        (
            {"host": "aws-0-eu-central-1.pooler.supabase.com", "user": f"postgres.{PROJECT}"},
            "supabase",
            'by the host name "aws-0-eu-central-1.pooler.supabase.com"',
            f"supabase backups list --project-ref {PROJECT}",
        ),
        (
            {"host": "crm.c9akciq32.eu-west-1.rds.amazonaws.com"},
            "rds",
            'by the host name "crm.c9akciq32.eu-west-1.rds.amazonaws.com"',
            "aws rds restore-db-instance-to-point-in-time --region eu-west-1 --source-db-instance-identifier crm "
            "--target-db-instance-identifier crm-restored --restore-time 2026-01-12T09:30:00Z",
        ),
        (
            {"host": "/cloudsql/acme:europe-west1:crm"},
            "cloudsql",
            'by the host name "/cloudsql/acme:europe-west1:crm"',
            "gcloud sql instances clone crm crm-restored --project=acme --point-in-time='2026-01-12T09:30:00Z'",
        ),
        (
            {"host": "ep-cool-sun-123456-pooler.eu-central-1.aws.neon.tech"},
            "neon",
            'by the host name "ep-cool-sun-123456-pooler.eu-central-1.aws.neon.tech"',
            "neon branches create --name restored --parent 2026-01-12T09:30:00Z",
        ),
    ],
)
def test_by_the_host(keywords: dict[str, str], name: str, why: str, command: str) -> None:
    found = platform.recognise(None, keywords, (), MOMENT)
    assert found is not None
    assert (found.name, found.why) == (name, why)
    assert command in [run for _, run in found.steps]


def test_by_configuration() -> None:
    found = platform.recognise("heroku", {"host": "ec2-1-2-3-4.compute-1.amazonaws.com"}, (), MOMENT)
    assert found is not None
    assert (found.title, found.why) == ("Heroku Postgres", "named in [recover]")
    assert "heroku pg:backups --app APP" in [run for _, run in found.steps]


def test_by_a_role_that_only_it_has() -> None:
    found = platform.recognise(None, {"host": "10.1.2.3"}, ("rds_superuser",), None)
    assert found is not None
    assert (found.name, found.why) == ("rds", 'by the role "rds_superuser"')
    assert any("--restore-time TIME" in run for _, run in found.steps)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "", "/var/run/postgresql"])
def test_a_local_copy_has_the_roles_and_no_backups(host: str) -> None:
    assert platform.recognise(None, {"host": host}, ("supabase_admin",), MOMENT) is None


def test_every_platform_of_the_configuration_has_a_file() -> None:
    names = {each.name for each in platform.known()}
    annotation = Recover.model_fields["platform"].annotation
    assert names == {"supabase", "rds", "cloudsql", "neon", "heroku"}
    assert all(name in str(annotation) for name in names)


def test_every_step_reads_as_a_sentence() -> None:
    for each in platform.known():
        assert each.steps
        for say, run in each.steps:
            assert say[0].isupper() and say.endswith("."), say
            assert "http" not in say + run
