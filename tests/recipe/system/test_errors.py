"""The hint of a wrong name."""

from __future__ import annotations

import pytest

from recipe.system.errors import UserError, choice


def test_a_wrong_name_gets_the_nearest_or_all():
    assert choice("fruit", "apple", ("apple", "pear")) == "apple"
    with pytest.raises(UserError, match="unknown fruit 'appel'; did you mean 'apple'"):
        choice("fruit", "appel", ("apple", "pear"))
    with pytest.raises(UserError, match="valid are: apple, pear"):
        choice("fruit", "xyz", ("apple", "pear"))
