"""Where a user's database is and how it is reached: the URL, the driver, and what may be told of either."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote_plus

import sqlalchemy
from sqlalchemy import exc

from sqlora.databases import sqlite_file
from sqlora.storage.paths import expand
from sqlora.system.errors import SECRET_NAME, UserError, hide_passwords

DRIVERS = {  # of the databases that queries are run on: what connects to them, and the package that brings it
    "sqlite": ("sqlite", "sqlite3", ""),
    "postgresql": ("postgresql+psycopg", "psycopg", "psycopg[binary]"),
    "mysql": ("mysql+pymysql", "pymysql", "PyMySQL"),
    "mariadb": ("mariadb+pymysql", "pymysql", "PyMySQL"),
}
CONNECT_SECONDS = 10


def parse_url(text: str) -> sqlalchemy.URL:
    """DATABASE as SQLAlchemy has it, its driver chosen; a path alone is an SQLite file. Raises UserError, without a
    secret.
    """
    where = "DATABASE (--database)"
    example = "an SQLite file, or a URL such as postgresql://user@host/name, mysql://user@host/name or sqlite:///file"
    if "://" not in text:
        url = sqlalchemy.URL.create("sqlite", database=text)
    else:
        text = re.sub("^postgres:", "postgresql:", text)
        try:
            url = sqlalchemy.make_url(text)
        except (exc.ArgumentError, ValueError):
            raise UserError(
                f"{where} is no URL that can be read; write {example}, with %40 for an @ and %2F for a / in a password"
            ) from None
    name = url.get_backend_name()
    if name == "sqlite":
        path = Path(expand(url.database or "", where))
        with contextlib.suppress(OSError):  # a name that is too long
            if path.is_file():
                return url.set(database=str(path.resolve()))
        # What has an @ or options was meant to be a URL, and may hold a password.
        named = url.database or ""
        told = "of that name" if re.search("[@?]", named) else repr(named if len(named) <= 200 else f"{named[:200]}…")
        raise UserError(f"{where}: there is no SQLite file {told}; write {example}")
    # Where an @ is unescaped, half of the password would pass for the host.
    if text.partition("?")[0].count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise UserError(f"{where} has more than one @; write those of the name and the password as %40")
    if name in DRIVERS and not url.database:
        raise UserError(f"{where} {shown(url)} names no database; add it: {name}://user@host/name")
    return url.set(drivername=DRIVERS[name][0]) if name in DRIVERS else url


def sqlite_path(text: str) -> str | None:
    """The path of the file that DATABASE names, be it there or not; None for another kind of database, or no readable
    URL.
    """
    if "://" not in text:
        return text
    try:
        url = sqlalchemy.make_url(text)
    except (exc.ArgumentError, ValueError):
        return None
    is_file = url.get_backend_name() == "sqlite" and url.database
    return expand(url.database, "DATABASE (--database)") if is_file else None


def make_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """An engine that keeps no connection. Raises UserError for an unknown kind of database or a missing driver."""
    name = url.get_backend_name()
    arguments: dict = {}
    if name == "sqlite":
        path = Path(url.database)
        arguments["creator"] = lambda: sqlite_file.connect(path)
        url = url.set(query={})
    elif name == "postgresql":
        # Prepared from the first time on: the protocol then takes one statement at a time.
        arguments["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "prepare_threshold": 0}
    elif name in DRIVERS:
        arguments["connect_args"] = {"connect_timeout": CONNECT_SECONDS, "local_infile": False, "client_flag": 0}
    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **arguments)
    except exc.NoSuchModuleError:
        raise UserError(
            f"DATABASE (--database) is of the kind {url.drivername!r}, which SQLAlchemy does not know; if there is a "
            f"package for it, pip install it"
        ) from None
    except ModuleNotFoundError as error:
        package = DRIVERS[name][2] if name in DRIVERS else error.name
        raise UserError(f"DATABASE (--database) needs the driver {error.name}: pip install '{package}'") from None
    except (exc.ArgumentError, TypeError) as error:
        raise UserError(f"DATABASE (--database): {first_line(error)}") from None


def shown(url: sqlalchemy.URL) -> str:
    """The URL as it may be seen: without password and options."""
    return url.set(query={}, password=None).render_as_string()


def first_line(error: object) -> str:
    """What a driver's error says, without its number, its position in the text, and control characters."""
    arguments = getattr(error, "args", ())
    text = str(arguments[1]) if len(arguments) > 1 and isinstance(arguments[0], int) else str(error)
    text = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return "".join(char if char.isprintable() else " " for char in text).strip()


def hide_secrets(text: str, url: str) -> str:
    """The text without the URL's passwords, as they are and as they are spelled in the URL."""
    try:
        parsed = sqlalchemy.make_url(url)
    except (exc.ArgumentError, ValueError):
        return hide_passwords(text)
    options = [
        value
        for key, values in parsed.query.items()
        if re.search(SECRET_NAME, key, re.IGNORECASE)
        for value in ([values] if isinstance(values, str) else values)
    ]
    for secret in filter(None, [parsed.password, *options]):
        secret = str(secret)
        for spelled in (
            secret,
            unquote_plus(secret),
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            secret.replace("@", "%40"),
        ):
            # One of a letter or two is in many a word.
            pattern = re.escape(spelled) if len(spelled) > 3 else rf"(?<!\w){re.escape(spelled)}(?!\w)"
            text = re.sub(pattern, "***", text)
    return text
