import logging
import os

import pytest

from training.quiet import native_output_held


def test_native_output_goes_to_the_log(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), native_output_held():
        os.write(1, b"a page of chatter")
    os.write(1, b"after")
    assert capfd.readouterr().out == "after"
    assert caplog.records[-1].levelno == logging.DEBUG
    assert "a page of chatter" in caplog.text


def test_native_output_is_quoted_when_it_explains_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        with native_output_held():
            os.write(2, b"the reason")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 -- its own
        fail()
    assert caplog.records[-1].levelno == logging.ERROR
    assert "the reason" in caplog.text
