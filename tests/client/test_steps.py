"""Steps taken one by one: what they are remembered by, and what people are shown of them."""

from medperf_client.containers.job import called
from medperf_client.containers.spec import parse
from medperf_client.execution.steps import step_key

CONFIG = """
container_type: DockerImage
image: site/model:1
tasks:
  infer:
    run_args:
      command: python3 main.py --epochs 3
      entrypoint: ""
      environment: {SEED: 7, NAME: é}
      shm_size: 2g
      gpus: "device=GPU-1,GPU-2"
    input_volumes:
      data_path: {mount_path: /mlcommons/volumes/data, type: directory}
      parameters_file: {mount_path: /mlcommons/volumes/parameters/p.yaml, type: file}
    output_volumes:
      output_path: {mount_path: /mlcommons/volumes/predictions, type: directory}
  sanity_check:
    run_args: {command: check}
    input_volumes:
      data_path: {mount_path: /mlcommons/volumes/data, type: directory}
"""


def test_a_step_has_the_key_that_it_had_when_the_cache_was_filled() -> None:
    spec = parse(CONFIG, "container_config.yaml")
    infer, check = spec.task("infer").fingerprint(), spec.task("sanity_check").fingerprint()
    inputs = {"parameters_file": "02" * 32, "data_path": "01" * 32}
    found = step_key("ab" * 32, infer, inputs)
    assert found == "617dc761d2e47427486bdb72e994e4d5d04f39d3162e4415c8d3c7f913511904"
    found = step_key("cd" * 32, check, {"data_path": "01" * 32})
    assert found == "a6200f3978617dba0b719d51d9f245ef5dd40313278fc95138b2e72b7d0d73f3"


def test_a_step_about_a_model_is_called_after_both() -> None:
    assert called("infer", "container 4 (mlp)") == "infer of container 4 (mlp)"
    assert called("prepare") == "prepare"
