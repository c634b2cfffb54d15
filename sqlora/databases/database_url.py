"""The URL of a user's database: parsed, connected to, and shown without its secrets."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote_plus

import sqlalchemy
from sqlalchemy import exc

from sqlora.databases.kinds import kind_of
from sqlora.storage.paths import expand
from sqlora.system.errors import SECRET_NAME, UserError, hide_passwords


def parse_url(text: str) -> sqlalchemy.URL:
    """DATABASE as SQLAlchemy's URL with its driver; a path is an SQLite file. Raises UserError, without secrets."""
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
                f"{where} is not a valid URL; write {example}, with %40 for an @ and %2F for a / in a password"
            ) from None
    name = url.get_backend_name()
    if name == "sqlite":
        path = Path(expand(url.database, where) if url.database else "")
        with contextlib.suppress(OSError):  # a name that is too long
            if path.is_file():
                return url.set(database=str(path.resolve()))
        # A name with an @ or options was meant to be a URL, and may hold a password.
        named = url.database or ""
        file = "of that name" if re.search("[@?]", named) else repr(named if len(named) <= 200 else f"{named[:200]}…")
        raise UserError(f"{where}: there is no SQLite file {file}; write {example}")
    # With an unescaped @, half of the password would be taken for the host.
    if text.partition("?")[0].count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise UserError(f"{where} has more than one @; write an @ in the name or the password as %40")
    driver = kind_of(name).driver
    if driver and not url.database:
        raise UserError(f"{where} {shown(url)} names no database; add it: {name}://user@host/name")
    return url.set(drivername=driver) if driver else url


def sqlite_path(text: str) -> str | None:
    """The path of the SQLite file that DATABASE names, whether it exists or not; None for anything else."""
    if "://" not in text:
        return text
    try:
        url = sqlalchemy.make_url(text)
    except (exc.ArgumentError, ValueError):
        return None
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return expand(url.database, "DATABASE (--database)")


def make_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """An engine that keeps no connection open. Raises UserError for an unknown kind of database or a missing driver."""
    kind = kind_of(url.get_backend_name())
    url, arguments = kind.connect(url)
    try:
        return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **arguments)
    except exc.NoSuchModuleError:
        raise UserError(
            f"DATABASE (--database) is of the kind {url.drivername!r}, which SQLAlchemy does not know; if there is a "
            f"package for it, pip install it"
        ) from None
    except ModuleNotFoundError as error:
        package = kind.package or error.name
        raise UserError(f"DATABASE (--database) needs the driver {error.name}: pip install '{package}'") from None
    except (exc.ArgumentError, TypeError) as error:
        raise UserError(f"DATABASE (--database): {first_line(error)}") from None


def shown(url: sqlalchemy.URL) -> str:
    """The URL without its password and options."""
    return url.set(query={}, password=None).render_as_string()


def first_line(error: object) -> str:
    """The first line of a driver's error, without its number and control characters."""
    arguments: tuple = getattr(error, "args", ())
    text = str(arguments[1]) if len(arguments) > 1 and isinstance(arguments[0], int) else str(error)
    text = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return "".join(char if char.isprintable() else " " for char in text).strip()


def hide_secrets(text: str, url: str) -> str:
    """The text without the URL's passwords, as they are and in every spelling of a URL."""
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
            # A secret of a letter or two is part of many words.
            pattern = re.escape(spelled) if len(spelled) > 3 else rf"(?<!\w){re.escape(spelled)}(?!\w)"
            text = re.sub(pattern, "***", text)
    return text
