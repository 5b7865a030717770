"""The environment of a migration: its database, in every form that a tool may read.

Nothing of it appears on a command line. Variables of the caller that name a database are replaced, so that the
migration, especially a trial on a clone, cannot reach another database by accident.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode, urlsplit

import psycopg
from psycopg import conninfo, pq

from lastgood.application import hooks
from lastgood.postgres.server import NO_EVENT_TRIGGERS, Target
from lastgood.text import redact
from lastgood.text.address import as_libpq

# Not passed on to the migration.
_OURS = frozenset({"application_name", "client_encoding", "fallback_application_name", "connect_timeout", "options"})
_PLACE = frozenset({"user", "password", "host", "hostaddr", "port", "dbname"})
# With this check, the server cancels a statement within seconds after its client is gone.
_NOTICE = "-c client_connection_check_interval=2s"
MARK = "LASTGOOD_DEPLOYMENT"


def tag(run: str) -> str:
    """Return the application_name of the migration's sessions."""
    return f"lastgood migration {run}"


def resolved(target: Target, dbname: str) -> dict[str, str]:
    """Return the connection keywords for ``dbname`` as libpq resolved them (environment, service, password file),
    including the password. ``options`` makes the server check for lost clients, where it supports that.

    Raises psycopg.OperationalError.
    """
    with target.connect_unchanged() as connection:
        info = connection.info
        found = {**target.keywords, **info.get_parameters()}
        # Ours is not for the migration.
        options = str(found.pop("options", "")).removesuffix(NO_EVENT_TRIGGERS).strip()
        found |= {"options": options} if options else {}
        if info.password:
            found["password"] = info.password
        found.setdefault("user", info.user)
        found.setdefault("host", info.host)
        found.setdefault("port", str(info.port))
    given = found.get("options") or os.environ.get("PGOPTIONS", "")
    found = {key: str(value) for key, value in found.items() if key not in _OURS and key != "service"}
    if found.get("sslcertmode") == "allow":
        del found["sslcertmode"]  # the default, filled in by libpq; an older libpq of the migration rejects it
    found["dbname"] = dbname
    options = f"{given} {_NOTICE}".strip()
    try:
        Target({**found, "options": options}).connect_unchanged().close()
    except psycopg.OperationalError:
        options = given  # a pooler that rejects options, or a platform without support
    return {**found, "options": options} if options else found


def url(keywords: Mapping[str, str]) -> str:
    """Return the database as a URL, with its password."""
    user = quote(keywords.get("user", ""), safe="")
    if keywords.get("password"):
        user += f":{quote(keywords['password'], safe='')}"
    hosts, ports = keywords.get("host", "").split(","), keywords.get("port", "").split(",")
    rest = {k: v for k, v in keywords.items() if k not in _PLACE and k not in _OURS}
    if keywords.get("hostaddr"):
        rest["hostaddr"] = keywords["hostaddr"]
    if any(host.startswith(("/", "@")) for host in hosts):
        place = ""
        rest = {"host": keywords["host"], **({"port": keywords["port"]} if keywords.get("port") else {}), **rest}
    else:
        if len(ports) == 1:
            ports *= len(hosts)
        pairs = zip(hosts, ports, strict=False)
        place = ",".join(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" if p else h for h, p in pairs)
    query = f"?{urlencode(rest, quote_via=quote, safe='/')}" if rest else ""
    return f"postgresql://{user}{'@' if user else ''}{place}/{quote(keywords['dbname'], safe='')}{query}"


def environment(
    keywords: Mapping[str, str],
    *,
    run: str,
    variables: Iterable[str],
    facts: Mapping[str, str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of the migration: ``given`` (the caller's), with all variables that name a database
    replaced.

    libpq's variables, ``LASTGOOD_DB`` and each of ``variables`` name the database; ``LASTGOOD_…`` has the ``facts``.
    """
    found = {k: v for k, v in given.items() if k not in ("PGSERVICE", "PGSERVICEFILE", "PGHOSTADDR", "PGOPTIONS")}
    for keyword, variable in libpq_variables().items():
        if keywords.get(keyword):
            found[variable] = keywords[keyword]
    link = url(keywords)
    for name in variables:
        found[name] = like(given.get(name, ""), link)
    found["LASTGOOD_DB"] = link
    found["PGAPPNAME"] = tag(run)
    return {**found, **hooks.environment(**facts)}


def like(existing: str, link: str) -> str:
    """Return ``link`` in the form of the ``existing`` URL: with its scheme, and its parameters that are not libpq
    keywords (``schema``, ``pgbouncer``)."""
    if "://" not in existing or link.endswith("@"):
        return link
    try:
        old, new = urlsplit(existing), urlsplit(link)
        if not old.scheme.startswith("postgres"):
            return link
        known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
        kept = [p for p in old.query.split("&") if p and p.partition("=")[0] not in known]
        query = "&".join([*([new.query] if new.query else []), *kept])
    except ValueError:
        return link
    return f"{old.scheme}://{new.netloc}{new.path}{'?' + query if query else ''}"


def libpq_variables() -> dict[str, str]:
    """Return libpq's variable for each keyword."""
    return {
        each.keyword.decode(): each.envvar.decode()
        for each in pq.Conninfo.get_defaults()
        if each.envvar and each.keyword.decode() not in ("service", "application_name", "client_encoding")
    }


def leads_to(text: str, live: Mapping[str, str]) -> bool:
    """Whether a text is a connection string or URL of the database that ``live`` (keywords) names."""
    if not redact.is_url(text) and "dbname=" not in text:
        return False
    try:
        found = conninfo.conninfo_to_dict(_only_libpq(as_libpq(text)))
    except (psycopg.ProgrammingError, ValueError):
        return live["dbname"] in text
    same_host = found.get("host") in (None, "") or str(found["host"]) == live.get("host")
    same_port = str(found.get("port") or "5432") == (live.get("port") or "5432")
    return found.get("dbname") == live["dbname"] and same_host and same_port


def _only_libpq(text: str) -> str:
    """Return a URL with libpq's scheme and without parameters that libpq does not know."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    known = {each.keyword.decode() for each in pq.Conninfo.get_defaults()}
    query = "&".join(p for p in parts.query.split("&") if p.partition("=")[0] in known)
    return f"postgresql://{parts.netloc}{parts.path}{'?' + query if query else ''}"
