"""Files are written whole or not at all, and may be read by whom the user lets."""

import os

import pytest

from Codes.ground import files


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write(tmp_path / "new", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == mode


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path):
    files.write(tmp_path / "kept", "earlier")
    with pytest.raises(UnicodeEncodeError):
        files.write(tmp_path / "kept", "\udce9")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("kept", "earlier")]
