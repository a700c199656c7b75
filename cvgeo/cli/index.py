"""`cvgeo index`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, chosen_format, print_listing, write_records

EXAMPLES = [
    ("cvgeo index tiles.h5", "a faiss index beside the store; the same call later brings it up to date"),
    ("cvgeo index tiles.h5 --check", "whether it is whole and up to date, and its recall against exact search"),
    ("cvgeo index tiles.h5 --kind milvus --milvus http://db:19530", "the rows in a Milvus cluster"),
    ("cvgeo search pano.jpg --store tiles.h5 --index faiss", "search by it"),
]
FILES = [
    ("STORE.faiss", "the index of faiss"),
    ("STORE.milvus.json", "which engine and collection hold the rows of the store"),
    ("STORE.milvus.db", "the embedded engine's data, where no other was named"),
]
ENVIRONMENT = [("CVGEO_MILVUS_TOKEN", "user:password or API key of a Milvus server; it is kept nowhere")]


class Kind(StrEnum):
    """What makes the index."""

    FAISS = "faiss"
    MILVUS = "milvus"


class Structure(StrEnum):
    """What kind of index faiss makes."""

    AUTO = "auto"
    HNSW = "hnsw"
    IVFPQ = "ivfpq"


Store = Annotated[str, typer.Argument(metavar="STORE", help="The store of embeddings; - takes embed's record.")]
Way = Annotated[
    Structure,
    typer.Option(
        "--structure",
        help="Of faiss: a graph (hnsw), or lists of quantised rows (ivfpq); auto takes a graph up to 200,000 rows.",
    ),
]
Pca = Annotated[
    int,
    typer.Option(min=0, metavar="N", help="Index only the N principal axes of the rows (faiss).", show_default="all"),
]
Uri = Annotated[
    str | None, typer.Option("--milvus", metavar="URI", help="A server, or a path of an embedded engine (milvus).")
]
Collection = Annotated[
    str | None, typer.Option(metavar="NAME", help="The engine's collection; named by the store by default (milvus).")
]
Check = Annotated[bool, typer.Option("--check", help="Change nothing: is it whole, up to date, and how well it finds.")]


STDIN = ("store",)


def index(
    store: Store,
    kind: Annotated[Kind, typer.Option(help="What makes the index.")] = Kind.FAISS,
    structure: Way = Structure.AUTO,
    pca: Pca = 0,
    milvus: Uri = None,
    collection: Collection = None,
    check: Check = False,
    overwrite: options.Overwrite = False,
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> int:
    """Build an approximate index of a store, or bring it up to date: rows that are new, changed or gone.

    An index names candidates, and their exact scores, from the store's own rows, put them in order. It can always be
    built again from the store. Searches refuse one that is of another state of the store.

    With --check nothing is changed: status 3 for an index that is missing or damaged, 4 for one of another state.
    """
    _check(kind, structure, pca, milvus, collection)
    from cvgeo.cli.stdin import reference_from
    from cvgeo.pipelines.index import IndexOptions, build_index, check_index

    wanted = IndexOptions(structure.value, pca, milvus, collection, overwrite)
    path = reference_from(store, "store")
    record = check_index(path, kind, wanted) if check else build_index(path, kind.value, wanted, reporter)
    if format is None and chosen_format(format, json) is options.OutputFormat.TABLE:
        print_listing(record)
    else:
        write_records([record], chosen_format(format, json))
    return 1


def _check(kind: Kind, structure: Structure, pca: int, milvus: str | None, collection: str | None) -> None:
    """Raise UsageError for what makes no sense, before anything heavy is imported."""
    from cvgeo.errors import UsageError

    if kind is Kind.FAISS and (milvus or collection):
        raise UsageError("--milvus and --collection are for --kind milvus", mend="add --kind milvus")
    if kind is Kind.MILVUS and (pca or structure is not Structure.AUTO):
        raise UsageError("--structure and --pca are for --kind faiss", mend="leave them out")
