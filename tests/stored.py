"""What MongoDB holds, byte by byte: to see that a refused request changed nothing, and that no secret got there."""

from __future__ import annotations

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from loadbench.store import Store

_RAW = CodecOptions(document_class=RawBSONDocument)


def contents(store: Store) -> dict[str, list[bytes]]:
    """Give the BSON of every document by the name of its collection; empty collections are left out."""
    names = store.database.list_collection_names()
    found = {
        name: sorted(document.raw for document in store.database.get_collection(name, _RAW).find()) for name in names
    }
    return {name: documents for name, documents in found.items() if documents}
