"""The terminal and log.txt: our messages, and of libraries what went wrong."""

import logging

import pytest
from small_runs import log, process_wide_settings_restored

from speechbrain_birq.brains.text_log import begin_log


@pytest.fixture
def said(tmp_path, capsys):
    """said(logger, level, text): (terminal, log.txt) after that message."""

    def say(name, level, text):
        with process_wide_settings_restored():
            begin_log(tmp_path)
            capsys.readouterr()
            logger = logging.getLogger(name)
            before = logger.level
            logger.setLevel(logging.DEBUG)  # as SpeechBrain sets its own
            logger.log(level, text)
            logger.setLevel(before)
            return capsys.readouterr().out, log(tmp_path)

    return say


@pytest.mark.parametrize("name", ["speechbrain.dataio.sampler", "matplotlib.pyplot"])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_small_talk_of_libraries_is_left_out(said, name, level):
    assert said(name, level, "a font was found") == ("", "")


def test_warnings_of_libraries_stay_and_name_them(said):
    terminal, kept = said("speechbrain.core", logging.WARNING, "no optimizer")
    assert terminal == "warning (speechbrain): no optimizer\n"
    assert "speechbrain.core - WARNING - no optimizer" in kept


def test_our_reports_are_shown_as_they_are(said):
    terminal, kept = said("speechbrain_birq.brains.base", logging.INFO, "step 10")
    assert terminal == "step 10\n"
    assert "speechbrain_birq.brains.base - INFO - step 10" in kept


def test_our_warnings_are_called_so(said):
    terminal, _ = said("speechbrain_birq.data", logging.WARNING, "a.wav is empty")
    assert terminal == "warning: a.wav is empty\n"


def test_details_of_ours_are_for_the_file_alone(said):
    terminal, kept = said("speechbrain_birq.errors", logging.DEBUG, "Traceback")
    assert terminal == "" and "Traceback" in kept


def test_messages_of_the_user_s_own_encoder_are_shown(said):
    assert said("my_encoder", logging.INFO, "4 heads")[0] == "4 heads\n"


def test_debugging_of_the_user_s_own_encoder_is_left_out(said):
    assert said("my_encoder", logging.DEBUG, "shapes") == ("", "")
