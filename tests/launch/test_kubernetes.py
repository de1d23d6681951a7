"""The manifests that kubernetes.sh fills in, against the schemas of Kubernetes."""

import re

import pytest
import yaml

HARD = ["--config=a b.py", '--x=say "hi" $(date) `id` $HOME $$ \\n', "--y='&' @NAME@ *: #", "--z=", "--new=a\nline\tb"]
NEEDED = ("--name=cub-1", "--image=registry:5000/fcam:1", "--claim=runs")
TPU = ("--tpu=tpu-v5-lite-podslice", "--topology=4x4")

# From the types of jobset.x-k8s.io/v1alpha2; the template is a Job's.
JOBSET = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "network": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"enableDNSHostnames": {"type": "boolean"}, "subdomain": {"type": "string"}},
                },
                "failurePolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "maxRestarts": {"type": "integer"},
                        "restartStrategy": {"enum": ["Recreate", "BlockingRecreate", "InPlaceRestart"]},
                        "rules": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "action"],
                                "properties": {
                                    "name": {"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                                    "action": {
                                        "enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]
                                    },
                                    # Reasons that the controller of Jobs gives.
                                    "onJobFailureReasons": {
                                        "items": {
                                            "enum": ["BackoffLimitExceeded", "DeadlineExceeded", "PodFailurePolicy"]
                                        }
                                    },
                                },
                            },
                        },
                    },
                },
                "replicatedJobs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name", "template"],
                        "properties": {
                            "name": {"type": "string"},
                            "replicas": {"type": "integer"},
                            "template": {"type": "object"},
                        },
                    },
                },
            },
        },
    },
}


def manifest(fakes, *options):
    done = fakes.run("kubernetes.sh", *NEEDED, *options, "--print", "--", *HARD)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def job_of(filled):
    """The Job, or that of which a JobSet makes its own."""
    if filled["kind"] == "Job":
        return filled
    (replicated,) = filled["spec"]["replicatedJobs"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "made"}} | replicated["template"]


def container_of(job):
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("options", [(), ("--gpus=8",), ("--nodes=4",), ("--nodes=4", *TPU), TPU])
def test_the_manifests_fit_the_schemas(fakes, options):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    jsonschema = pytest.importorskip("jsonschema")
    filled = manifest(fakes, *options)
    if filled["kind"] == "JobSet":
        jsonschema.validate(filled, JOBSET)
    job = job_of(filled)
    kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    job["spec"]["backofLimit"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def expanded(argument, variables):
    """What a container gets of an argument: $$ is $, and $(NAME) a variable, if it exists."""
    return re.sub(
        r"\$\$|\$\(([^()]*)\)", lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), argument
    )


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ((), []),
        (
            ("--nodes=4",),
            ["--coordinator=cub-1-hosts-0-0.cub-1:8476", "--processes=4", "--process=3"],
        ),
        (("--nodes=4", *TPU), []),
    ],
)
def test_arguments_arrive_as_they_are_and_hosts_know_each_other(fakes, options, added):
    filled = manifest(fakes, *options)
    variables = {"JOB_COMPLETION_INDEX": "3", "date": "replaced"}
    arguments = [expanded(argument, variables) for argument in container_of(job_of(filled))["args"]]
    assert arguments == [*HARD, *added]
    if added:  # the first pod's name in the network of the set
        (replicated,) = filled["spec"]["replicatedJobs"]
        host = f"{filled['metadata']['name']}-{replicated['name']}-0-0.{filled['spec']['network']['subdomain']}"
        assert added[0] == f"--coordinator={host}:8476"
        assert (replicated["replicas"], replicated["template"]["spec"]["completions"]) == (1, 4)


def test_a_stop_costs_no_attempt_and_a_mistake_gets_no_other(fakes):
    rules = manifest(fakes)["spec"]["podFailurePolicy"]["rules"]
    by_code = {code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", [])}
    assert by_code == {75: "Ignore", 1: "FailJob", 2: "FailJob"}
    filled = manifest(fakes, "--nodes=2")
    (rule,) = filled["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    codes = [rule.get("onExitCodes", {}).get("values") for rule in job_of(filled)["spec"]["podFailurePolicy"]["rules"]]
    assert codes == [[75], None]


def test_resources_are_those_of_the_accelerator(fakes):
    limits = [container_of(job_of(manifest(fakes, "--gpus=8", *more)))["resources"]["limits"] for more in ((), TPU)]
    assert limits == [{"nvidia.com/gpu": 8}, {"google.com/tpu": 8}]


def test_the_manifest_is_applied(fakes):
    done = fakes.run("kubernetes.sh", *NEEDED, "--namespace=mine", "--", *HARD)
    assert done.returncode == 0, done.stderr
    (call,) = fakes.calls("kubectl")
    assert call[:3] == ["--namespace=mine", "apply", "--filename=-"]
    assert yaml.safe_load(call[3]) == manifest(fakes)


@pytest.mark.parametrize("text", ["@ARGS@", "@IMAGE@", "@CLAIM@@NAME@", "a&b\\&", "@COUNT@"])
def test_what_looks_like_a_placeholder_is_filled_in_as_it_is(fakes, text):
    done = fakes.run("kubernetes.sh", "--name=a", f"--image={text}", f"--claim={text}", "--print", "--", text)
    job = yaml.safe_load(done.stdout)
    container, (volume,) = container_of(job), job["spec"]["template"]["spec"]["volumes"]
    assert (container["image"], container["args"]) == (text, [text])
    assert volume["persistentVolumeClaim"]["claimName"] == text
    tpu = [f"--tpu={text}", f"--topology={text}"]
    job = yaml.safe_load(fakes.run("kubernetes.sh", *NEEDED, *tpu, "--print", "--", text).stdout)
    assert set(job["spec"]["template"]["spec"]["nodeSelector"].values()) == {text}


@pytest.mark.parametrize("option", ["--image", "--claim", "--topology=b --tpu", "--tpu=b --topology"])
def test_control_characters_are_refused(fakes, option):
    done = fakes.run("kubernetes.sh", *NEEDED, *f"{option}=a\rb".split(" "), "--print", "--", "x")
    assert done.returncode == 2 and done.stdout == "" and "control character" in done.stderr


@pytest.mark.parametrize("name", ["Cub", "a b", "x" * 41, "1a", "a;b"])
def test_a_name_that_kubernetes_does_not_take_is_refused(fakes, name):
    done = fakes.run("kubernetes.sh", f"--name={name}", *NEEDED[1:], "--", *HARD)
    assert done.returncode == 2 and "--name=" in done.stderr
