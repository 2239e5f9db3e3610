"""A client that polls the changes has a copy of the list, whatever happens meanwhile."""

import pytest

from harborguard.config import Config
from harborguard.store.connection import Connection
from tests.support.change_histories import run_history


@pytest.mark.parametrize("seed", range(12))
def test_copy_of_a_poller_equals_the_list_after_a_random_history(
    conn: Connection, config: Config, seed: int
) -> None:
    """Writers are killed. Some deletions are forgotten, and the poller then starts again."""
    result = run_history(config, seed)
    assert result.differences == []
    assert result.pages > 1
