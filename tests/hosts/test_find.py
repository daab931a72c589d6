"""Where the environment says that this process stands among those of a run."""

import jax
import pytest

from aia_jax import hosts
from aia_jax.errors import UserError
from aia_jax.hosts import find
from aia_jax.hosts.find import Place, find_place, split_address

THREE = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in THREE:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"JAX_NUM_PROCESSES": "2"}, "JAX_NUM_PROCESSES JAX_COORDINATOR_ADDRESS JAX_PROCESS_ID"),
        (THREE | {"JAX_PROCESS_ID": "2"}, "JAX_PROCESS_ID=2"),
        (THREE | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES=two"),
        (THREE | {"JAX_COORDINATOR_ADDRESS": "host0"}, "JAX_COORDINATOR_ADDRESS=host0: HOST:PORT"),
        (THREE | {"JAX_COORDINATOR_ADDRESS": "host0:http"}, "host0:http: HOST:PORT"),
        (THREE | {"AIA_HOSTS_TIMEOUT": "5 min"}, "AIA_HOSTS_TIMEOUT=5 expected seconds"),
        (THREE | {"AIA_HOSTS_TIMEOUT": "nan"}, "AIA_HOSTS_TIMEOUT=nan: expected seconds"),
    ],
)
def test_an_environment_that_does_not_fit_is_an_error(variables, words, monkeypatch):
    set_variables(monkeypatch, variables)
    with pytest.raises(UserError) as error:
        hosts.initialise_hosts()
    for word in words.split():
        assert word in str(error.value)


def test_three_variables_are_a_place(monkeypatch):
    set_variables(monkeypatch, THREE)
    assert find_place(1.0) == Place("a:1", 2, 1)


def test_slurm_says_the_place(monkeypatch):
    variables = dict.fromkeys(find._SLURM_VARIABLES, "1")
    variables |= {"SLURM_NTASKS": "3", "SLURM_STEP_NODELIST": "node[7-9]", "SLURM_LOCALID": "0"}
    set_variables(monkeypatch, variables)
    assert find_place(1.0) == Place("node7:61441", 3, 1, [0])


def test_a_single_machine_stays_alone(monkeypatch):
    set_variables(monkeypatch, dict.fromkeys(find._SLURM_VARIABLES, "1"))
    hosts.initialise_hosts()
    assert not jax.distributed.is_initialized()


def test_addresses():
    assert split_address("host0:1234") == ("host0", 1234)
    assert split_address("[fe80::1]:9") == ("fe80::1", 9)
