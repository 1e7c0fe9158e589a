"""Finding and reading panza.yaml, and naming every fault in it by its path."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from daemon.config import Config
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

_SAID = {
    "int_type": "expected an integer",
    "int_from_float": "expected an integer",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "string_type": "expected a text",
    "path_type": "expected a path",
    "tuple_type": "expected a list",
    "model_type": "expected a mapping of keys",
    "missing": "this key is required",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "expected at most 64 letters, digits, dots, dashes or underscores",
}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_SECRET_KEYS = frozenset({"password", "oauth", "token"})


class _Loader(yaml.SafeLoader):
    """YAML without its traps.

    ``off`` and ``no`` stay words and dates stay texts, as in YAML 1.2, and a key that is written
    twice is an error instead of being overwritten.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # PyYAML itself refuses it
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is here twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def places() -> tuple[Path, ...]:
    """Return where a configuration is looked for, in this order, when none is named."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return (
        Path("panza.yaml"),
        Path(home).expanduser() / "panza" / "panza.yaml",
        Path("/etc/panza/panza.yaml"),
    )


def read(path: Path | None) -> Config:
    """Read the configuration from a file, or from the first of `places` that has one.

    Raises:
        ConfigError: No file, no YAML, or any fault in it: all faults at once.
    """
    if path is None:
        path = next((place for place in places() if place.is_file()), None)
        if path is None:
            looked = ", ".join(str(place) for place in places())
            raise ConfigError(None, [f"there is no configuration file; looked for {looked}"])
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(path, [f"byte {error.start + 1} is not UTF-8"]) from None
    except OSError as error:
        raise ConfigError(path, [error.strerror or type(error).__name__]) from error
    return parse(text, path)


def parse(text: str, path: Path) -> Config:
    """Read a configuration from a text that stands in the file ``path``.

    Raises:
        ConfigError: It is no YAML, or has faults: all of them at once.
    """
    data = _yaml(text, path)
    faults = list(_faults_between(data))
    try:
        # By way of JSON: strict types, and lists where the classes have tuples.
        config = Config.model_validate_json(
            json.dumps(data), context={"folder": path.absolute().parent}
        )
    except ValidationError as error:
        faults += [_fault(d) for d in error.errors(include_url=False) if not _is_echo(d)]
    if faults:
        raise ConfigError(path, sorted(faults))
    return config


def _yaml(text: str, path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        data = yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader
        json.dumps(data)  # an alias inside of what it stands for, or a key that is no text
    except yaml.MarkedYAMLError as error:
        mark, problem = error.problem_mark or error.context_mark, error.problem or error.context
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        fault = f"{where}no valid YAML: {problem}"
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        fault = "no valid YAML: only texts, numbers, lists and mappings make a configuration"
    else:
        return {} if data is None else data
    # Outside the handler: the cause would quote the file, and what stands there may be a secret.
    raise ConfigError(path, [fault])


def _faults_between(data: object) -> Iterator[str]:
    """Yield what several accounts get wrong together, whatever else is wrong with each."""
    if not isinstance(data, dict) or not isinstance(accounts := data.get("accounts"), list):
        return
    seen: dict[str, int] = {}
    requests = data.get("requests")
    deliver = requests.get("deliver") if isinstance(requests, dict) else None
    for number, account in enumerate(accounts):
        if not isinstance(account, dict):
            continue
        first = seen.setdefault(str(account.get("name", number)).casefold(), number)
        if first != number:
            yield f"accounts[{number}].name: is the name of accounts[{first}] already"
        if deliver in {"reply", "both"} and account.get("smtp") is None:
            yield f"accounts[{number}].smtp: requests.deliver {deliver} needs it"


def _is_echo(detail: ErrorDetails) -> bool:
    # A list whose only element has a fault counts as too short as well.
    return detail["type"] == "too_short" and bool(detail["input"])


def _fault(detail: ErrorDetails) -> str:
    location = detail["loc"][:-1] if detail["type"] == "section" else detail["loc"]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    said = _said(detail)
    # What is neither text nor number would only repeat a part of the file.
    given = detail["input"]
    if (
        detail["type"] not in {"missing", "extra_forbidden", "section"}
        and isinstance(given, str | int | float | None)
        and not _SECRET_KEYS & set(location)
    ):
        said += f", got {json.dumps(given, ensure_ascii=False)}"
    return f"{where}: {said}" if where else said


def _said(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _SAID:
        return _SAID[kind]
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(detail['loc'])}"
    if kind == "literal_error":
        return f"expected {context['expected']}"
    if kind == "value_error":
        return str(context["error"])
    bound = next(
        (f"must be {word} {context[k]}" for k, word in _BOUNDS.items() if k in context), ""
    )
    return bound or detail["msg"]


def _suggestion(location: tuple[int | str, ...]) -> str:
    section = _section(Config, location[:-1])
    near = difflib.get_close_matches(str(location[-1]), section.model_fields if section else (), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _section(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    for step in location:
        if isinstance(step, int):
            continue
        field = model.model_fields.get(step)
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return None
        model = inner
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401 - any type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)
