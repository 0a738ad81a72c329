"""File names out of what documents say: never a path, never a device, and two different keys never share one."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from crossdock.errors import ConfigError
from crossdock.names import is_device

FIELDS = ("document", "key", "sequence", "id", "writer")
LONGEST = 120  # characters of one value, and of a name without its ending
_FIELD = re.compile(r"\{([^{}]*)\}")
_FORBIDDEN = set('<>:"/\\|?*')  # in a file name on Windows


def check_template(writer: str, template: str, *, replace: bool) -> None:
    """Raises ConfigError for a template that could not name files one by one."""
    fields = _FIELD.findall(template)
    unknown = [field for field in fields if field not in FIELDS]
    plain = _FIELD.sub("", template)
    if unknown:
        raise ConfigError(f"writer {writer}: 'name' has {{{unknown[0]}}}", hint=f"it may have {', '.join(FIELDS)}")
    if not plain.isprintable() or _FORBIDDEN & set(plain) or "{" in plain or "}" in plain or template.startswith("."):
        raise ConfigError(f"writer {writer}: 'name' {template!r} is no file name", hint="no folders, no leading dot")
    if template != template.rstrip(" ."):
        raise ConfigError(f"writer {writer}: 'name' {template!r} ends with a dot or blank")
    if "id" not in fields and "key" not in fields:
        raise ConfigError(f"writer {writer}: 'name' needs {{key}} or {{id}}", hint="or all documents would be one file")
    if "id" not in fields and "sequence" not in fields and not replace:
        raise ConfigError(
            f"writer {writer}: the second version of a document has the name of the first",
            hint="put {sequence} into 'name', or set 'replace: true'",
        )


def file_name(template: str, values: dict[str, str]) -> str:
    name = _FIELD.sub(lambda m: safe(values[m[1]]), template)
    if is_device(name):
        name = f"_{name}"
    return name


def safe(value: str) -> str:
    """*value* as a part of a file name: other characters than letters, digits, '-', '_' and '.' become %XX."""
    text = quote(value, safe="", errors="surrogatepass").replace("~", "%7E")
    if text.startswith("."):
        text = "%2E" + text[1:]
    if text.endswith("."):
        text = text[:-1] + "%2E"
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 17]}-{hashlib.sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    return text
