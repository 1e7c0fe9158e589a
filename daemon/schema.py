"""The tables of ``panza.db``, as a list of migrations.

A migration that was released is never changed; what comes later is another one at the end.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from daemon import journal, post, troubles

if TYPE_CHECKING:
    from collections.abc import Sequence


def levels(vector: str, steps: Sequence[float] = (0.055, 0.017, -0.017, -0.055)) -> str:
    """Return SQL for what a vector is searched by: 4 bits for each of its 384 components.

    They tell above which of the steps it is, so that the number of bits in which two vectors differ
    is the distance of their components, in steps: a vector of length 1 has about a quarter of its
    components beyond the outer ones. Among the 40 that come nearest are 99 % of the ten nearest by
    the cosine, by the signs alone 85 % (docs/quality.md).

    Args:
        vector: SQL for its float32.
        steps: What is added to a component, which is then above 0 or not.
    """
    parts = " || ".join(f"vec_add({vector}, x'{_component(step)}')" for step in steps)
    return f"vec_quantize_binary(CAST({parts} AS BLOB))"


def _component(value: float) -> str:
    return struct.pack("f", value).hex() * 384


_MAIL = """
-- What is known of the whole store, for example for whose addresses it was read.
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- The mails that the owner sent; key is the hash of the content, date is Unix time in seconds.
CREATE TABLE mails (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  message_id TEXT NOT NULL,
  sender TEXT NOT NULL,
  date INTEGER NOT NULL,
  recipients TEXT NOT NULL,
  copies TEXT NOT NULL,
  subject TEXT NOT NULL,
  text TEXT NOT NULL,
  answered TEXT NOT NULL,
  in_reply_to TEXT NOT NULL,
  thread TEXT NOT NULL,
  language TEXT NOT NULL
) STRICT;
CREATE INDEX mails_message_id ON mails (message_id);
CREATE INDEX mails_date ON mails (date);

