"""Accounts and homes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from labwright.spawner import accounts


@pytest.mark.uid
def test_a_home_follows_an_account_that_was_made_anew(tmp_path: Path) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    (home / "folder").mkdir(parents=True)
    kept.write_text("not a person's")
    (home / "folder" / "note").write_text("a person's")
    (home / "link").symlink_to(kept)
    for path in (home, home / "folder", home / "folder" / "note", home / "link"):
        os.chown(path, 64001, 64001, follow_symlinks=False)
    accounts._hand_over(home, 64001, pwd.getpwnam("nobody"))
    owner = pwd.getpwnam("nobody").pw_uid
    moved = (home, home / "folder", home / "folder" / "note", home / "link")
    assert {path.lstat().st_uid for path in moved} == {owner}
    assert kept.stat().st_uid == os.getuid()
