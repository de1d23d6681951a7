"""A page on this machine on which a trained network is tried: drop photographs, see their maps, masks and boxes.

    fcam demo --checkpoint=runs/cub
    fcam demo --checkpoint=torchvision:resnet50 --encoder=resnet50

Photographs stay on it. Ctrl-C ends it. It needs Gradio: pip install 'fcam-jax[demo]'.
"""

import argparse
import pathlib
import signal
import socket
import time

from fcam_jax.cli import of_weights


def options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from fcam_jax.cams import CAMS
    from fcam_jax.models.weights_by_name import FORMS

    text = f"folder of a run, of a stage, or of a checkpoint; or weights of a classifier: a path, {FORMS}"
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help=text)
    parser.add_argument("--cam", help=f"the CAM that is there first, by default the run's own: {', '.join(CAMS)}")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: other machines may open the page, too")
    parser.add_argument("--port", type=int, default=7860, help="of the page's address")
    of_weights.declare(parser, "of weights", "num_classes")


def run(options: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    from fcam_jax.errors import InputError, extra
    from fcam_jax.models.weights_by_name import is_name
    from fcam_jax.runtime import preemption

    path, host, port = options.checkpoint, options.host, options.port
    if options.encoder is None and (path.is_file() or is_name(path)):
        raise InputError(f"--checkpoint={path} is weights alone: say of which network, as in --encoder=resnet50")
    with extra("demo", "fcam demo"):
        from fcam_jax.runs.prediction import demo
    if not host:
        raise InputError("--host= is empty; it must be an address of this machine")
    if not 0 < port < 2**16:
        raise InputError(f"--port={port} must lie between 1 and {2**16 - 1}")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        why = str(error.strerror).partition(" (")[0]
        raise InputError(f"--host={host} --port={port}: no page can be there ({why}); give another") from error
    signal.signal(signal.SIGINT, signal.default_int_handler)  # nothing is to be saved first
    try:
        preemption.stop_if_alone()  # it may have been asked before
        networks = demo.networks_of(path, options.cam, **of_weights.given(options))
        with demo.serving(demo.Page(networks, demo.examples_of(path)), host, port) as address:
            titles = " and ".join(network.network.title for network in networks)
            print(f"{titles} of {len(networks[0].class_names)} classes: {address} (Ctrl-C ends it)", flush=True)
            while True:
                time.sleep(0.2)
                preemption.stop_if_alone()
    except KeyboardInterrupt:
        print("ended")
