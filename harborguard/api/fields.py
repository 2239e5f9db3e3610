"""Field types that describe themselves in the OpenAPI document: the base and query parameters."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from marshmallow import ValidationError, fields, missing

from harborguard.errors import InvalidReference
from harborguard.model import Reference
from harborguard.references import parse_reference
from harborguard.timestamps import parse_time

T = TypeVar("T")

# Every character that is not in the Unicode category Cc.
_NO_CONTROL_CHARACTERS = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_FLAGS = {"true": True, "false": False}


def _any_case(character: str) -> str:
    """Return the regular expression of a character in upper and lower case."""
    upper, lower = character.upper(), character.lower()
    return re.escape(character) if upper == lower else f"[{upper}{lower}]"


class DescribedField(fields.Field[T]):
    """A field that describes itself in the OpenAPI document."""

    def describe(self) -> dict[str, Any]:
        """Return the JSON Schema keywords of the field's values."""
        raise NotImplementedError


class Parameter(DescribedField[T]):
    """A query parameter.

    `_deserialize` parses the text of a request. `_serialize` returns the normalized text for
    links, or None if the parameter is absent.
    """

    def __init__(self, *, description: str, **kwargs: Any) -> None:
        super().__init__(metadata={"description": description}, **kwargs)


class StrictInteger(Parameter[int]):
    """An integer from `min` to `max` in ASCII digits, without sign or spaces (contract 1)."""

    def __init__(self, *, min: int, max: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.min = min
        self.max = max

    def describe(self) -> dict[str, Any]:
        """Return the type, the bounds and the default, if there is one."""
        keywords = {"type": "integer", "minimum": self.min, "maximum": self.max}
        # apispec would write the default as `_serialize` returns it: as a string.
        return (
            keywords if self.load_default is missing else {**keywords, "default": self.load_default}
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> int:
        digits = value.lstrip("0") or value[-1:]
        # The length is checked before int(), whose run time is quadratic in the length.
        if re.fullmatch("[0-9]+", value) and len(digits) <= len(str(self.max)):
            number = int(digits)
            if self.min <= number <= self.max:
                return number
        raise ValidationError(f"must be an integer from {self.min} to {self.max}")

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else str(value)


class Text(Parameter[str | None]):
    """Text of at most `max` characters without control characters. Blank text counts as absent."""

    def __init__(self, *, max: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max = max

    def describe(self) -> dict[str, Any]:
        """Return the type, the maximum length and the allowed characters."""
        return {"type": "string", "maxLength": self.max, "pattern": _NO_CONTROL_CHARACTERS}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str | None:
        if len(value) > self.max:
            raise ValidationError(f"must be at most {self.max} characters")
        if any(unicodedata.category(character) in {"Cc", "Cs"} for character in value):
            raise ValidationError("must not contain control characters")
        return value if value.strip() else None

    def _serialize(self, value: str | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return value


class Cursor(Parameter[str | None]):
    """A cursor, checked where it is decoded. A blank one counts as absent."""

    def describe(self) -> dict[str, Any]:
        """Return the type and the allowed characters."""
        return {"type": "string", "pattern": "^[A-Za-z0-9_-]*$"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str | None:
        return value if value.strip() else None


class WordList(Parameter[tuple[StrEnum, ...]]):
    """A comma-separated list of words, parsed to a tuple of unique words in order of definition.

    Spaces, case and empty items are ignored.
    """

    def __init__(self, words: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = words

    def describe(self) -> dict[str, Any]:
        """Return the type, a pattern of the list and an example."""
        anycase = ("".join(map(_any_case, word)) for word in self.words)
        item = f" *({'|'.join(anycase)})? *"
        examples = [",".join(list(self.words)[:2])]
        return {"type": "string", "pattern": f"^{item}(,{item})*$", "examples": examples}

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **_: Any
    ) -> tuple[StrEnum, ...]:
        items = {item.strip().lower() for item in value.split(",")} - {""}
        if not items <= {word.lower() for word in self.words}:
            raise ValidationError(f"must be a comma-separated list of {', '.join(self.words)}")
        return tuple(word for word in self.words if word.lower() in items)

    def _serialize(
        self, value: tuple[StrEnum, ...] | None, attr: str | None, obj: Any, **_: Any
    ) -> str | None:
        return ",".join(value or ()) or None


class Word(Parameter[StrEnum]):
    """One word of a fixed set, in any case."""

    def __init__(self, words: type[StrEnum], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.words = words

    def describe(self) -> dict[str, Any]:
        """Return the type, a pattern of the words in any case, and the words as examples."""
        anycase = ("".join(map(_any_case, word)) for word in self.words)
        return {
            "type": "string",
            "pattern": f"^({'|'.join(anycase)})$",
            "examples": [str(word) for word in self.words],
        }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> StrEnum:
        for word in self.words:
            if word.lower() == value.lower():
                return word
        raise ValidationError(f"must be one of {', '.join(self.words)}")

    def _serialize(self, value: StrEnum | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return value


class SortOrder(Parameter[Any]):
    """A sort order, written `column:direction`.

    `orders` maps each text to its order. An unknown text is parsed to None, which stands for the
    default order (contract 1).
    """

    def __init__(self, orders: Mapping[str, Any], *, default: str, **kwargs: Any) -> None:
        super().__init__(
            description="The sort order. An unknown value selects the default.", **kwargs
        )
        self.orders = orders
        self.default = default
        self._texts = {order: text for text, order in orders.items()}

    def describe(self) -> dict[str, Any]:
        """Return the type, all orders as examples, and the default."""
        return {"type": "string", "examples": list(self.orders), "default": self.default}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        return self.orders.get(value)

    def _serialize(self, value: Any, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else self._texts[value]


class Flag(Parameter[bool]):
    """A boolean, written `true` or `false`."""

    def describe(self) -> dict[str, Any]:
        """Return the type, whose values are written `true` and `false`."""
        return {"type": "boolean"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> bool:
        if value not in _FLAGS:
            raise ValidationError("must be true or false")
        return _FLAGS[value]

    def _serialize(self, value: bool | None, attr: str | None, obj: Any, **_: Any) -> str | None:
        return None if value is None else str(value).lower()


class Time(Parameter[datetime]):
    """An RFC 3339 time with a zone. A date alone is its midnight in UTC."""

    def describe(self) -> dict[str, Any]:
        """Return the type, the two formats and an example of each."""
        return {
            "type": "string",
            "anyOf": [{"format": "date-time"}, {"format": "date"}],
            "examples": ["2026-04-26T14:22:11Z", "2026-04-26"],
        }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> datetime:
        text = f"{value}T00:00:00Z" if _DATE.fullmatch(value) else value
        try:
            moment = parse_time(text, is_zone_required=True)
        except ValueError:
            moment = None
        if moment is None:
            raise ValidationError(
                "must be a time like 2026-04-26T14:22:11Z or a date like 2026-04-26"
            )
        return moment

    def _serialize(
        self, value: datetime | None, attr: str | None, obj: Any, **_: Any
    ) -> str | None:
        return None if value is None else value.isoformat().replace("+00:00", "Z")


class ImageReference(Parameter[Reference]):
    """A required image reference of at most `max` characters (contract 6.2)."""

    default_error_messages = {"required": "is required"}  # noqa: RUF012 - marshmallow's attribute

    def __init__(self, *, max: int, **kwargs: Any) -> None:
        super().__init__(required=True, **kwargs)
        self.max = max

    def describe(self) -> dict[str, Any]:
        """Return the type, the maximum length and an example."""
        return {"type": "string", "maxLength": self.max, "examples": ["ghcr.io/acme/api:1.4"]}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Reference:
        if len(value) > self.max:
            raise ValidationError(f"must be at most {self.max} characters")
        try:
            return parse_reference(value)
        except InvalidReference as error:
            raise ValidationError(" ".join(issue.message for issue in error.issues)) from None
