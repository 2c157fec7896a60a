"""The pictures taken out of documents, kept for as long as their version is."""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete, func, insert, select

from rag.database import Database, batches, figures, versions
from rag.domain import Chunk, Image
from rag.errors import NotFound


class Figures:
    """Encoded pictures by version and key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, version_id: str, images: Sequence[Image]) -> None:
        """Keep a version's pictures, in place of what an earlier try kept."""
        with self._database.write() as connection:
            connection.execute(delete(figures).where(figures.c.version_id == version_id))
            rows = {
                image.key: {
                    "version_id": version_id,
                    "key": image.key,
                    "media_type": image.media_type,
                    "data": image.data,
                }
                for image in images
            }
            if rows:
                connection.execute(insert(figures), list(rows.values()))

    def of_chunks(self, chunks: Sequence[Chunk]) -> Mapping[str, Image]:
        """The images of those of the chunks that are pictures, by chunk id."""
        found: dict[str, Image] = {}
        with self._database.read() as connection:
            for chunk in chunks:
                if chunk.figure is None:
                    continue
                row = connection.execute(
                    select(figures).where(figures.c.version_id == chunk.version_id, figures.c.key == chunk.figure)
                ).one_or_none()
                if row is not None:
                    found[chunk.id] = Image(row.media_type, row.data)
        return found

    def counts(self, version_ids: Sequence[str]) -> Mapping[str, int]:
        """How many pictures those versions have that have any."""
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for batch in batches(version_ids):
                rows = connection.execute(
                    select(figures.c.version_id, func.count().label("number"))
                    .where(figures.c.version_id.in_(batch))
                    .group_by(figures.c.version_id)
                )
                found.update((row.version_id, row.number) for row in rows)
        return found

    def image(self, chunk: Chunk) -> Image:
        """The image of a chunk that is a picture, kept as long as its document. Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(
                select(figures)
                .join(versions)
                .where(
                    figures.c.version_id == chunk.version_id,
                    figures.c.key == chunk.figure,
                    versions.c.status != "deleting",
                )
            ).one_or_none()
        if row is None:
            raise NotFound("This picture is no longer here: its document was removed.")
        return Image(row.media_type, row.data)
