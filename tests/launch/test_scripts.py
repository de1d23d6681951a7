"""The launch scripts, with programs in place of the clusters' that note how they are called."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH.parent / "benchmarks" / "on_gpu.sh"]

# For the program, as hard to pass on as arguments are.
HARD = ["--config=a b.py", '--x=say "hi" $(date) `id` $HOME $$ \\n', "--y='&' @NAME@ *;", "--z=", "--workdir=/runs/a b"]


def after(call, first):
    """What follows the first place of an argument."""
    return call[call.index(first) + 1 :]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    program = shutil.which("shellcheck", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed; `make test` does")
    command = [program, "-x", str(script.relative_to(LAUNCH.parent))]
    found = subprocess.run(command, cwd=LAUNCH.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("script", "needed"),
    [
        ("local.sh", []),
        ("slurm.sh", []),
        ("slurm_sweep.sh", []),
        ("tpu_pod.sh", ["--name=n", "--zone=z", "--type=t", "--runtime=r"]),
        ("kubernetes.sh", ["--name=n", "--image=i", "--claim=c"]),
        ("cub_on_gpu.sh", ["--workdir=w"]),
    ],
)
@pytest.mark.parametrize("mistake", [["--config=configs/cub.py", "extra"], ["oops", "--", "--config=x"]])
def test_a_mistake_gets_a_line_and_calls_nothing(fakes, script, needed, mistake):
    done = fakes.run(script, *needed, *mistake)
    if script.startswith("slurm") and mistake[0].startswith("--"):
        mistake = mistake[1:]  # sbatch may know the option
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and mistake[0] in done.stderr and done.stderr.count("\n") == 1
    assert not (fakes.folder / "calls").exists()


def test_an_accelerator_without_pinned_versions_gets_a_line(fakes):
    done = fakes.run("local.sh", "--", "--config=x", FCAM_PYTHON="", JAX_EXTRA="cuda99")
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX_EXTRA is cuda99;") and done.stderr.count("\n") == 1


def test_a_run_on_slurm_has_a_process_for_each_gpu(fakes):
    done = fakes.run("slurm.sh", "--nodes=2", "--gpus-per-node=a100:4", "--comment=a b", "--", *HARD)
    assert done.returncode == 0, done.stderr
    (call,) = fakes.calls("sbatch")
    options, job = call[: call.index("launch/slurm_job.sh")], after(call, "launch/slurm_job.sh")
    assert {"--nodes=2", "--gpus-per-node=a100:4", "--ntasks-per-node=4", "--comment=a b"} <= set(options)
    assert f"--chdir={LAUNCH.parent}" in options
    assert job[1:] == [str(fakes.folder / "bin" / "python"), "-m", "fcam_jax.main", *HARD]


def test_the_first_row_of_the_papers_table_on_one_gpu(fakes, tmp_path):
    (tmp_path / "w" / "report").mkdir(parents=True)
    (tmp_path / "w" / "report" / "tables.md").write_text("the table\n\nTable 2 of the paper\n")
    given = ["--source=a b", "--workdir=w", f"--metadata={tmp_path}/m", "--weights=r.pth"]
    done = fakes.run("cub_on_gpu.sh", *given, "--", "--config.data.batch_size=64")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the table\n\n"
    prepare, *trainings, report = [call[2:] for call in fakes.calls("python")]
    where = [f"--source={tmp_path}/a b", f"--data_dir={tmp_path}/w/data"]
    assert prepare == ["prepare", "--dataset=cub", *where, f"--metadata={tmp_path}/m"]
    runs = [f"--workdir={tmp_path}/w/cub-resnet50-{cam}" for cam in ("cam", "layercam")]
    for call, run, cam in zip(trainings, runs, ("cam", "layercam"), strict=True):
        assert call[:3] == ["train", f"--config=cub:resnet50,{cam}", run]
        assert {"--config.model.init=r.pth", "--config.data.batch_size=64"} <= set(call)
        assert f"--config.data.root={tmp_path}/w/data" in call
    assert report == ["report", *runs, f"--out={tmp_path}/w/report"]


@pytest.mark.parametrize("failing", [1, 75])
def test_that_ends_where_one_of_its_steps_does(fakes, tmp_path, failing):
    fakes.answer("python", "0 ", f"{failing} ")
    done = fakes.run("cub_on_gpu.sh", f"--source={tmp_path}", f"--workdir={tmp_path}/w")
    assert done.returncode == failing
    assert [call[2] for call in fakes.calls("python")] == ["prepare", "train"]


@pytest.mark.parametrize(("status", "again"), [(0, False), (1, False), (75, True), (143, False)])
def test_a_job_that_was_asked_to_stop_is_queued_again(fakes, status, again):
    fakes.answer("srun", f"{status} ")
    done = fakes.run("slurm_job.sh", "--gpu-bind=none", "python", *HARD, SLURM_JOB_ID="17")
    assert done.returncode == status
    assert fakes.calls("srun")[0][-len(HARD) :] == HARD
    assert fakes.calls("scontrol") == ([["requeue", "17"]] if again else [])


def test_a_job_tells_the_program_before_its_time_is_over():
    directives = [line for line in (LAUNCH / "slurm_job.sh").read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --requeue", "#SBATCH --signal=TERM@120"} <= set(directives)


def test_the_runs_of_a_sweep_are_two_arrays_and_a_report(fakes):
    python = str(fakes.folder / "bin" / "python")
    hard = shlex.join([python, "-m", "fcam_jax.main", *HARD])
    lines = [hard, f"{python} second", f"{python} third  # needed by fourth", f"{python} fourth  # needs third"]
    sweep = ["--sweep=s.py:a b", f"--workdir={fakes.folder / 'a sweep'}", "--", "--config.data.root=/d e"]
    fakes.answer("sbatch", "0 11;cluster", "0 12", "0 13")
    pathlib.Path(python).write_text(f"#!/bin/bash\nprintf '%s\\n' {shlex.join(lines)}\n")
    done = fakes.run("slurm_sweep.sh", "--time=1:00:00", "--", *sweep)
    assert done.returncode == 0, done.stderr
    first, second, report = fakes.calls("sbatch")
    assert "--array=1-3" in first and "--array=1-1" in second
    assert not any("--dependency" in option for option in first)
    assert "--dependency=afterany:11" in second and "--dependency=afterany:11:12" in report
    assert all("--time=1:00:00" in call for call in (first, second, report))
    assert report[-len(sweep) :] == sweep
    # The line of the array's first job, as its shell runs it.
    fakes.run("slurm_job.sh", *after(first, "launch/slurm_job.sh"), SLURM_JOB_ID="11")
    (step,) = fakes.calls("srun")
    shutil.copy(fakes.folder / "bin" / "srun", python)
    command = step[step.index("bash") :]
    subprocess.run(command, check=True, env=os.environ | {"FAKES": str(fakes.folder), "SLURM_ARRAY_TASK_ID": "1"})
    assert fakes.calls("python") == [["-m", "fcam_jax.main", *HARD]]


TPU = ("--name=n", "--zone=z", "--type=v5litepod-16", "--runtime=r", "--nfs=10.0.0.2:/runs", "--spot", "--delete")


def verbs(fakes):
    """What the cloud was asked to do, in order, without the questions."""
    known = ("create", "delete", "scp", "ssh")
    return [next(verb for verb in known if verb in call) for call in fakes.calls("gcloud") if "describe" not in call]


@pytest.mark.slow
def test_a_preempted_slice_is_asked_for_again_and_the_run_goes_on(fakes):
    said = "[worker-0] fcam-status"
    fakes.answer(
        "gcloud",
        *("1 ", "0 ", "0 WAITING_FOR_RESOURCES", "0 ACTIVE"),  # not there, created, awaited
        *("0 ", "0 ", "255 ", "0 SUSPENDED"),  # copied, set up, the connection lost: it was preempted
        *("0 SUSPENDED", "0 ", "1 ", "0 ", "0 ACTIVE"),  # deleted, created
        *("0 ", "0 ", f"0 {said} 75"),  # asked to stop, and there still
        *("0 ACTIVE", "0 ", "0 ", f"0 {said} 0", "0 "),
    )
    done = fakes.run("tpu_pod.sh", *TPU, "--", *HARD)
    assert done.returncode == 0, done.stderr
    run = ["scp", "ssh", "ssh"]
    assert verbs(fakes) == ["create", *run, "delete", "create", *run, *run, "delete"]
    creation = next(call for call in fakes.calls("gcloud") if "create" in call)
    assert {"--spot", "--accelerator-type=v5litepod-16", "--zone=z", "--node-id=n"} <= set(creation)
    command = [call for call in fakes.calls("gcloud") if "ssh" in call][-1][-1].removeprefix("--command=")
    assert shlex.split(command.partition(" -m fcam_jax.main ")[2].partition("; echo")[0]) == HARD


@pytest.mark.slow
def test_a_run_that_fails_on_a_slice_is_not_repeated_and_the_slice_goes(fakes):
    fakes.answer("gcloud", "0 ACTIVE", "0 ", "0 ", "0 fcam-status 1", "0 ACTIVE", "0 ")
    done = fakes.run("tpu_pod.sh", *TPU, "--", *HARD)
    assert done.returncode == 2 and "has not been preempted" in done.stderr
    assert verbs(fakes) == ["scp", "ssh", "ssh", "delete"]
