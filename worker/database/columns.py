"""Column types that are the same on SQLite and PostgreSQL, and the shorthand for fields of them."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


def utc_now() -> datetime:
    """Return the time, in UTC and aware of it."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on the way out."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Refuse a moment of unknown zone; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without time zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Give back an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CleanText(TypeDecorator[str]):
    """Text that every database takes: PostgreSQL has no NUL, UTF-8 no lone surrogate."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """Drop what cannot be stored."""
        return None if value is None else value.replace("\0", "").encode("utf-8", "replace").decode()


def moment(**kwargs: Any) -> Any:
    """Make a field that holds a moment, UTC."""
    return Field(sa_type=UtcDateTime, **kwargs)


def json_value(**kwargs: Any) -> Any:
    """Make a field that holds JSON."""
    return Field(sa_type=sa.JSON, **kwargs)


def text(**kwargs: Any) -> Any:
    """Make a field of text, empty unless given."""
    return Field(default="", sa_type=CleanText, **kwargs)
