"""The key in any form that a server may put it into a text."""

from __future__ import annotations

import base64
import codecs
import html
import json
import time
from urllib.parse import quote

import pytest

from bench.judging.redaction import Redactor

KEY = "sk-Very/secret+0123456789&"
FORMS = {
    "plain": KEY,
    "in a sentence": f"Incorrect key {KEY}.",
    "upper case": KEY.upper(),
    "reversed": KEY[::-1],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a pair": base64.b64encode(f"me:{KEY}:x".encode()).decode(),
    "base64, reversed before": base64.b64encode(KEY[::-1].encode()).decode(),
    "base64, reversed after": base64.b64encode(KEY.encode()).decode()[::-1],
    "base64 for addresses": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "base64 in lines": base64.encodebytes(f"{'x' * 60}{KEY}".encode()).decode(),
    "base32": base64.b32encode(KEY.encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "upper hexadecimal": KEY.encode().hex().upper(),
    "hexadecimal with spaces": KEY.encode().hex(" "),
    "escapes": "".join(f"\\x{byte:02x}" for byte in KEY.encode()),
    "percents": quote(KEY, safe=""),
    "all percents": "".join(f"%{byte:02X}" for byte in KEY.encode()),
    "JSON": json.dumps(KEY),
    "JSON's escapes": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "HTML": html.escape(KEY),
    "HTML's numbers": "".join(f"&#{ord(letter)};" for letter in KEY),
    "HTML's hexadecimal numbers": "".join(f"&#x{ord(letter):x};" for letter in KEY),
    "spelled out": " ".join(KEY),
    "in two lines": f"{KEY[:9]}\n{KEY[9:]}",
    "with a character that shows nothing": f"{KEY[:9]}\u200b{KEY[9:]}",
    "rotated": codecs.encode(KEY, "rot13"),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_form_of_a_key_is_left(form: str) -> None:
    text = f"before {FORMS[form]} after: [[7]]"
    redacted = Redactor([KEY])(text)
    assert "***" in redacted and "after: [[7]]" in redacted and redacted.startswith("before ")
    assert FORMS[form][-12:-4] not in redacted


def test_other_text_stays() -> None:
    for secrets in ([], ["EMPTY"], ["7"], [KEY]):
        text = "An EMPTY answer, 7 of 10. Rating: [[7]]"
        assert Redactor(secrets)(text) == text


LARGE = ("x" * 4_000_000, KEY[:-1] * 150_000, f"{KEY[0]}{' ' * 1000}" * 4000, f"{KEY[0]}\u200b" * 1_000_000)


@pytest.mark.parametrize("text", LARGE, ids=["letters", "all but the end", "spaces", "what shows nothing"])
def test_a_text_of_megabytes_takes_no_time(text: str) -> None:
    """While it is searched, no other request proceeds, and all have deadlines."""
    redact = Redactor([KEY])
    start = time.process_time()
    assert redact(text) == text
    assert time.process_time() - start < 1.5
