"""The command `fcam`: its frame of options, help, exit status and errors in one line."""

import errno
import logging
import os
import subprocess
import sys

import pytest
from program import ROOT, only_line, program

import fcam_jax
from fcam_jax.cli import command
from fcam_jax.errors import InputError


def test_a_mistyped_option_is_answered_before_anything_slow_is_loaded():
    text = (
        "import sys; from fcam_jax.cli.command import main\n"
        "try: main(['train', '--confg=cub'])\n"
        "except SystemExit as ended: print(ended.code, 'jax' in sys.modules, 'ml_collections' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("error: unknown option --confg, did you mean --config?")
    assert done.stdout.endswith("False False\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "no such command: 'trian', did you mean train?; known: train, eval, "),
        (["train"], "the following arguments are required: --config (fcam train --help lists the options)"),
        (["train", "--config=cub"], "--workdir=DIR is missing"),
        (["train", "--config=cbu", "--workdir=x"], "--config: no such benchmark file: 'cbu'; did you mean cub?"),
        (["eval"], "--config=NAME is missing; or give --checkpoint=RUN"),
        (["report"], "--workdir=DIR is missing"),
        (["sweep", "--sweep=six_cam", "--workdir=x"], "--sweep: no such sweep file: 'six_cam'; did you mean six_cams?"),
        (["train", "--config=cub", "--workdir=x", "--config.cam.scorecam.chunk=4"], "config.cam.scorecam.chunk is a "),
        (
            ["train", "--config=cub", "--workdir=x", "--config.cam.chunk=4"],
            "unknown configuration key config.cam.chunk",
        ),
        (["train", "--config=cub", "--workdir=x", "--config.cam=4"], "config.cam is a part of the configuration; its "),
        (["train", "--config=cub", "--workdir=x", "--config.cam.cache=4"], "--config.cam.cache=4: it must be true or"),
    ],
)
def test_a_mistake_is_one_line(words, line, monkeypatch):
    monkeypatch.setattr("fcam_jax.cli.together.begin", lambda: None)
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code.startswith(f"error: {line}") and "\n" not in ended.value.code


@pytest.mark.parametrize("text", ["line\n" * 10**5, "\x1b[2J\r", "x" * 10**6, "\udcff\0", "{}\n"])
@pytest.mark.parametrize("kind", [InputError, lambda text: PermissionError(errno.EACCES, "denied", text)])
def test_whatever_a_message_holds_it_is_one_line_of_bounded_length(kind, text):
    with pytest.raises(SystemExit) as ended, command.in_one_line("the cure"):
        raise kind(f"config.json: {text}; delete it")
    line = ended.value.code
    assert line.startswith("error: ") and line.isprintable() and len(line) < 620 and "; delete it" in line


def test_what_the_library_warns_of_is_a_plain_line(monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    with pytest.raises(SystemExit):
        command.main(["no_command"])
    logging.warning("of another library, whose form the next ones would have")
    (handler,) = logging.root.handlers
    warning = {"name": "fcam_jax.runs", "levelname": "WARNING", "msg": "2 of 2 maps are constant"}
    assert handler.format(logging.makeLogRecord(warning)) == "2 of 2 maps are constant"


def test_version_and_overview(capsys):
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"fcam_jax {fcam_jax.__version__}\n"
    assert command.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_has_a_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"])
    assert ended.value.code == 0 and f"usage: fcam {name}" in capsys.readouterr().out


def test_help_lists_the_keys_of_a_configuration(capsys):
    with pytest.raises(SystemExit):
        command.main(["train", "--config=cub:method=has,cam=scorecam", "--config.fcam.loss.entropy.weight=1", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "--config.classifier.has.rate=0.5 probability that a cell is hidden" in printed
    assert "--config.cam.scorecam.chunk=128" in printed and "--config.fcam.loss.entropy.weight=1.0" in printed
    assert "terms of the loss that are off: bounds, " in printed and "--config.classifier.spg" not in printed


@pytest.mark.slow
def test_a_closed_pipe_and_an_absent_device_are_no_tracebacks(tmp_path):
    shell = f"{sys.executable} -m fcam_jax train --config=cub --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) in ((141, ""), (0, "")) and done.stdout.startswith("usage: fcam train")
    options = ("--config=synthetic", f"--workdir={tmp_path / 'run'}", "--config.data.synthetic.train=32")
    before = os.environ["JAX_PLATFORMS"]
    os.environ["JAX_PLATFORMS"] = "nothing"
    try:
        done = program("fcam_jax", "train", *options)
    finally:
        os.environ["JAX_PLATFORMS"] = before
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: JAX_PLATFORMS=nothing: ")
    assert only_line(done)