-- Every message that was read, and why it was left out; reason is '' where it was kept.
CREATE TABLE seen (
  source TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  reason TEXT NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (source, uidvalidity, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_key ON seen (key);

-- How far each folder was read, and how many messages it had when it was last looked at.
CREATE TABLE folders (
  source TEXT NOT NULL,
  role TEXT NOT NULL,
  uidvalidity INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  checked INTEGER NOT NULL,
  PRIMARY KEY (source, role)
) STRICT, WITHOUT ROWID;

-- The instruction that could have produced a mail; version stands for prompt, rules and model.
CREATE TABLE instructions (
  key TEXT NOT NULL,
  version TEXT NOT NULL,
  text TEXT NOT NULL,
  source TEXT NOT NULL,
  PRIMARY KEY (key, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  started INTEGER NOT NULL,
  ended INTEGER,
  outcome TEXT
) STRICT;

-- Full text over the table above; the triggers keep both in step.
CREATE VIRTUAL TABLE words USING fts5 (
  subject, text, content='mails', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
-- One row for each mail of the same id: its vector, and the signs of the vector to search by.
CREATE VIRTUAL TABLE embeddings USING vec0 (
  id INTEGER PRIMARY KEY, date INTEGER, bits BIT[384], +vector BLOB
);
CREATE TRIGGER mails_inserted AFTER INSERT ON mails BEGIN
  INSERT INTO words (rowid, subject, text) VALUES (new.id, new.subject, new.text);
END;
CREATE TRIGGER mails_deleted AFTER DELETE ON mails BEGIN
  INSERT INTO words (words, rowid, subject, text)
    VALUES ('delete', old.id, old.subject, old.text);
  DELETE FROM embeddings WHERE id = old.id;
END;
"""

# A training tells the language itself, of the mails that it takes.
_NO_LANGUAGE = "ALTER TABLE mails DROP COLUMN language;"

# How the owner quotes what she answers; '' for mails that were read before this was kept.
_QUOTING = """
ALTER TABLE mails ADD COLUMN quoting TEXT NOT NULL DEFAULT '';
ALTER TABLE mails ADD COLUMN heading TEXT NOT NULL DEFAULT '';
"""

# Words are stemmed, and whom a mail was to is among them.
_SEARCH = """
CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;
INSERT INTO vectors SELECT id, vector FROM embeddings;
DROP TABLE embeddings;
DROP TRIGGER mails_inserted;
DROP TRIGGER mails_deleted;
DROP TABLE words;
ALTER TABLE vectors RENAME TO embeddings;
CREATE VIRTUAL TABLE words USING fts5 (
  subject, text, recipients, copies,
  content='mails', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
INSERT INTO words (words) VALUES ('rebuild');
CREATE TRIGGER mails_inserted AFTER INSERT ON mails BEGIN
  INSERT INTO words (rowid, subject, text, recipients, copies)
    VALUES (new.id, new.subject, new.text, new.recipients, new.copies);
END;
CREATE TRIGGER mails_deleted AFTER DELETE ON mails BEGIN
  INSERT INTO words (words, rowid, subject, text, recipients, copies)
    VALUES ('delete', old.id, old.subject, old.text, old.recipients, old.copies);
  DELETE FROM embeddings WHERE id = old.id;
END;
INSERT INTO notes VALUES ('vectors', '0');
CREATE TRIGGER embeddings_inserted AFTER INSERT ON embeddings BEGIN
  UPDATE notes SET value = CAST(value AS INTEGER) + 1 WHERE name = 'vectors';
END;
CREATE TRIGGER embeddings_deleted AFTER DELETE ON embeddings BEGIN
  UPDATE notes SET value = CAST(value AS INTEGER) + 1 WHERE name = 'vectors';
END;
"""

# sqlite-vec searches bits fast but reads single rows slowly: the vectors, for the cosines of what
# it found, are in a table beside it. The note `mails` counts how often a mail came or went, for
# daemon.words.
_NEAREST = f"""
DROP TRIGGER embeddings_inserted;
DROP TRIGGER embeddings_deleted;
DROP TRIGGER mails_inserted;
DROP TRIGGER mails_deleted;
ALTER TABLE embeddings RENAME TO vectors;
CREATE VIRTUAL TABLE embeddings USING vec0 (id INTEGER PRIMARY KEY, date INTEGER, bits BIT[1152]);
INSERT INTO embeddings (id, date, bits)
  SELECT vectors.id, mails.date, {levels("vectors.vector", (0.035, 0, -0.035))}
  FROM vectors JOIN mails ON mails.id = vectors.id;
UPDATE notes SET name = 'mails' WHERE name = 'vectors';
CREATE TRIGGER mails_inserted AFTER INSERT ON mails BEGIN
  INSERT INTO words (rowid, subject, text, recipients, copies)
    VALUES (new.id, new.subject, new.text, new.recipients, new.copies);
  UPDATE notes SET value = CAST(value AS INTEGER) + 1 WHERE name = 'mails';
END;
CREATE TRIGGER mails_deleted AFTER DELETE ON mails BEGIN
  INSERT INTO words (words, rowid, subject, text, recipients, copies)
    VALUES ('delete', old.id, old.subject, old.text, old.recipients, old.copies);
  DELETE FROM embeddings WHERE id = old.id;
  DELETE FROM vectors WHERE id = old.id;
  UPDATE notes SET value = CAST(value AS INTEGER) + 1 WHERE name = 'mails';
END;
"""  # noqa: S608 - nothing in it comes from outside

_FINER = f"""
DROP TABLE embeddings;
CREATE VIRTUAL TABLE embeddings USING vec0 (id INTEGER PRIMARY KEY, date INTEGER, bits BIT[1536]);
INSERT INTO embeddings (id, date, bits)
  SELECT vectors.id, mails.date, {levels("vectors.vector")}
  FROM vectors JOIN mails ON mails.id = vectors.id;
"""  # noqa: S608 - nothing in it comes from outside

MIGRATIONS = (
    _MAIL + journal.SCHEMA,
    troubles.SCHEMA,
    journal.TROUBLE,
    _NO_LANGUAGE,
    post.SCHEMA,
    _QUOTING,
    journal.DIGEST,
    post.PAUSE,
    _SEARCH,
    _NEAREST,
    _FINER,
    journal.REPORT,
)
