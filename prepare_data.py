"""Prepares raw videos for training: `python prepare_data.py folders --raw DIR --out DIR`.

`python prepare_data.py` lists the data sets that it knows.
"""

import sys

from aia_jax.errors import exit_status
from aia_jax.prepare.command import main
from aia_jax.processes.ending import leave

if __name__ == "__main__":
    sys.exit(leave(exit_status(main)))
